"""The admin port, compared with what was recorded from the original after the same calls (tests/golden/side-31).

Only the order of lines is free where the original's comes of a hash.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden import player
from tests.process.admin_client import AdminClient, admin
from tests.process.exchange import Running, exchange, free_ports

[CALLS] = player.files("side")
ROWS = [json.loads(line) for line in (CALLS.parent / "side-31" / "admin.jsonl").read_text().splitlines()]
HASH_ORDER = ("balance list",)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    """A connection to an exchange that was asked what the original was asked before."""
    folder: Path = tmp_path_factory.mktemp("golden-admin")
    bind = f"127.0.0.1:{free_ports(1)[0]}"
    with exchange(folder, listing=player.listing(CALLS), admin={"bind": bind}) as running:
        play(running)
        with admin(bind) as client:
            yield client


def play(running: Running) -> None:
    host, _, port = running.settings.http.bind.rpartition(":")

    def wait() -> None:
        running.wait_stored(*running.settings.consumers)

    assert list(player.play(CALLS, host, int(port), wait))
    wait()


def test_all_commands_were_recorded() -> None:
    assert len(ROWS) == 12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["command"].replace(" ", "-"))
def test_the_answer_is_the_recorded_one(client: AdminClient, row: dict[str, str]) -> None:
    got, wanted = client.ask(row["command"]), row["reply"]
    if row["command"].startswith(HASH_ORDER):
        head = wanted.splitlines()[0]
        assert got.splitlines()[0] == head
        got, wanted = ("\n".join(sorted(text.split("\n"))) for text in (got, wanted))
    assert got == wanted
