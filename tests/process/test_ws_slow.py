"""Clients that do not read: nobody else waits for them, what they cost is limited, and who may be told less is."""

import json
import os
import selectors
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bus.book import Book
from tests.process.exchange import PATIENCE_S, Running, free_ports
from tests.process.test_kill import ASSETS
from tests.process.test_market import MARKET, Varied
from tests.process.ws_client import CLOSE, TEXT, RawClient, connected, gateway, metrics, trading

CROWD_COUNT = 999
TRADE_S = 3.0
PROMPT_S = 5.0  # from a deal to its being told: loosely, beside the minute that a waiting server would make of it
BUFFER_SIZE = 1 << 16  # the least setting of send_buffer_max_size
RECEIVE_BUFFER_SIZE = 4096  # of the system, for who does not read
CALM_S = 1.0
GROWTH_MAX_SIZE = 200 << 20  # of the process with a thousand clients
POLICY = 1008
LEFT_OUT_COUNT = 200
DEPTH_COUNT = 100
DAY_S = 86_400
LATE_MAX_S = 0.5  # half of what a question to market data may take
USER = 7


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    (port,) = free_ports(1)
    ws = {
        "connection_per_address_max": 10_000,
        "send_buffer_max_size": BUFFER_SIZE,
        "slow_timeout_s": 20,
        "metrics_bind": f"127.0.0.1:{port}",
    }
    with gateway(tmp_path, ws=ws) as started:
        yield started


class Crowd(threading.Thread):
    """Many clients that read all that comes; one thread."""

    def __init__(self, running: Running, count: int) -> None:
        super().__init__()
        self.clients = [RawClient(running.settings.ws.bind) for _ in range(count)]
        self.ids: list[list[int]] = [[] for _ in self.clients]  # of the deals that each was told, oldest first
        self.latest_s = 0.0  # the longest that a deal was on its way
        self._is_over = threading.Event()

    def subscribe(self) -> None:
        for client in self.clients:
            client.send("deals.subscribe", MARKET)
            client.wait_frames(lambda _, payload: b"success" in payload)

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for place, client in enumerate(self.clients):
                selector.register(client.socket, selectors.EVENT_READ, place)
            while not self._is_over.is_set():
                for key, _ in selector.select(0.05):
                    self._take(key.data)

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        for client in self.clients:
            client.close()

    def _take(self, place: int) -> None:
        for opcode, payload in self.clients[place].frames():
            if opcode != TEXT or not payload.startswith(b'{"method": "deals.update"'):
                continue
            deals = json.loads(payload)["params"][1][::-1]
            self.ids[place] += [deal["id"] for deal in deals]
            self.latest_s = max(self.latest_s, time.time() - deals[0]["time"])


def stuck(running: Running, method: str, *params: Any, user_id: int = 0) -> RawClient:
    """A client that subscribes and never reads again."""
    client = RawClient(running.settings.ws.bind, receive_buffer_size=RECEIVE_BUFFER_SIZE)
    if user_id:
        client.send("server.auth", f"user-{user_id}", "web")
        client.wait_frames(lambda _, payload: b"success" in payload)
    client.send(method, *params)
    client.wait_frames(lambda _, payload: b"success" in payload)
    return client


def memory(running: Running) -> int:
    return int(psutil.Process(running.pid("ws-0")).memory_info().rss)


def wait_for(running: Running, name: str, value: float) -> None:
    """Wait until a metric has a value."""
    deadline = time.monotonic() + PATIENCE_S
    while metrics(running)[name] < value:
        assert time.monotonic() < deadline, metrics(running)
        time.sleep(0.05)


BUFFER_CLOSED = 'ws_closed_total{limit="send_buffer_max_size"}'


@pytest.mark.timeout(240)
def test_one_client_of_a_thousand_that_does_not_read_holds_up_nobody(running: Running) -> None:
    crowd = Crowd(running, CROWD_COUNT)
    crowd.subscribe()
    idle = stuck(running, "deals.subscribe", MARKET)
    before = memory(running)
    crowd.start()
    load, largest = Varied(seed=31), 0
    with running.client() as bus:
        load.fund(bus, ASSETS)
        end = time.monotonic() + TRADE_S
        while time.monotonic() < end:
            turn_end = time.monotonic() + 0.02
            load.run(bus, lambda end=turn_end: time.monotonic() > end)  # type: ignore[misc]
            largest = max(largest, memory(running) - before)
            time.sleep(0.1)
        load.settle(bus)
    running.wait_stored("market")
    wanted = [deal["id"] for deal in running.call("market.deals", MARKET, 10_000, 0)][::-1]
    deadline = time.monotonic() + PATIENCE_S
    while any(ids[-1:] != wanted[-1:] for ids in crowd.ids) and time.monotonic() < deadline:
        time.sleep(0.05)
    crowd.stop()
    assert not [place for place, ids in enumerate(crowd.ids) if ids != wanted]
    assert len(wanted) > 100
    assert crowd.latest_s < PROMPT_S
    assert largest < GROWTH_MAX_SIZE
    idle.close()


