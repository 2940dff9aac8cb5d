"""Books and depth as clients keep them, while orders rest, trade, are cancelled, and the matcher is killed: in the end
they are what order.depth answers, and on the way no client takes a book for good that is another than the server's.
"""

import json
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from bus.bookclient import Follower, Step, monotonic_ms
from bus.client import Client as BusClient
from bus.messages import CommandKind, Records, Side
from tests.process.exchange import PATIENCE_S, Running, free_ports
from tests.process.load import FRAME_COUNT
from tests.process.test_kill import OFTEN, Killer
from tests.process.test_market import RATES, Varied, pid_of
from tests.process.ws_client import LOOK_S, Client, connected, gateway, metrics

ASSETS = (0, 1, 2)
TRADED = ("BTCUSD", "ETHUSD")  # the first two of the listing
QUIET = "ETHBTC"
USER = 1
LIMITS = {"BTCUSD": 100, "ETHUSD": 7, QUIET: 1}  # of books
INTERVAL_MS = 20  # from one message to the next
WINDOWS = [
    ("BTCUSD", 1, "0"),
    ("BTCUSD", 5, "0"),
    ("BTCUSD", 10, "10"),
    ("BTCUSD", 100, "0"),
    ("ETHUSD", 20, "0.5"),
    ("ETHUSD", 5, "25"),
    ("ETHUSD", 50, "0.00"),
    (QUIET, 10, "0"),
]
KILL_COUNT = 2
TRADE_S = 1.2  # until the matcher is killed
LOSS = 0.08  # of what goes either way
CLOCK_SPEED = 10  # of a client that loses messages: it asks again sooner
RENEW_S = 0.15
CALM_S = 1.5  # in which clients come to hold the newest, nearly always
SIDES = ("asks", "bids")

Levels = list[list[str]]  # price and amount, best first
Sides = dict[str, Levels]


class Held(NamedTuple):
    """What a client holds, and the params of the same question to order.depth."""

    params: tuple[str, int, str]
    sides: Sides | None  # None: it knows that it has nothing


class Books(Varied):
    """Load in several markets. Where resting orders are nothing trades, so all of them are there to be cancelled."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._market_of: dict[int, int] = {}

    def _rest(self, client: BusClient) -> None:
        commands = self._puts()
        away = self._draw.integers(110, 220, FRAME_COUNT) * 10**8
        commands["price_units"] += np.where(commands["side"] == Side.BID, -away, away)
        self._send(client, commands, self._note_resting)

    def _puts(self) -> Records:
        commands = super()._puts()
        commands["market"] = self._draw.integers(len(TRADED), size=FRAME_COUNT)
        commands["price_units"] += self._draw.integers(4, size=FRAME_COUNT) * 25 * 10**6
        return commands

    def _send(self, client: BusClient, commands: Records, note: Callable[[Records, Records], None]) -> None:
        if len(commands) and commands["kind"][0] == CommandKind.CANCEL:
            commands["market"] = [self._market_of.pop(order_id) for order_id in commands["subject_id"].tolist()]
        super()._send(client, commands, note)

    def _note_resting(self, commands: Records, results: Records) -> None:
        super()._note_resting(commands, results)
        self._market_of |= zip(results["order"]["id"].tolist(), commands["market"].tolist(), strict=True)


class Floor(NamedTuple):
    """An exchange, and who trades there."""

    running: Running
    load: Books

    def trade(self, kill_count: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Trade, and kill the matcher so many times; do something after the first."""
        for number in range(kill_count):
            with self.running.client() as bus:
                self.load.run(bus, Killer(pid_of("matcher", self.running), TRADE_S).is_done)
            self.load.lose()
            if number == 0:
                meanwhile()
        pid_of("matcher", self.running)
        end = time.monotonic() + TRADE_S
        with self.running.client() as bus:
            self.load.run(bus, lambda: time.monotonic() > end)
            self.load.settle(bus)

    def wait_agreed(self, held: Callable[[], Iterable[Held]]) -> None:
        """Wait until clients hold what is answered. As long as they do not, markets move: that shows what was lost."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for market in LIMITS:
                self._move(market)
            calm_end = time.monotonic() + CALM_S
            while different := [
                each for each in held() if each.sides != self.running.call("order.depth", *each.params)
            ]:
                if time.monotonic() > calm_end:
                    break
                time.sleep(LOOK_S)
            else:
                return
            assert time.monotonic() < deadline, different

    def _move(self, market: str) -> None:
        """Add to the best bid."""
        bids = self.running.call("order.depth", market, 1, "0")["bids"]
        put(self.running, market, Side.BID, bids[0][0] if bids else "1")


def put(running: Running, market: str, side: Side, price: str) -> int:
    """An order of the user who stands for himself; its id."""
    order = running.call("order.put_limit", USER, market, int(side), "0.01", price, *RATES, "")
    assert order["left"] == "0.01"
    return int(order["id"])


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    (port,) = free_ports(1)
    ws = {
        "book_interval_ms": INTERVAL_MS,
        "depth_interval_ms": INTERVAL_MS,
        "depth_limits": [1, 2, 5, 10, 20, 50, 100],
        "depth_merges": ["0", "0.5", "10", "25"],
        "metrics_bind": f"127.0.0.1:{port}",
    }
    load = Books(seed=41)
    with gateway(tmp_path_factory.mktemp("book"), supervisor=OFTEN, ws=ws) as running:
        with running.client() as bus:
            load.fund(bus, ASSETS)
        yield Floor(running, load)


class Watcher(threading.Thread):
    """A client that reads on until it is stopped."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self.trouble: list[BaseException] = []
        self.is_over = threading.Event()
        self._running = running

    def stop(self) -> None:
        self.is_over.set()
        self.join()
        assert not self.trouble, self.trouble

    def run(self) -> None:
        try:
            with connected(self._running) as client:
                self.watch(client)
        except BaseException as error:
            self.trouble.append(error)

    @abstractmethod
    def watch(self, client: Client) -> None:
        """Read until it is over."""


