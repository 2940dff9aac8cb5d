"""The loop of events, turned by hand: who is told what of his own, in which order, and what the publisher is told."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from gevent.event import Event

from bus import feed
from bus.codes import Code
from bus.eventlog import Gone
from bus.messages import EventKind, Frame, unpack
from conf.settings import MarketData, Settings, Ws
from gateways.link import NotConnected, TimedOut
from gateways.state import State
from gateways.ws.events import MISSED_CODE, Pump
from gateways.ws.feeds import Deal, Source
from gateways.ws.metrics import Metrics
from gateways.ws.publisher import Publisher
from gateways.ws.stream import BusStream, Past
from gateways.ws.topics import Channel, Topic
from tests.gateways.making import BTCBCH, CATALOG
from tests.gateways.ws.making import (
    BCH,
    BTC,
    LOOKS_LIKE_USER,
    SAT,
    FakeExchange,
    FakeFollower,
    FakeMarketData,
    balance_event,
    deal_event,
    frame_of,
    order_event,
)
from tests.gateways.ws.resuming import Resuming

BTCBCH_INDEX, SATBCH_INDEX = (CATALOG.market_by_name[name].index for name in ("BTCBCH", "SATBCH"))
ONE = 10**12  # a bitcoin


class FakeFeed:
    """Gives the frames that it was given, one after the other."""

    def __init__(self) -> None:
        self._mine, self._others = socket.socketpair()
        self.frames: list[Frame | Exception] = []
        self.fd = self._mine.fileno()

    def receive(self, timeout_ms: int) -> Frame | None:
        frame = self.frames.pop(0) if self.frames else None
        if isinstance(frame, Exception):
            raise frame
        return frame

    def close(self) -> None:
        self._mine.close()
        self._others.close()


class FakePublisher(Publisher):
    """Keeps what it is told of markets."""

    def __init__(self) -> None:
        source = Source(cast(State, None), FakeMarketData(), lambda: 0.0, lambda: 0.0, 0.1)
        super().__init__(Ws(), source, Metrics())
        self.touches: list[tuple[str, list[Deal]]] = []
        self.skip_count = 0

    def touch(self, market: str, deals: Any = ()) -> None:
        self.touches.append((market, [deal for deal, _ in deals]))

    def skip(self) -> None:
        self.skip_count += 1


class Parts:
    """A pump and what is around it."""

    def __init__(self, directory: Path) -> None:
        self.exchange, self.publisher, self.alerts = FakeExchange(), FakePublisher(), list[str]()
        settings = Settings(instance="pump-test", data_dir=directory, market=MarketData(skip_first_deal=True))
        state = cast(State, self.exchange)
        self.pump = Pump(settings, BusStream(settings), state, self.publisher, Metrics(), self.alerts.append)

    @property
    def feed(self) -> FakeFeed:
        """What the pump follows now."""
        return cast(FakeFeed, self.pump._stream._feed)  # type: ignore[attr-defined]  # a BusStream

    def follower(self, user_id: int, *, orders: str = "", assets: str = "", is_numbered: bool = False) -> FakeFollower:
        """Of one's orders in these markets and one's balances of these assets."""
        made = FakeFollower(user_id)
        for channel, names in ((Channel.ORDER, orders), (Channel.ASSET, assets)):
            topics = frozenset(Topic(channel, name) for name in names.split())
            if topics:
                self.publisher.change(made, channel, topics, is_numbered=is_numbered)
        return made

    def turn(self, *frames: bytes) -> bool:
        """Let frames come and turn the loop once."""
        self.feed.frames += [unpack(data) for data in frames]
        return self.pump.turn()


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    monkeypatch.setattr(feed, "follow", lambda *_: FakeFeed())
    parts = Parts(tmp_path)
    parts.exchange.balances[7] = {BTC.index: (ONE, 0), BCH.index: (3 * 10**20, 10**20), SAT.index: (10**6, 0)}
    yield parts
    parts.pump.start()
    parts.pump.stop()


def short(told: list[Any]) -> list[Any]:
    """Of orders the kind, the id and, if there is one, the number; of balances the asset and the number."""
    found = []
    for message in told:
        first, *more = message["params"]
        if message["method"] == "order.update":
            found.append((first, more[0]["id"], *more[1:]))
        else:
            assert message["method"] == "asset.update"
            found.append((*first, *more))
    return found


def test_orders_come_before_the_balances_that_they_change_and_stock_before_money(parts: Parts) -> None:
    follower = parts.follower(7, orders="BTCBCH", assets="BCH BTC SAT")
    parts.turn(frame_of(order_event(1, 7), order_event(2, 7, EventKind.ORDER_UPDATE), order_event(3, 7)))
    assert short(follower.told) == [(1, 1), (2, 2), (1, 3), ("BTC",), ("BCH",)]


def test_a_balance_is_told_once_for_all_that_came_together_as_it_is_then(parts: Parts) -> None:
    follower = parts.follower(7, assets="BTC BCH")
    parts.turn(frame_of(balance_event(1, 7, BTC.index), balance_event(2, 7, BCH.index)), frame_of(order_event(3, 7)))
    assert [message["params"] for message in follower.told] == [
        [{"BTC": {"available": "1", "freeze": "0e-8"}}],
        [{"BCH": {"available": "3", "freeze": "1"}}],
    ]
    parts.exchange.balances[7][BTC.index] = (2 * ONE, ONE)
    follower.take()
    parts.turn(frame_of(balance_event(4, 7, BTC.index)))
    assert [message["params"] for message in follower.take()] == [[{"BTC": {"available": "2", "freeze": "1"}}]]
    assert parts.turn() is False
    assert follower.take() == []


WHO = [
    # follows orders, assets; is told of an order of 7 in BTCBCH and an update of its SAT
    (7, "BTCBCH", "", [(1, 1)]),
    (7, "SATBCH", "", []),
    (7, "SATBCH BTCBCH", "", [(1, 1)]),
    (7, "", "BTC", [("BTC",)]),
    (7, "", "SAT BCH", [("BCH",), ("SAT",)]),
    (7, "BTCBCH", "SAT", [(1, 1), ("SAT",)]),
    (8, "BTCBCH SATBCH", "BTC BCH SAT", []),
]


@pytest.mark.parametrize(("user_id", "orders", "assets", "told"), WHO)
def test_who_is_told(parts: Parts, user_id: int, orders: str, assets: str, told: list[Any]) -> None:
    follower = parts.follower(user_id, orders=orders, assets=assets)
    other = parts.follower(7, orders="BTCBCH")
    parts.turn(frame_of(order_event(1, 7), balance_event(2, 7, SAT.index)))
    assert short(follower.told) == told
    assert short(other.told) == [(1, 1)]


def test_of_a_market_only_its_own_orders_are_told(parts: Parts) -> None:
    follower = parts.follower(7, orders="SATBCH", assets="SAT")
    parts.turn(frame_of(order_event(1, 7), order_event(2, 7, market=SATBCH_INDEX), order_event(3, 8, market=1)))
    assert short(follower.told) == [(1, 2), ("SAT",)]


def test_what_is_no_order_of_a_user_only_looks_like_one(parts: Parts) -> None:
    follower = parts.follower(LOOKS_LIKE_USER, orders="BTCBCH", assets="BTC BCH SAT")
    parts.turn(frame_of(deal_event(LOOKS_LIKE_USER), balance_event(8, 9, SAT.index)))
    assert follower.told == []


def test_balances_of_several_users_are_told(parts: Parts) -> None:
    one, other = parts.follower(7, assets="BTC"), parts.follower(8, assets="BTC SAT")
    parts.turn(frame_of(balance_event(1, 7, BTC.index), balance_event(2, 8, SAT.index), order_event(3, 8)))
    assert (short(one.told), short(other.told)) == ([("BTC",)], [("SAT",), ("BTC",)])


def test_numbers_are_for_who_wants_them(parts: Parts) -> None:
    plain = parts.follower(7, orders="BTCBCH", assets="BTC BCH")
    numbered = parts.follower(7, orders="BTCBCH", assets="BTC BCH", is_numbered=True)
    parts.turn(frame_of(order_event(1, 7), order_event(2, 8)))
    assert short(plain.take()) == [(1, 1), ("BTC",), ("BCH",)]
    assert short(numbered.take()) == [(1, 1, 1), ("BTC", 0), ("BCH", 2)]
    parts.turn(frame_of(order_event(3, 7, EventKind.ORDER_FINISH)))
    assert short(numbered.take()) == [(3, 3, 3), ("BTC", 2), ("BCH", 3)]


def test_who_is_told_the_same_gets_the_same_bytes(parts: Parts) -> None:
    one, other = (parts.follower(7, orders="BTCBCH", assets="BTC") for _ in range(2))
    parts.turn(frame_of(order_event(1, 7)))
    assert [*map(id, one.messages)] == [*map(id, other.messages)]


def test_nobody_is_told_twice_and_nothing_is_looked_up_for_nobody(parts: Parts) -> None:
    follower = parts.follower(7, orders="BTCBCH")
    parts.turn(frame_of(order_event(1, 7), order_event(2, 8), balance_event(3, 9, 0)))
    assert parts.turn() is False
    assert len(follower.told) == 1
    assert parts.exchange.asked == []


def test_one_client_follows_markets_that_another_does_not(parts: Parts) -> None:
    one, other = parts.follower(7, orders="BTCBCH"), parts.follower(7, orders="SATBCH")
    parts.turn(frame_of(order_event(1, 7), order_event(2, 7, market=SATBCH_INDEX)))
    assert (short(one.told), short(other.told)) == ([(1, 1)], [(1, 2)])


def leave(parts: Parts, follower: FakeFollower) -> Callable[[], None]:
    """What a connection does whose client has gone, or lets too much wait."""

    def go() -> None:
        follower.is_closed = follower.is_ended = True
        follower.on_flush = lambda: None
        parts.publisher.forget(follower)

    return go


@pytest.mark.parametrize("is_alone", [True, False], ids=["the user's only client", "another one stays"])
def test_a_client_may_leave_while_it_is_told(parts: Parts, is_alone: bool) -> None:
    """Its connection is found to be broken, or too slow, when an order is sent to it."""
    leaving = parts.follower(7, orders="BTCBCH", assets="BTC")
    staying = None if is_alone else parts.follower(7, orders="BTCBCH")
    other = parts.follower(8, orders="BTCBCH")
    leaving.on_flush = leave(parts, leaving)
    parts.turn(frame_of(order_event(1, 7), order_event(2, 8), order_event(3, 7), order_event(4, 8)))
    assert short(leaving.told) == [(1, 1)]
    assert staying is None or short(staying.told) == [(1, 1), (1, 3)]
    assert short(other.told) == [(1, 2), (1, 4)]


def test_a_client_may_leave_while_it_is_told_balances(parts: Parts) -> None:
    leaving, other = parts.follower(7, assets="BTC BCH"), parts.follower(7, assets="BCH")
    leaving.on_flush = leave(parts, leaving)
    parts.turn(frame_of(order_event(1, 7)))
    assert (short(leaving.told), short(other.told)) == ([("BTC",)], [("BCH",)])


@pytest.mark.parametrize("fails", [NotConnected, TimedOut])
def test_without_the_catalog_events_wait(parts: Parts, fails: Any) -> None:
    follower = parts.follower(7, orders="BTCBCH", assets="BTC")
    parts.exchange.fails = fails
    assert parts.turn(frame_of(order_event(1, 7))) is False
    assert parts.turn(frame_of(order_event(2, 7))) is False
    assert follower.told == []
    assert parts.publisher.event_number == 0
    parts.exchange.fails = None
    while parts.turn():
        pass
    assert short(follower.told) == [(1, 1), ("BTC",), (1, 2), ("BTC",)]


def test_without_balances_orders_are_told_and_the_balances_later(parts: Parts) -> None:
    follower = parts.follower(7, orders="BTCBCH", assets="BTC", is_numbered=True)

    def fail_at_balances() -> None:
        parts.exchange.fails = TimedOut if parts.exchange.asked else None

    parts.exchange.meanwhile = fail_at_balances
    assert parts.turn(frame_of(order_event(1, 7))) is False
    parts.exchange.asked.clear()
    assert parts.turn(frame_of(order_event(2, 7))) is False
    assert short(follower.take()) == [(1, 1, 1), (1, 2, 2)]
    parts.exchange.meanwhile, parts.exchange.fails = lambda: None, None
    parts.turn()
    assert short(follower.take()) == [("BTC", 2)]


def test_markets_are_touched_with_their_deals(parts: Parts) -> None:
    for name in ("BTCBCH", "SATBCH"):
        parts.publisher.change(FakeFollower(), Channel.DEALS, frozenset({Topic(Channel.DEALS, name)}))
    deals = [deal_event(2, 0, 500, 20), deal_event(3, 1, 7, 8, 2), deal_event(5, 0, 501, 21, 2)]
    parts.turn(frame_of(order_event(1, 8), *deals[:2], balance_event(4, 8, 0)), frame_of(deals[2]))
    assert parts.publisher.touches == [
        ("BTCBCH", [Deal(2, 2.0, 500, 20, 1), Deal(5, 5.0, 501, 21, 2)]),
        ("SATBCH", [Deal(3, 3.0, 7, 8, 2)]),
    ]
    assert parts.publisher.event_number == 5


TOUCHED: list[tuple[Any, list[Any]]] = [
    (order_event(1, 8), [("BTCBCH", [])]),
    (order_event(1, 8, EventKind.ORDER_FINISH), [("BTCBCH", [])]),
    (order_event(1, 8, market=SATBCH_INDEX), []),
    (balance_event(1, 8, 0), []),
    (balance_event(1, BTCBCH_INDEX, 0), []),
]


@pytest.mark.parametrize(("event", "touches"), TOUCHED)
def test_which_markets_are_touched(parts: Parts, event: Any, touches: list[Any]) -> None:
    parts.publisher.change(FakeFollower(), Channel.DEPTH, frozenset({Topic(Channel.DEPTH, BTCBCH.name, 5, "0")}))
    parts.turn(frame_of(event))
    assert parts.publisher.touches == touches


def test_a_deal_that_market_data_does_not_know_is_no_deal(parts: Parts) -> None:
    parts.publisher.change(FakeFollower(), Channel.DEALS, frozenset({Topic(Channel.DEALS, BTCBCH.name)}))
    parts.turn(frame_of(deal_event(1), deal_event(2)))
    [(_, deals)] = parts.publisher.touches
    assert [deal.number for deal in deals] == [2]


def test_events_that_are_gone_end_the_connections_that_need_them_and_are_told_to_the_operator(parts: Parts) -> None:
    private, public = parts.follower(7, orders="BTCBCH"), FakeFollower()
    parts.publisher.change(public, Channel.DEALS, frozenset({Topic(Channel.DEALS, BTCBCH.name)}))
    parts.feed.frames += [unpack(frame_of(order_event(1, 7))), Gone("event 2 is gone", 3)]
    assert parts.pump.turn() is True
    assert [code for code, _ in private.closes] == [MISSED_CODE]
    assert public.closes == []
    assert parts.publisher.skip_count == 1
    assert "event 2 is gone" in parts.alerts[0]
    assert parts.pump.turn() is False


class FakeStream:
    """A stream whose beginning is not known at once, as that of Kafka is."""

    def __init__(self) -> None:
        self.feed = FakeFeed()
        self.number: int | None = None
        self.follow_count = 0

    @property
    def fd(self) -> int:
        return self.feed.fd

    def follow(self) -> None:
        self.number = None
        self.follow_count += 1

    def begin_number(self) -> int | None:
        return self.number

    def receive(self) -> Frame | None:
        return self.feed.receive(0)

    def past(self) -> Past:
        raise AssertionError("nobody looks back")

    def close(self) -> None:
        self.feed.close()


def test_events_are_told_once_it_is_known_where_they_begin(parts: Parts) -> None:
    stream = FakeStream()
    publisher, state = parts.publisher, cast(State, parts.exchange)
    pump = Pump(parts.pump._settings, stream, state, publisher, Metrics(), parts.alerts.append)
    stream.feed.frames += [unpack(frame_of(order_event(6, 7)))]
    assert pump.turn() is False
    assert not pump.has_begun
    assert not publisher.is_informed
    stream.number = 5
    assert pump.turn() is True
    assert pump.has_begun
    assert publisher.event_number == 6
    assert publisher.skip_count == 0
    private = parts.follower(7, orders="BTCBCH")
    stream.feed.frames += [Gone("event 7 is gone", 9)]
    assert pump.turn() is True
    assert (stream.follow_count, pump.has_begun, private.closes) == (2, False, [])
    stream.number = 20
    assert pump.turn() is False
    assert [code for code, _ in private.closes] == [MISSED_CODE]
    assert (publisher.event_number, publisher.skip_count, publisher.is_informed) == (20, 1, True)
    pump.start()
    pump.stop()


def test_who_was_told_anything_before_events_began_is_told_anew_then(parts: Parts) -> None:
    stream, stopping = FakeStream(), Event()
    pump = Pump(parts.pump._settings, stream, cast(State, parts.exchange), parts.publisher, Metrics(), print)
    pump.await_begin(0.1, stopping)
    assert not pump.has_begun
    pump.start()
    stream.number = 9
    pump.turn()
    assert (parts.publisher.event_number, parts.publisher.skip_count) == (9, 1)
    pump.stop()
    stopping.set()
    pump.await_begin(60, stopping)  # ends at once


def test_one_s_own_can_not_be_followed_while_events_do_not_come(tmp_path: Path) -> None:
    resuming = Resuming(tmp_path)
    resuming.publisher.is_informed = False
    for after in (None, 0):
        assert resuming.follow(Channel.ORDER, after) is Code.SERVICE_TIMEOUT
    assert not resuming.is_registered()
    resuming.publisher.is_informed = True
    assert resuming.sequence(Channel.ORDER, None) == 0
    resuming.close()
