"""Conversations recorded from ViaBTC Exchange Server, played to a fresh exchange over HTTP: the replies are the same
bytes (tests/golden/player.py). No call is treated apart from the others of its method.
"""

from pathlib import Path

import pytest

from bus.methods import METHODS, Backend
from tests.golden import player
from tests.golden.player import Answer, Call
from tests.process.exchange import exchange

WHOLE = player.files("basics", "limits", "markets", "cancels")
FUZZED = player.files("fuzz")
NOT_CONNECTED = Answer(500, "")  # what ViaBTC's gateway answers while a method's service is away
SHOWN_COUNT = 10
# A conversation was recorded in less time than the original reuses a depth (0.45 s), so its later depths are reused
# ones. A busy machine, whose disk is asked before every reply, may take longer to play it.
DEPTH_CACHE_MS = 10_000


def played(path: Path, folder: Path) -> list[Call]:
    with exchange(folder, listing=player.listing(path), http={"depth_cache_ms": DEPTH_CACHE_MS}) as running:
        host, _, port = running.settings.http.bind.rpartition(":")
        return list(player.play(path, host, int(port)))


def told(calls: list[Call], path: Path) -> str:
    return f"{len(calls)} replies of {path.name} differ:\n" + "\n".join(map(str, calls[:SHOWN_COUNT]))


def is_absent(call: Call) -> bool:
    """Whether the method's service does not exist yet."""
    method = METHODS.get(call.method)
    return method is not None and method.backend in (Backend.HISTORY, Backend.MARKET)


def test_there_is_something_to_play() -> None:
    assert len(WHOLE) >= 8
    assert len(FUZZED) >= 2


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_every_reply_is_the_recorded_one(path: Path, tmp_path: Path) -> None:
    calls = played(path, tmp_path)
    different = [call for call in calls if not call.agrees]
    assert calls
    assert not different, told(different, path)


@pytest.mark.parametrize("path", FUZZED, ids=lambda path: path.stem)
def test_nonsense_is_answered_as_recorded_by_every_method_that_has_a_service(path: Path, tmp_path: Path) -> None:
    calls = played(path, tmp_path)
    different = [call for call in calls if not is_absent(call) and not call.agrees]
    assert not different, told(different, path)
    absent = [call for call in calls if is_absent(call)]
    assert absent
    assert {call.got for call in absent} == {NOT_CONNECTED}