def stop_all(watchers: Iterable[Watcher]) -> None:
    """End all, then see whether one had trouble."""
    watchers = list(watchers)
    for watcher in watchers:
        watcher.is_over.set()
    for watcher in watchers:
        watcher.stop()


class BookWatcher(Watcher):
    """The reference client, of several markets on one connection; every book that it took for good is kept.

    `loss` is how much of what goes either way gets lost; `renew_s`, how often it asks for nothing but the same again.
    """

    def __init__(self, running: Running, loss: float = 0.0, renew_s: float = 0.0, speed: int = 1) -> None:
        super().__init__(running)
        ids = count(1)
        self.followers = [Follower(market, limit, ids) for market, limit in LIMITS.items()]
        self.seen: dict[str, dict[int, Sides]] = {market: {} for market in LIMITS}  # by sequence
        self.held = {market: Held((market, limit, "0"), None) for market, limit in LIMITS.items()}
        self.loss = loss
        self.lost_count = self.taken_count = 0
        self._draw = Random(43)
        self._renew_s, self._speed = renew_s, speed

    @property
    def resync_count(self) -> int:
        return sum(follower.resync_count for follower in self.followers)

    def watch(self, client: Client) -> None:
        renewed = time.monotonic()
        for follower in self.followers:
            client.socket.send(json.dumps(follower.ask(self._now_ms())))  # of a lost one nothing would ever tell
        while not self.is_over.is_set():
            if self._renew_s and time.monotonic() > renewed + self._renew_s:
                renewed = time.monotonic()
                self._ask(client, self._draw.choice(self.followers))
            try:
                message = json.loads(client.socket.recv(LOOK_S))
            except TimeoutError:
                continue
            if self._is_lost():
                continue
            for follower in self.followers:
                self._take(client, follower, message)

    def _take(self, client: Client, follower: Follower, message: dict[str, Any]) -> None:
        match follower.take(message, self._now_ms()):
            case Step.ASK:
                self._ask(client, follower)
            case Step.TAKEN:
                self._note(follower)
        if follower.book.sequence is None:
            self.held[follower.market] = self.held[follower.market]._replace(sides=None)

    def _note(self, follower: Follower) -> None:
        book = follower.book
        assert book.sequence is not None
        sides = {"asks": [*map(list, book.asks)], "bids": [*map(list, book.bids)]}
        assert max(map(len, sides.values())) <= follower.limit
        assert not book.asks or not book.bids or Decimal(book.asks[0][0]) > Decimal(book.bids[0][0])
        assert self.seen[follower.market].setdefault(book.sequence, sides) == sides
        self.taken_count += 1
        self.held[follower.market] = self.held[follower.market]._replace(sides=sides)

    def _ask(self, client: Client, follower: Follower) -> None:
        request = follower.ask(self._now_ms())
        if not self._is_lost():
            client.socket.send(json.dumps(request))

    def _is_lost(self) -> bool:
        is_lost = self._draw.random() < self.loss
        self.lost_count += is_lost
        return is_lost

    def _now_ms(self) -> int:
        return monotonic_ms() * self._speed


def test_books_of_clients_that_lose_messages_join_or_ask_again_are_those_of_one_that_has_them_all(
    floor: Floor,
) -> None:
    running = floor.running
    exact, lossy = BookWatcher(running), BookWatcher(running, loss=LOSS, speed=CLOCK_SPEED)
    renewing, late = BookWatcher(running, renew_s=RENEW_S), BookWatcher(running)
    watchers = [exact]
    try:
        exact.start()
        floor.wait_agreed(lambda: exact.held.values())
        for watcher in (lossy, renewing):
            watcher.start()
            watchers.append(watcher)

        def join() -> None:
            late.start()
            watchers.append(late)

        floor.trade(KILL_COUNT, join)
        lossy.loss = 0.0
        floor.wait_agreed(lambda: [each for watcher in watchers for each in watcher.held.values()])
    finally:
        stop_all(watchers)
    for watcher in (lossy, renewing, late):
        for market, seen in watcher.seen.items():
            wanted = exact.seen[market]
            assert not [number for number, sides in seen.items() if wanted.get(number, sides) != sides]
            assert left_out_count(running) or seen.keys() <= wanted.keys()
    assert [exact.resync_count, renewing.resync_count, late.resync_count] == [0, 0, 0]
    assert lossy.resync_count > 2
    assert lossy.lost_count > 5
    assert min(watcher.taken_count for watcher in watchers) > 20
    assert all(list(seen) == sorted(seen) for seen in exact.seen.values())


