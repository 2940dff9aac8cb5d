"""The loop of the market process, turned by hand against a matcher that trades: what it answers, keeps and tells."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from bus import calls, catalog, positions
from bus.catalog import Catalog
from bus.client import Client
from bus.codes import Code
from bus.endpoints import address
from bus.eventfiles import segments
from bus.eventlog import Reader
from bus.messages import Frame, unpack
from bus.methods import METHODS
from conf import alert
from conf.settings import MarketData, Settings
from market import keeper
from market.board import ALWAYS, Board
from market.file_store import FileStore
from market.keeper import NAME
from market.schema import CANDLE, Resolution
from market.service import MarketProcess
from market.sources import FromBus
from market.store import Loaded, Part, Position, StoreDown
from tests.engine.opened import private_settings
from tests.persist.trading import Exchange, exchange

PATIENCE_S = 60.0
TURN_MS = 20
EVER = dict.fromkeys(Resolution, ALWAYS)
MARKET = "BTCUSD"  # the one that is traded

Fault = Callable[[], None]


class FaultyStore(FileStore):
    """A file, and what a test wants to go wrong or to take its time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.on_load: Fault = lambda: None
        self.on_flush: Fault = lambda: None

    def load(self, catalog: Catalog, since: Mapping[Resolution, int]) -> Loaded:
        self.on_load()
        return super().load(catalog, since)

    def flush(self, parts: list[Part], position: Position) -> None:
        self.on_flush()
        super().flush(parts, position)


def down() -> None:
    raise StoreDown("it is down")


class Desk:
    """A market process, its store, and a client that asks it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = FaultyStore(settings.paths.market_file)
        self.client = Client(self._address("commands"))
        self.process = MarketProcess(settings, self.store, FromBus(settings, Client(self._address("commands"))))
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(self._address("market"))
        self._tag = 0

    def turn_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.alerts
            self.process.turn(TURN_MS)

    def turn_until_answering(self) -> None:
        self.turn_until(lambda: self.process.is_answering)

    def turn_until_stored(self, number: int) -> None:
        self.turn_until(lambda: self.told_number >= number)

    def turn_until_deals(self, count: int) -> None:
        self.turn_until(lambda: self.deal_count == count)

    @property
    def deal_count(self) -> int:
        """How many deals it answers with."""
        return len(self.ask("market.deals", MARKET, 10_000, 0))

    def ask(self, name: str, *params: Any) -> Any:
        """The result of a method, or its code."""
        self._tag += 1
        self.socket.send(calls.call(METHODS[name], list(params), self._tag))
        self.turn_until(lambda: bool(self.socket.poll(0)))
        answer = unpack(self.socket.recv())
        assert answer.first == self._tag
        return json.loads(bytes(answer.blob)) if answer.total == Code.OK else Code(answer.total)

    @property
    def alerts(self) -> list[str]:
        path = self.settings.paths.alerts_file
        return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def told_number(self) -> int:
        return positions.told(self.settings.paths.positions_dir).get(NAME, -1)

    @property
    def all_frames(self) -> list[Frame]:
        return [*Reader(self.settings.paths.events_dir).frames(0)]

    def stored(self) -> Loaded:
        """What the file holds."""
        other = FileStore(self.settings.paths.market_file)
        loaded = other.load(catalog.ask(self.client), EVER)
        other.close()
        return loaded

    def close(self) -> None:
        self.process.close()
        self.socket.close()
        self.client.close()

    def _address(self, name: str) -> str:
        return address(self.settings.bus.bind, self.settings.paths.sockets_dir, name)


@pytest.fixture(autouse=True)
def _every_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the process that does not tell the same twice."""
    monkeypatch.setattr(alert, "REPEAT_S", 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(private_settings(tmp_path), market=MarketData(flush_interval_s=0.05))


@pytest.fixture
def trading(settings: Settings) -> Iterator[Exchange]:
    with exchange(settings) as running:
        running.fund()
        yield running


@pytest.fixture
def desk(settings: Settings, trading: Exchange) -> Iterator[Desk]:
    made = Desk(settings)
    yield made
    made.close()


def content(board: Board) -> list[bytes]:
    return [
        part
        for market in board.catalog.markets
        for part in (
            str(board.tape(market.index).last_units).encode(),
            board.tape(market.index).ticks.kept.tobytes(),
            *(series.candles.tobytes() for series in board.tape(market.index).series.values()),
        )
    ]


def assert_stored(desk: Desk) -> None:
    """The store holds what all events together make."""
    wanted, found = Board(desk.settings.market), Board(desk.settings.market)
    for board in (wanted, found):
        board.know(catalog.ask(desk.client))
    wanted.apply(desk.all_frames)
    found.load(desk.stored())
    assert found.position == wanted.position
    assert content(found) == content(wanted)


def test_it_answers_once_it_has_what_happened_before_it_began(desk: Desk, trading: Exchange) -> None:
    trading.trade(100)
    assert not desk.process.is_settled
    desk.turn_until_answering()
    assert desk.process.is_settled
    assert desk.ask("market.last", MARKET) == "100.00000000"
    assert desk.deal_count == 50
    assert desk.alerts == []


def test_a_store_is_its_own_from_before_the_first_flush(desk: Desk, trading: Exchange) -> None:
    """A process that dies just after that must not take it for another exchange's."""

    def be_told_before() -> None:
        assert desk.told_number >= 0

    desk.store.on_flush = be_told_before
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)


