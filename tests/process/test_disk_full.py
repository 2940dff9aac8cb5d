"""A full disk under a running exchange: code 3, an alert that says why, nothing lost; with room again it goes on.

On a disk without a single byte left nobody ends either, though no log can be written.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.client import Client
from bus.codes import Code
from conf.operations import MIB
from conf.paths import Paths
from tests.engine.opened import all_accepted, deposits, puts
from tests.process.accounts import check_history
from tests.process.exchange import exchange
from tests.process.load import Load
from tests.process.test_kill import ASSETS

DISK_SIZE = 96 * MIB
LEFT_SIZE = MIB // 4  # too little for a segment
FRAMES_MAX = 1000
REPLY_TIMEOUT_MS = 60_000
DEADLINE_S = 60.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, in memory. Alerts go elsewhere: stores would take the room that was left for one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        alerts = Paths(folder / "exchange" / "data", "").alerts_file
        alerts.parent.mkdir(parents=True)
        alerts.symlink_to(tmp_path / alerts.name)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path, left_size: int = LEFT_SIZE) -> Path:
    """Take all room but so much."""
    ballast = folder / "ballast"
    with ballast.open("ab") as file:
        while (spare := room(folder) - left_size) > 0:
            # The matcher may take the same room for its next segment meanwhile: then see what is left.
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), spare)
    return ballast


def room(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def put_until_refused(client: Client, last: int, frame_count: int) -> int:
    """Send frames of so many orders until one is refused as a whole; return the last accepted order's id."""
    for _ in range(FRAMES_MAX):
        client.send(puts(frame_count))
        results = client.receive(REPLY_TIMEOUT_MS).records
        if (results["code"] == Code.SERVICE_UNAVAILABLE).all():
            return last
        assert all_accepted(results)
        assert results["order"]["id"].tolist() == list(range(last + 1, last + frame_count + 1))
        last += frame_count
    raise AssertionError(f"never refused, {last} orders")


def test_a_full_disk_stops_orders_and_room_lets_them_go_on(small_disk: Path) -> None:
    with exchange(small_disk / "exchange") as running, running.client() as client:
        client.send(deposits())
        assert all_accepted(client.receive(REPLY_TIMEOUT_MS).records)
        ballast = fill_up(small_disk)
        last = put_until_refused(client, 0, 100)
        last = put_until_refused(client, last, 2)  # what is left of a segment still takes small batches
        assert running.ask("order.cancel", 1, "BTCUSD", 1)["error"]["code"] == 3
        assert running.call("market.summary", "BTCUSD")[0]["ask_count"] == 0, "reading goes on"
        alerts = [json.loads(line) for line in running.settings.paths.alerts_file.read_text().splitlines()]
        assert any(alert["process"] == "matcher" and "No space left" in alert["text"] for alert in alerts), alerts

        ballast.unlink()
        deadline = time.monotonic() + DEADLINE_S
        while (reply := running.ask("balance.update", 1, "USD", "more", 2, "1", {}))["error"]:
            assert reply["error"]["code"] == 3
            assert time.monotonic() < deadline, running.logs()
        order = running.call("order.put_limit", 1, "BTCUSD", 1, "0.01", "200", "0.002", "0.001", "")
        assert order["id"] == last + 1
        running.pit("restart", "matcher")
        assert running.call("order.pending_detail", "BTCUSD", order["id"])["id"] == order["id"]


def test_without_a_byte_left_nobody_ends_and_all_of_it_is_stored_later(small_disk: Path) -> None:
    with exchange(small_disk / "exchange") as running, running.client() as client:
        load = Load(seed=9)
        load.fund(client, ASSETS)
        running.wait_stored(*running.settings.consumers)
        before = {name: row["pid"] for name, row in running.status().items()}
        ballast = fill_up(small_disk, 0)
        with pytest.raises(AssertionError, match="3 3 3"):  # all refused with code 3, after some seconds of trading
            load.run(client, lambda: fill_up(small_disk, 0) != ballast)  # again and again: some is given free meanwhile
        assert {name: row["pid"] for name, row in running.status().items()} == before, running.logs()
        assert running.status()["recorder"]["behind_count"] > 0
        ballast.unlink()
        running.wait_stored(*running.settings.consumers)
        assert check_history(running) > 0
        assert {name: row["pid"] for name, row in running.status().items()} == before, running.logs()
