"""kill -9 of every process under load: what was answered is there, nothing happens twice, and it is back soon.

PIT_KILLS says how often the matcher is killed.
"""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import posix_ipc
import psutil
import pytest

from bus.client import Client, NoAnswer
from bus.endpoints import address
from engine import snapshot
from engine.exchange import Exchange
from supervisor import lock
from tests.process.exchange import Running, exchange
from tests.process.load import DEPOSITOR, Load

KILL_COUNT = int(os.environ.get("PIT_KILLS", "8"))
LOAD_S = 1.2  # longer than restart_window_s: for the supervisor each end is the first in a row
BACK_MAX_S = 10.0  # loosely; what it was is printed
PATIENCE_S = 60.0
POLL_MS = 20
OFTEN = {"restart_count_max": 1000, "restart_window_s": 1.0}
ASSETS = (0, 1)  # USD and BTC, those of the first market

Content = dict[str, Any]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with exchange(tmp_path, supervisor=OFTEN) as started:
        yield started


def connect(running: Running) -> Client:
    settings = running.settings
    return Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))


class Killer:
    """Ends a process the hard way, after a while, in the middle of whatever it is doing then."""

    def __init__(self, pid: int, after_s: float) -> None:
        self.done_at = 0.0
        self._pid = pid
        threading.Timer(after_s, self._kill).start()

    def is_done(self) -> bool:
        return self.done_at > 0

    def _kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self.done_at = time.monotonic()


def seconds_until_back(running: Running, begin: float) -> float:
    """How long after `begin` the matcher answers."""
    while time.monotonic() < begin + PATIENCE_S:
        with connect(running) as client, suppress(NoAnswer):
            client.ping(timeout_ms=POLL_MS)
            return time.monotonic() - begin
    raise AssertionError(f"the matcher is not back{running.logs()}")


def content(running: Running) -> Content:
    """All that the exchange holds, from a snapshot made now; its audit holds."""
    running.pit("snapshot")
    return saved_content(running)


def saved_content(running: Running) -> Content:
    """The same from the newest snapshot that there is."""
    saved, faults = snapshot.newest(running.settings.paths.snapshots_dir)
    assert saved is not None
    assert not faults
    Exchange.restore(saved.listing, saved.content).audit()
    return saved.content


def balance_units(saved: Content, user_id: int) -> int:
    """The available balance of a user with one asset."""
    row = saved["balances"][saved["balances"]["user_id"] == user_id]
    return int(row["available_units"][0][0]) if len(row) else 0


def check(load: Load, saved: Content) -> None:
    """Whatever was acknowledged is so, and nothing happened twice."""
    found = {int(order["id"]): order.tobytes() for order in saved["orders"]}
    assert not [order_id for order_id, order in load.resting.items() if found.get(order_id) != order]
    assert not load.gone & found.keys()
    assert len(set(load.order_ids)) == len(load.order_ids)
    assert max(load.order_ids) <= int(saved["counters"]["order_id"][0])
    deposited = balance_units(saved, DEPOSITOR) // 10 ** (20 - 8)
    assert load.deposited_count <= deposited <= load.asked_count


@pytest.mark.timeout(60 + 15 * KILL_COUNT)
def test_a_killed_matcher_has_all_that_it_answered(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    load, draw = Load(seed=1), random.Random(1)
    with connect(running) as client:
        load.fund(client, ASSETS)
    back_s = []
    for _ in range(KILL_COUNT):
        with connect(running) as client:
            killer = Killer(running.pid("matcher"), LOAD_S + draw.random() / 10)
            load.run(client, killer.is_done)
            back_s.append(seconds_until_back(running, killer.done_at))
        load.lose()
        check(load, content(running))
    with capsys.disabled():
        print(
            f"\n{KILL_COUNT} kills, {len(load.order_ids):,} orders acknowledged;"
            f" back after {np.median(back_s):.3f} s (median), {max(back_s):.3f} s (longest)"
        )
    assert load.gone
    assert load.resting
    assert max(back_s) < BACK_MAX_S


def test_the_journal_alone_brings_everything_back(running: Running) -> None:
    load = Load(seed=2)
    with connect(running) as client:
        load.fund(client, ASSETS)
        end = time.monotonic() + LOAD_S
        load.run(client, lambda: time.monotonic() > end)
    running.pit("down")
    paths = running.settings.paths
    before = saved_content(running)
    shutil.rmtree(paths.snapshots_dir)
    forget_memory(paths.state_name)
    running.pit("up", "--detach")
    after = content(running)
    assert before.keys() == after.keys()
    assert not [name for name in before if not np.array_equal(before[name], after[name])]
    check(load, after)


def test_a_killed_http_worker_is_back_and_clients_see_only_a_pause(running: Running) -> None:
    running.call("balance.update", 1, "BTC", "deposit", 1, "10", {})
    worker = running.pid("http")
    families = [worker, *(child.pid for child in psutil.Process(worker).children(recursive=True))]
    for pid in families:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert running.call("balance.query", 1, "BTC") == {"BTC": {"available": "10", "freeze": "0"}}
            break
        except OSError:
            assert time.monotonic() < deadline, running.logs()
            time.sleep(POLL_MS / 1000)
    assert running.ask("balance.update", 1, "BTC", "deposit", 1, "10", {})["error"]["message"] == "repeat update"


def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_recovers(running: Running) -> None:
    running.call("balance.update", 1, "BTC", "deposit", 1, "10", {})
    children = [psutil.Process(running.pid(name)) for name in ("matcher", "http")]
    (supervisor,) = {child.ppid() for child in children}
    os.kill(supervisor, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, PATIENCE_S)
    assert not alive
    assert lock.wait_free(running.settings.paths, PATIENCE_S)
    running.pit("up", "--detach")
    assert running.call("balance.query", 1, "BTC") == {"BTC": {"available": "10", "freeze": "0"}}


def forget_memory(name: str) -> None:
    """Remove the matcher's shared memory, if it left any."""
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return
