"""The history of a whole exchange: what was traded is there, once, whoever is killed and whatever is down meanwhile.

PIT_KILLS says how often something is killed.
"""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bus.eventlog import Reader
from bus.messages import COMMAND, DETAIL_MAX, CommandKind
from conf.settings import Settings
from supervisor.bench.mariadb import MariaDb
from tests.persist.mariadb import emptied
from tests.process.accounts import check_history
from tests.process.exchange import PATIENCE_S, POLL_S, Answer, Running, exchange
from tests.process.load import Load
from tests.process.test_kill import ASSETS, OFTEN, Killer

KILL_COUNT = int(os.environ.get("PIT_KILLS", "6"))
LOAD_S = 0.3  # about, before each kill
SOME_ORDERS = 1_000
INTERNAL_ERROR = {"code": 2, "message": "internal error"}
RATES = ("0.002", "0.001")
VICTIMS = ("recorder", "history-0", "matcher")
STORES = ("sqlite", "mysql")
ROWS_A_TRADE = 2 + 2 + (2 + 3 + 3)  # orders, sides of the deal, changes of balances


@pytest.fixture
def store(mysql_settings: Settings) -> str:
    """The setting of an empty history in MariaDB."""
    return mysql_settings.history.store


@pytest.fixture(params=STORES)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """An exchange with each of the stores."""
    sections: dict[str, Any] = {"supervisor": OFTEN}
    if request.param == "mysql":
        sections["history"] = {"store": request.getfixturevalue("store")}
    with exchange(tmp_path, **sections) as started:
        yield started