@pytest.mark.parametrize(
    ("method", "params"),
    [("deals.subscribe", [MARKET]), ("order.subscribe", [MARKET]), ("order.subscribe", [MARKET, {}])],
    ids=["deals", "orders", "orders with numbers"],
)
def test_who_does_not_read_what_must_all_be_told_is_closed(running: Running, method: str, params: list[Any]) -> None:
    client = stuck(running, method, *params, user_id=USER)
    before = memory(running)
    with trading(running, seed=32):
        wait_for(running, BUFFER_CLOSED, 1)
        time.sleep(CALM_S)  # in which it is given time to take part in closing
        grown = memory(running) - before
        frames = client.wait_frames(lambda opcode, _: opcode == CLOSE)
    assert frames[-1][0] == CLOSE
    assert struct.unpack("!H", frames[-1][1][:2])[0] == POLICY
    assert frames[-1][1][2:]
    client.close()
    wait_for_none(running)
    assert grown < 30 << 20


def wait_for_none(running: Running) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while metrics(running)["ws_connections"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_never_reads_again_is_dropped(running: Running) -> None:
    client = stuck(running, "deals.subscribe", MARKET)
    with trading(running, seed=33):
        wait_for(running, BUFFER_CLOSED, 1)
        wait_for_none(running)
    client.close()


CONFLATED: list[tuple[Any, ...]] = [
    ("depth.subscribe", MARKET, DEPTH_COUNT, "0"),
    ("book.subscribe", MARKET, DEPTH_COUNT),
    ("price.subscribe", MARKET),
    ("state.subscribe", MARKET),
    ("today.subscribe", MARKET),
    ("kline.subscribe", MARKET, DAY_S),
]


def test_who_does_not_read_what_may_be_left_out_is_told_the_newest_when_it_reads_again(running: Running) -> None:
    client = stuck(running, *CONFLATED[0])
    for request in CONFLATED[1:]:
        client.send(*request)
    with trading(running, seed=34):
        wait_for(running, "ws_conflated_total", LEFT_OUT_COUNT)
    running.wait_stored("market")
    time.sleep(CALM_S)
    assert metrics(running)[BUFFER_CLOSED] == 0
    depth = running.call("order.depth", MARKET, DEPTH_COUNT, "0")
    wanted = {
        "depth": [True, depth, MARKET],
        "book": [[*map(tuple, depth["asks"])], [*map(tuple, depth["bids"])]],
        "price": [MARKET, running.call("market.last", MARKET)],
        "state": [MARKET, running.call("market.status", MARKET, DAY_S)],
        "today": [MARKET, running.call("market.status_today", MARKET)],
    }
    book, told = Book(), dict[str, Any]()
    deadline = time.monotonic() + PATIENCE_S
    while told != wanted and time.monotonic() < deadline:
        for message in (json.loads(payload) for opcode, payload in client.frames() if opcode == TEXT):
            channel, _, kind = message.get("method", "").partition(".")
            if channel == "book":
                book.apply(message["params"][1])  # raises OutOfStep when one is missing
                told["book"] = [book.asks, book.bids]
            elif kind == "update" and channel != "kline":
                told[channel] = message["params"]
        time.sleep(0.02)
    client.close()
    assert told == wanted


def test_deals_go_on_while_market_data_hangs_and_somebody_asks_it_for_another_market(tmp_path: Path) -> None:
    """A question that is not answered for a second must not hold up what needs no answer."""
    with gateway(tmp_path) as running, connected(running) as client, connected(running) as other:
        pid = running.pid("market")
        client.call("deals.subscribe", MARKET)
        client.call("price.subscribe", MARKET)
        with trading(running, seed=35):
            client.wait(lambda: len(client.told) > 20)
            os.kill(pid, signal.SIGSTOP)
            try:
                other.call("deals.subscribe", "ETHUSD", "ETHBTC")
                latest_s, end = 0.0, time.monotonic() + TRADE_S
                while time.monotonic() < end:
                    client.told.clear()
                    client.look(0.05)
                    for _, deals in client.of("deals.update"):
                        latest_s = max(latest_s, time.time() - deals[-1]["time"])
            finally:
                os.kill(pid, signal.SIGCONT)
    assert latest_s < LATE_MAX_S