def left_out_count(running: Running) -> int:
    """Messages that were left out because a client did not read for a moment."""
    return int(metrics(running)["ws_conflated_total"])


class DepthWatcher(Watcher):
    """Keeps a depth as CONTRACT 5.5 tells clients to, and subscribes to the same again and again.

    The whole that it is told then must be what it has: nothing comes between.
    """

    def __init__(self, running: Running, market: str, limit: int, interval: str) -> None:
        super().__init__(running)
        self.held = Held((market, limit, interval), None)
        self.renewed_count = self.different_count = self.changed_count = 0
        self._levels: dict[str, dict[Decimal, list[str]]] = {}

    def watch(self, client: Client) -> None:
        while not self.is_over.is_set():
            client.call("depth.subscribe", *self.held.params)
            end = time.monotonic() + RENEW_S
            while time.monotonic() < end:
                client.look(LOOK_S)
                for params in client.of("depth.update"):
                    self._take(*params)
                client.told.clear()

    def _take(self, is_whole: bool, told: Sides, market: str) -> None:
        assert market == self.held.params[0]
        assert is_whole or self.held.sides is not None, "first all of it"
        if is_whole:
            self._levels = {name: {} for name in SIDES}
        for name, levels in told.items():
            self._change(name, levels)
        sides = {name: list(self._levels[name].values()) for name in SIDES}
        if is_whole and self.held.sides is not None:
            self.renewed_count += 1
            self.different_count += sides != self.held.sides
        self.changed_count += not is_whole
        self.held = self.held._replace(sides=sides)

    def _change(self, name: str, levels: Levels) -> None:
        """Set levels, remove those that are gone, keep the best."""
        side = self._levels[name]
        for price, amount in levels:
            if Decimal(amount):
                side[Decimal(price)] = [price, amount]
            else:
                del side[Decimal(price)]  # it was there
        best = sorted(side, reverse=name == "bids")[: self.held.params[1]]
        self._levels[name] = {price: side[price] for price in best}


def test_depths_that_clients_keep_are_what_is_answered(floor: Floor) -> None:
    watchers = [DepthWatcher(floor.running, *params) for params in WINDOWS]
    early, late = watchers[::2], watchers[1::2]
    started: list[DepthWatcher] = []

    def start(some: list[DepthWatcher]) -> None:
        for watcher in some:
            watcher.start()
            started.append(watcher)

    try:
        start(early)
        floor.trade(KILL_COUNT, lambda: start(late))
        floor.wait_agreed(lambda: [watcher.held for watcher in watchers])
    finally:
        stop_all(started)
    if not left_out_count(floor.running):  # else a whole one may be newer than what was told before
        assert not [watcher.held.params for watcher in watchers if watcher.different_count]
    assert min(watcher.renewed_count for watcher in watchers) > 2
    assert min(watcher.changed_count for watcher in watchers if watcher.held.params[0] != QUIET) > 10


def test_a_level_that_was_pushed_out_of_a_full_window_comes_back_as_a_new_one(floor: Floor) -> None:
    """That it has left the window is not said of depths, but of books."""
    running = floor.running
    for price in ("101", "102", "103", "104"):
        put(running, QUIET, Side.BID, price)
    with connected(running) as depth, connected(running) as book:

        def told() -> tuple[list[list[list[str]]], list[list[list[str]]]]:
            """The bids of each message so far."""
            depth.look()
            book.look()
            depths = [params[1]["bids"] for params in depth.of("depth.update")]
            return depths, [params[1]["bids"] for params in book.of("book.update")]

        def wait(message_count: int) -> None:
            depth.wait(lambda: min(map(len, told())) >= message_count)

        depth.call("depth.subscribe", QUIET, 2, "0")
        book.call("book.subscribe", QUIET, 2)
        wait(1)
        best = put(running, QUIET, Side.BID, "105")
        wait(2)
        (pushed_out,) = [
            order["id"]
            for order in running.call("order.pending", USER, QUIET, 0, 100)["records"]
            if order["price"] == "103"
        ]
        running.call("order.cancel", USER, QUIET, pushed_out)
        running.call("order.cancel", USER, QUIET, best)
        wait(3)
        depths, books = told()
    assert depths == [
        [["104", "0.01"], ["103", "0.01"]],
        [["105", "0.01"]],
        [["105", "0"], ["102", "0.01"]],
    ]
    assert [sorted(levels) for levels in books] == [
        [["103", "0.01"], ["104", "0.01"]],
        [["103", "0"], ["105", "0.01"]],
        [["102", "0.01"], ["105", "0"]],
    ]