def until(what: Callable[[], Any], running: Running) -> Any:
    """Wait until `what` is not false; its value."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, f"it did not come to that; {running.alerts()}{running.logs()}"
        time.sleep(POLL_S)
    return found


def trade(running: Running, business_id: int) -> int:
    """Two orders that finish each other; the id of the first."""
    running.call("balance.update", 1, "BTC", "deposit", business_id, "10", {"n": business_id})
    running.call("balance.update", 2, "USD", "deposit", business_id, "100000", {})
    order = running.call("order.put_limit", 1, "BTCUSD", 1, "2", "8000", *RATES, "maker")
    running.call("order.put_limit", 2, "BTCUSD", 2, "2", "8100", *RATES, "taker")
    return int(order["id"])


def finished(running: Running, order_id: int) -> Answer | None:
    """The whole reply about a finished order, once there is one that is neither null nor an error."""
    with suppress(OSError, AssertionError):  # a gateway that can't ask anybody answers without a body
        reply = running.ask("order.finished_detail", order_id)
        return reply if reply["result"] else None
    return None


class Traffic:
    """Load on the bus from a thread of its own, for as long as the block lasts; each command is accepted."""

    def __init__(self, running: Running, load: Load) -> None:
        self._running = running
        self._load = load
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            with self._running.client() as client:
                self._load.run(client, self._over.is_set)
        except BaseException as error:
            self.error = error


@contextmanager
def loaded(running: Running, seed: int) -> Iterator[Load]:
    """Funded traffic."""
    load = Load(seed)
    with running.client() as client:
        load.fund(client, ASSETS)
    with Traffic(running, load):
        yield load


def test_what_was_traded_is_answered(running: Running) -> None:
    order_id = trade(running, 1)
    order = until(lambda: finished(running, order_id), running)["result"]
    assert (order["source"], order["deal_money"], order["deal_fee"]) == ("maker", "16000", "16")
    assert order == running.call("order.finished", 1, "BTCUSD", 0, 0, 0, 10)["records"][0]
    [deal] = running.call("order.deals", order_id, 0, 10)["records"]
    assert (deal["user"], deal["role"], deal["fee"]) == (1, 1, "16")
    assert running.call("market.user_deals", 2, "BTCUSD", 0, 10)["records"][0]["fee"] == "0.004"
    fee, stock, deposit = running.call("balance.history", 2, "", "", 0, 0, 0, 3)["records"][0:3]
    assert (fee["change"], stock["change"], deposit["change"]) == ("-0.004", "2", "-16000")
    [deposit] = running.call("balance.history", 1, "", "deposit", 0, 0, 0, 10)["records"]
    assert deposit["detail"] == {"n": 1, "id": 1}
    assert check_history(running) == ROWS_A_TRADE


def test_any_number_of_history_processes_take_turns(tmp_path: Path) -> None:
    with exchange(tmp_path, history={"processes": 3}) as running:
        order_id = trade(running, 1)
        running.wait_stored("recorder")
        found = [running.call("order.finished_detail", order_id) for _ in range(6)]
        assert all(order == found[0] and order["id"] == order_id for order in found)
        os.kill(running.pid("history-1"), signal.SIGKILL)
        for _ in range(6):
            until(lambda: finished(running, order_id), running)


def test_a_file_that_was_removed_is_made_again_from_the_first_event_on(tmp_path: Path) -> None:
    with exchange(tmp_path) as running:
        trade(running, 1)
        running.wait_stored("recorder")
        for path in running.settings.data_dir.glob(f"{running.settings.paths.history_file.name}*"):
            path.unlink()
        order_id = trade(running, 2)
        assert check_history(running) == 2 * ROWS_A_TRADE
        until(lambda: finished(running, order_id), running)


@pytest.mark.timeout(90 + 10 * KILL_COUNT)
def test_no_row_is_lost_or_doubled_whoever_is_killed(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    load, draw = Load(seed=5), random.Random(5)
    with running.client() as client:
        load.fund(client, ASSETS)
    order_id = trade(running, 10**9)
    victims = [VICTIMS[turn % len(VICTIMS)] for turn in range(KILL_COUNT)]
    draw.shuffle(victims)
    for victim in victims:
        with running.client() as client:
            pid = until(partial(running.pid, victim), running)
            killer = Killer(pid, LOAD_S * (0.5 + draw.random()))
            load.run(client, killer.is_done)
            until(lambda: finished(running, order_id), running)
        load.lose()
    row_count = check_history(running)
    with capsys.disabled():
        print(f"\n{len(victims)} kills, {len(load.order_ids):,} orders acknowledged, {row_count:,} rows, each once")
    assert len(load.order_ids) > 0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_trading_goes_on_while_the_store_is_down_and_all_of_it_follows(
    end: str, tmp_path: Path, store: str, mariadb: MariaDb
) -> None:
    with exchange(tmp_path, history={"store": store}) as running:
        order_id = trade(running, 1)
        until(lambda: finished(running, order_id), running)
        with loaded(running, seed=7) as load:
            until(lambda: len(load.order_ids) > SOME_ORDERS, running)  # something is just being written
            getattr(mariadb, end)()
            try:
                until(lambda: "nothing is stored in the history" in running.alerts(), running)
                assert running.ask("order.finished_detail", order_id)["error"] == INTERNAL_ERROR
                until(lambda: running.status()["recorder"]["behind_count"] > 0, running)
                assert {row["state"] for row in running.status().values()} == {"ready"}
            finally:
                mariadb.start()
            until(lambda: finished(running, order_id), running)
        assert check_history(running) > 0
        assert running.alerts().count("nothing is stored in the history") == 1
        until(lambda: "the history is stored again" in running.alerts(), running)


def test_events_that_the_log_dropped_meanwhile_come_from_the_journal(
    tmp_path: Path, store: str, mariadb: MariaDb
) -> None:
    short = {"keep_segments_count": 1, "backlog_segments_count": 1, "segment_size": 4 << 20}
    with exchange(tmp_path, history={"store": store}, events=short) as running:
        trade(running, 1)
        stored = running.wait_stored("recorder")
        mariadb.stop()
        try:
            for turn in range(24):
                deposit(running, 100, first_id=1_000 * (turn + 1))
                trade(running, turn + 2)
            assert Reader(running.settings.paths.events_dir).first_number > stored + 1
        finally:
            mariadb.start()
        assert check_history(running) > 2_400


def deposit(running: Running, count: int, first_id: int) -> None:
    """Deposits with details so large that they fill the event log."""
    commands = np.zeros(count, COMMAND)
    commands["kind"], commands["user_id"] = CommandKind.UPDATE_BALANCE, 3
    commands["subject_id"] = first_id + np.arange(count)
    commands["change_units"] = (1, 0)
    commands["detail_offset"] = np.arange(count) * DETAIL_MAX
    commands["detail_size"] = DETAIL_MAX
    detail = b'{"text": "%s"}' % bytes(ord("a") + first_id % 26 for _ in range(DETAIL_MAX - 12))
    with running.client() as client:
        client.send(commands, detail * count)
        assert not client.receive(timeout_ms=PATIENCE_S * 1000).records["code"].any()


def test_a_store_that_refuses_us_stops_nothing_and_a_mended_setting_does(
    tmp_path: Path, store: str, mariadb: MariaDb
) -> None:
    wrong = store.replace(mariadb.password, "wrong")
    with exchange(tmp_path, history={"store": wrong}) as running:
        order_id = trade(running, 1)
        assert running.ask("order.finished_detail", order_id)["error"] == INTERNAL_ERROR
        until(lambda: "check user and password" in running.alerts(), running)
        assert mariadb.password not in running.alerts()
        running.conf_file.write_text(running.conf_file.read_text().replace(wrong, store))
        for name in ("recorder", "history-0"):
            running.pit("restart", name)
        until(lambda: finished(running, order_id), running)
        assert check_history(running) == ROWS_A_TRADE


def test_the_history_of_an_exchange_whose_data_folder_was_emptied_is_left_alone(
    tmp_path: Path, mysql_settings: Settings
) -> None:
    with exchange(tmp_path, history={"store": mysql_settings.history.store}) as running:
        trade(running, 1)
        stored_number = running.wait_stored("recorder")
        running.pit("down")
        shutil.rmtree(running.settings.data_dir)
        running.pit("up", "--detach")
        trade(running, 1)
        order_id = trade(running, 2)
        until(lambda: "that is not this exchange's" in running.alerts(), running)
        assert f"event {stored_number:,}" in running.alerts()
        assert running.status()["recorder"]["behind_count"] is None
        assert finished(running, order_id) is None
        emptied(mysql_settings)
        until(lambda: finished(running, order_id), running)
        assert check_history(running) == 2 * ROWS_A_TRADE