def test_what_happens_is_answered_and_stored(desk: Desk, trading: Exchange) -> None:
    desk.turn_until_answering()
    for count in (2, 4, 6):
        trading.trade(2)
        desk.turn_until_deals(count // 2)
    desk.turn_until_stored(trading.event_number)
    assert_stored(desk)


def test_what_is_not_stored_yet_is_stored_at_the_end(settings: Settings, trading: Exchange) -> None:
    desk = Desk(replace(settings, market=MarketData(flush_interval_s=3600)))
    desk.turn_until_answering()
    trading.trade(10)
    desk.turn_until_deals(5)
    desk.process.close()
    assert desk.told_number == trading.event_number
    assert_stored(desk)
    desk.socket.close()
    desk.client.close()


def test_another_process_goes_on_from_what_is_stored(settings: Settings, trading: Exchange) -> None:
    for count in (10, 20, 30):
        desk = Desk(settings)
        desk.turn_until_answering()
        trading.trade(20)
        desk.turn_until_stored(trading.event_number)
        assert desk.deal_count == count
        assert_stored(desk)
        desk.close()


def test_a_store_that_is_down_at_the_start_is_tried_again(desk: Desk, trading: Exchange) -> None:
    desk.store.on_load = down
    desk.turn_until(lambda: desk.process.is_settled)
    assert not desk.process.is_answering
    assert [text for text in desk.alerts if "market data is not loaded, which is tried again: it is down" in text]
    trading.trade(10)
    desk.store.on_load = lambda: None
    desk.turn_until_answering()
    assert desk.deal_count == 5
    desk.turn_until_stored(trading.event_number)
    assert_stored(desk)


def test_a_store_that_is_down_later_stops_no_answer_and_misses_nothing(desk: Desk, trading: Exchange) -> None:
    desk.turn_until_answering()
    tries: list[None] = []

    def fail() -> None:
        tries.append(None)
        down()

    desk.store.on_flush = fail
    trading.trade(10)
    desk.turn_until(lambda: len(tries) >= 3)
    assert desk.deal_count == 5
    assert len(desk.alerts) == 1
    desk.store.on_flush = lambda: None
    trading.trade(10)
    desk.turn_until_stored(trading.event_number)
    assert_stored(desk)
    assert desk.alerts[1:] == ["market data is stored again"]


def test_after_a_long_trouble_the_events_are_taken_over_once_more(
    desk: Desk, trading: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has changed in days would be too much for one flush."""
    monkeypatch.setattr(keeper, "BACKLOG_MAX", 3)  # of four sizes
    desk.turn_until_answering()
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)
    loads: list[None] = []
    desk.store.on_load = lambda: loads.append(None)
    desk.store.on_flush = down
    trading.trade(10)
    desk.turn_until(lambda: bool(loads))
    tries: list[None] = []

    def fail() -> None:
        tries.append(None)
        down()

    desk.store.on_flush = fail
    desk.turn_until(lambda: len(tries) >= 3)
    assert len(loads) == 1  # to load it over and over would not help
    assert desk.deal_count == 6
    desk.store.on_flush = lambda: None
    trading.trade(10)
    desk.turn_until_stored(trading.event_number)
    assert desk.deal_count == 11
    assert_stored(desk)


def test_answers_do_not_wait_for_a_store_that_takes_its_time(desk: Desk, trading: Exchange) -> None:
    begun, may_end = threading.Event(), threading.Event()
    desk.turn_until_answering()

    def wait() -> None:
        begun.set()
        assert may_end.wait(PATIENCE_S)

    desk.store.on_flush = wait
    trading.trade(2)
    desk.turn_until(begun.is_set)
    trading.trade(2)
    desk.turn_until_deals(2)
    may_end.set()
    desk.turn_until_stored(trading.event_number)
    assert_stored(desk)


def test_what_else_has_changed_the_store_is_loaded_while_the_old_answers(desk: Desk, trading: Exchange) -> None:
    desk.turn_until_answering()
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)
    begun, may_end = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert may_end.wait(PATIENCE_S)

    desk.store.on_load = wait
    imported = np.zeros(1, CANDLE)
    imported["start"] = 86_400
    imported["open_units"] = imported["close_units"] = imported["high_units"] = imported["low_units"] = 7 * 10**8
    other = FileStore(desk.settings.paths.market_file)
    markets = catalog.ask(desk.client).market_by_name
    other.fill(markets[MARKET], Resolution.DAY, imported, replace=False)
    other.close()
    trading.trade(2)
    desk.turn_until(begun.is_set)
    trading.trade(2)
    desk.turn_until_deals(3)
    assert desk.ask("market.kline", MARKET, 86_400, 86_400, 86_400) == []
    may_end.set()
    desk.turn_until(lambda: desk.ask("market.kline", MARKET, 86_400, 86_400, 86_400) != [])
    assert desk.deal_count == 3
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)
    assert desk.deal_count == 4
    assert any("loaded anew" in text for text in desk.alerts)


class HidingSource(FromBus):
    """Does not tell of the last market for a while."""

    is_hiding = True

    def listed(self, timeout_ms: int) -> Catalog:
        found = super().listed(timeout_ms)
        if not self.is_hiding:
            return found
        shown = found.market_by_index[:-1]
        return replace(found, markets=shown, market_by_index=shown, market_by_name={each.name: each for each in shown})


def test_what_is_stored_of_a_market_before_it_is_listed_is_not_lost(settings: Settings, trading: Exchange) -> None:
    desk = Desk(settings)
    desk.process.close()
    listed = HidingSource(settings, Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands")))
    desk.process = MarketProcess(settings, desk.store, listed)
    desk.turn_until_answering()
    hidden = catalog.ask(desk.client).market_by_index[-1]
    assert desk.ask("market.last", hidden.name) is Code.INVALID_ARGUMENT
    imported = np.zeros(1, CANDLE)
    imported["start"] = 86_400
    imported["open_units"] = imported["close_units"] = imported["high_units"] = imported["low_units"] = 7
    other = FileStore(settings.paths.market_file)
    other.fill(hidden, Resolution.DAY, imported, replace=False)
    other.set_last(hidden, 7)
    other.close()
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)
    listed.is_hiding = False
    desk.turn_until(lambda: desk.ask("market.last", hidden.name) not in (Code.INVALID_ARGUMENT, "0"))
    assert len(desk.ask("market.kline", hidden.name, 86_400, 86_400, 86_400)) == 1
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)
    assert next(part for part in desk.stored().parts if part.market == hidden).last_units == 7
    assert desk.deal_count == 2
    desk.close()


def test_the_store_of_another_exchange_is_not_mixed_with_this_one(desk: Desk, trading: Exchange) -> None:
    other = FileStore(desk.settings.paths.market_file)
    other.rebuild([], Position(number=1_000_000, deal_id=5))
    desk.turn_until(lambda: desk.process.is_settled)
    trading.trade(2)
    assert not desk.process.is_answering
    assert any("it goes up to event 1,000,000" in text and "pit market rebuild" in text for text in desk.alerts)
    board = Board(desk.settings.market)
    board.know(catalog.ask(desk.client))
    board.apply(desk.all_frames)
    other.rebuild(*board.changed())
    other.close()
    hint = positions.Position(desk.settings.paths.positions_dir, NAME)
    hint.tell(board.position.number)
    hint.close()
    desk.turn_until_answering()
    assert desk.deal_count == 1


def test_a_store_that_an_exchange_like_this_has_left_is_not_mixed_with_it_either(desk: Desk, trading: Exchange) -> None:
    """Its number is one that this exchange has, too."""
    other = FileStore(desk.settings.paths.market_file)
    other.rebuild([], Position(number=1, deal_id=0))
    other.close()
    desk.turn_until(lambda: desk.process.is_settled)
    assert not desk.process.is_answering
    assert any("none of them was ever stored there" in text for text in desk.alerts)


def test_events_that_can_not_be_had_any_more_are_told_and_left_out(settings: Settings, trading: Exchange) -> None:
    while len(segments(settings.paths.events_dir)) < 2:
        trading.trade(2_000)
    segments(settings.paths.events_dir)[0].unlink()
    for path in settings.paths.journal_dir.iterdir():
        path.unlink()
    desk = Desk(settings)
    desk.turn_until_answering()
    assert any("can't be made again" in text and "goes on without them" in text for text in desk.alerts)
    trading.trade(2)
    desk.turn_until_stored(trading.event_number)
    deals = desk.ask("market.deals", MARKET, 10_000, 0)
    first_number = Reader(settings.paths.events_dir).first_number
    assert first_number > 1
    assert deals[0]["id"] == desk.stored().position.deal_id
    desk.close()
