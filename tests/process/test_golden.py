"""Conversations recorded from ViaBTC Exchange Server, played to a fresh exchange over HTTP: the replies are the same
bytes (tests/golden/player.py). No call is treated apart from the others of its method.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.golden import player
from tests.golden.player import Call
from tests.process.exchange import exchange

RECORDED = player.files("basics", "limits", "markets", "cancels", "history", "side", "fuzz")
SHOWN_COUNT = 10
# A conversation was recorded in less time than the original reuses a depth (0.45 s), so its later depths are reused
# ones. A busy machine, whose disk is asked before every reply, may take longer to play it.
DEPTH_CACHE_MS = 10_000


def played(path: Path, folder: Path, **sections: Any) -> list[Call]:
    listing = player.listing(path)
    with exchange(folder, listing=listing, http={"depth_cache_ms": DEPTH_CACHE_MS}, **sections) as running:
        host, _, port = running.settings.http.bind.rpartition(":")
        return list(player.play(path, host, int(port), lambda: running.wait_stored(*running.settings.consumers)))


def told(calls: list[Call], path: Path) -> str:
    return f"{len(calls)} replies of {path.name} differ:\n" + "\n".join(map(str, calls[:SHOWN_COUNT]))


def check(calls: list[Call], path: Path) -> None:
    """Every reply is the recorded one."""
    different = [call for call in calls if not call.agrees]
    assert calls
    assert not different, told(different, path)


def test_there_is_something_to_play() -> None:
    assert len(RECORDED) >= 13


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_reply_is_the_recorded_one(path: Path, tmp_path: Path) -> None:
    check(played(path, tmp_path), path)
