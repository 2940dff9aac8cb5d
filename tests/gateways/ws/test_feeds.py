"""What the subscribers of each topic get, and when there is nothing to tell or nothing to tell yet."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import pytest

from bus.book import Book
from bus.codes import Code
from bus.messages import QueryKind
from gateways.link import NotConnected, TimedOut
from gateways.state import State
from gateways.ws.feeds import (
    BUSY_POLL_S,
    CLEAN_S,
    KINDS,
    NEVER_S,
    QUIET_POLL_S,
    SETTLE_S,
    Behind,
    Busy,
    Deal,
    Feed,
    Source,
)
from gateways.ws.topics import Channel, Topic
from tests.gateways.making import BTCBCH
from tests.gateways.ws.making import FakeExchange, FakeMarketData

NAME = BTCBCH.name
NEEDED = 10
ASKING = [Channel.PRICE, Channel.DEALS, Channel.STATE, Channel.TODAY, Channel.KLINE]
BUSY = [Code.SERVICE_UNAVAILABLE, Code.SERVICE_TIMEOUT]


@dataclass
class Parts:
    """One feed and what it is made from."""

    channel: Channel
    limit: int = 0
    interval: str = ""
    exchange: FakeExchange = field(default_factory=FakeExchange)
    market: FakeMarketData = field(default_factory=lambda: FakeMarketData(number=NEEDED))
    time_s: float = 1_700_000_030.0
    now_s: float = 500.0

    def __post_init__(self) -> None:
        state = cast(State, self.exchange)
        source = Source(state, self.market, lambda: self.time_s, lambda: self.now_s, kline_interval_s=0.1)
        topic = Topic(self.channel, NAME, self.limit, self.interval)
        self.feed: Feed = KINDS[self.channel](topic, source, NEEDED)

    def refresh(self) -> list[Any]:
        """The params of the messages that all subscribers get."""
        return [self._params(text) for text in self.feed.refresh(BTCBCH)]

    def told(self) -> list[Any]:
        """Of those that a new one gets."""
        return [self._params(text) for text in self.feed.told()]

    def newest(self) -> list[Any]:
        """Of those that one gets who has missed some."""
        return [self._params(text) for text in self.feed.newest()]

    def _params(self, text: str) -> Any:
        message = json.loads(text)
        assert (message["method"], message["id"], [*message]) == (
            f"{self.channel}.update",
            None,
            ["method", "params", "id"],
        )
        return message["params"]


def deal(number: int, price_units: int = 10**8) -> Deal:
    return Deal(number, 1.5, price_units, 2 * 10**8, 1)


# price


def test_a_price_is_told_as_it_was_asked_and_to_a_later_subscriber_without_its_zeros() -> None:
    parts = Parts(Channel.PRICE)
    parts.market.outcomes["market.last"] = '"8000.50000000"'
    assert (parts.told(), parts.newest()) == ([], [])
    assert parts.refresh() == [[NAME, "8000.50000000"]]
    assert parts.told() == [[NAME, "8000.5"]]
    assert parts.newest() == [[NAME, "8000.50000000"]]
    assert parts.refresh() == []
    assert parts.market.calls == [("market.last", [NAME])]


PRICES = [
    (12 * 10**8, "12.00000000", "12"),
    (12, "1.2e-7", "1.2e-7"),
    (120, "0.00000120", "0.0000012"),
    (1, "1e-8", "1e-8"),
]


@pytest.mark.parametrize(("units", "base", "stripped"), PRICES)
def test_deals_make_prices(units: int, base: str, stripped: str) -> None:
    parts = Parts(Channel.PRICE)
    parts.feed.take(deal(1, units + 1), BTCBCH)
    parts.feed.take(deal(2, units), BTCBCH)
    assert parts.refresh() == [[NAME, base]]
    assert parts.told() == [[NAME, stripped]]
    parts.feed.take(deal(3, units), BTCBCH)
    assert parts.refresh() == []
    assert parts.market.calls == []


@pytest.mark.parametrize("price", ['"0"', '"0e-8"', '"0.00000000"'])
def test_no_price_is_not_told(price: str) -> None:
    parts = Parts(Channel.PRICE)
    parts.market.outcomes["market.last"] = price
    assert (parts.refresh(), parts.told(), parts.newest()) == ([], [], [])
    parts.feed.take(deal(1), BTCBCH)
    assert parts.refresh() == [[NAME, "1.00000000"]]


def test_a_deal_that_is_made_while_the_price_is_asked_is_newer() -> None:
    parts = Parts(Channel.PRICE)
    parts.market.outcomes["market.last"] = '"8000.00000000"'
    parts.market.meanwhile = lambda: parts.feed.take(deal(1), BTCBCH)
    assert parts.refresh() == [[NAME, "1.00000000"]]


def test_a_deal_that_is_made_while_market_data_is_away_is_the_price() -> None:
    parts = Parts(Channel.PRICE)
    parts.market.meanwhile = lambda: parts.feed.take(deal(1), BTCBCH)
    parts.market.fails = NotConnected
    with pytest.raises(NotConnected):
        parts.refresh()
    assert parts.refresh() == [[NAME, "1.00000000"]]


def test_a_price_is_asked_again_after_events_are_lost() -> None:
    parts = Parts(Channel.PRICE)
    parts.feed.take(deal(1), BTCBCH)
    parts.refresh()
    parts.feed.skip()
    parts.market.outcomes["market.last"] = '"8000.00000000"'
    assert parts.refresh() == [[NAME, "8000.00000000"]]


# state, today, kline


STATUS = '{"period": 86400, "last": "1", "volume": "2", "deal": "2"}'
QUIET_STATUS = '{"period": 86400, "last": "1", "volume": "0", "deal": "0"}'


@pytest.mark.parametrize(
    ("channel", "method", "params"),
    [(Channel.STATE, "market.status", [NAME, 86_400]), (Channel.TODAY, "market.status_today", [NAME])],
)
def test_a_status_is_told_when_it_is_another(channel: Channel, method: str, params: list[Any]) -> None:
    parts = Parts(channel)
    parts.market.outcomes[method] = STATUS
    assert (parts.told(), parts.newest()) == ([], [])
    wanted = [[NAME, json.loads(STATUS)]]
    assert parts.refresh() == wanted
    assert parts.refresh() == []
    assert (parts.told(), parts.newest()) == (wanted, wanted)
    parts.market.outcomes[method] = QUIET_STATUS
    assert parts.refresh() == [[NAME, json.loads(QUIET_STATUS)]]
    assert parts.market.calls == [(method, params)] * 3


def test_a_status_changes_with_time_as_long_as_there_were_deals() -> None:
    parts = Parts(Channel.STATE)
    for status, poll_s in ((STATUS, BUSY_POLL_S), (QUIET_STATUS, QUIET_POLL_S), (STATUS, BUSY_POLL_S)):
        parts.market.outcomes["market.status"] = status
        parts.refresh()
        parts.now_s += SETTLE_S
        assert parts.feed.poll_s == poll_s


def test_a_deal_is_looked_for_again_because_its_own_second_does_not_have_it() -> None:
    parts = Parts(Channel.STATE)
    parts.market.outcomes["market.status"] = QUIET_STATUS
    parts.refresh()
    parts.now_s += SETTLE_S
    assert parts.feed.poll_s == QUIET_POLL_S
    parts.feed.needed_number = parts.market.number = NEEDED + 1
    parts.refresh()
    assert parts.feed.poll_s == BUSY_POLL_S
    parts.now_s += SETTLE_S
    assert parts.feed.poll_s == QUIET_POLL_S


def row(start: int, close: str = "1") -> list[Any]:
    return [start, "1", close, "1", "1", "2", "2", NAME]


def kline(interval: str = "60") -> Parts:
    return Parts(Channel.KLINE, interval=interval)


def test_a_kline_is_told_when_its_last_row_is_another_and_not_to_who_has_just_come() -> None:
    parts = kline()
    steps: list[tuple[list[Any], bool]] = [
        ([], False),
        ([row(0), row(60)], True),
        ([row(0, "3"), row(60)], False),
        ([row(60)], False),
        ([row(60, "2")], True),
        ([row(60, "2"), row(120, "2")], True),
    ]
    for rows, is_told in steps:
        parts.market.outcomes["market.kline"] = json.dumps(rows)
        assert parts.refresh() == ([rows] if is_told else []), rows
        assert parts.told() == []
    assert parts.newest() == [[row(60, "2"), row(120, "2")]]
    assert parts.market.calls[0] == ("market.kline", [NAME, 1_700_000_029, 1_700_000_030, 60])


KLINE_POLLS = [
    # interval, the last row's start, the time: when it is looked at again
    ("60", 1_700_000_000, 1_700_000_010.0, 50.0),
    ("60", 1_700_000_000, 1_700_000_059.5, BUSY_POLL_S),
    ("60", 1_700_000_000, 1_700_000_200.0, BUSY_POLL_S),
    ("1", 1_700_000_000, 1_700_000_000.0, BUSY_POLL_S),
    ("86400", 1_700_000_000, 1_700_000_000.0, QUIET_POLL_S),
    ("86400", 1_700_000_000, 1_700_086_390.0, 10.0),
]


@pytest.mark.parametrize(("interval", "start", "time_s", "poll_s"), KLINE_POLLS)
def test_a_kline_changes_when_its_next_row_begins(interval: str, start: int, time_s: float, poll_s: float) -> None:
    parts = kline(interval)
    assert parts.feed.poll_s == QUIET_POLL_S
    parts.market.outcomes["market.kline"] = json.dumps([row(start)])
    parts.refresh()
    parts.time_s = time_s
    assert parts.feed.poll_s == poll_s


# what market data does not know yet, or does not answer


OUTCOMES = {
    "market.last": '"8000.00000000"',
    "market.deals": "[]",
    "market.status": STATUS,
    "market.status_today": STATUS,
    "market.kline": json.dumps([row(60)]),
}


def asking(channel: Channel) -> Parts:
    parts = Parts(channel, interval="60")
    parts.market.outcomes |= OUTCOMES
    return parts


@pytest.mark.parametrize("channel", [Channel.PRICE, Channel.DEALS])
def test_what_is_behind_is_not_told(channel: Channel) -> None:
    parts = asking(channel)
    parts.market.number = NEEDED - 1
    for _ in range(2):
        with pytest.raises(Behind):
            parts.refresh()
    assert (parts.feed.is_known, parts.told()) == (False, [])
    parts.market.number = NEEDED
    assert parts.refresh() == ([[NAME, "8000.00000000"]] if channel is Channel.PRICE else [])


@pytest.mark.parametrize("channel", [Channel.STATE, Channel.TODAY, Channel.KLINE])
def test_what_is_behind_but_new_is_told_and_asked_again(channel: Channel) -> None:
    """Or else there might never be anything to tell, while there is trade."""
    parts = asking(channel)
    parts.market.number = NEEDED - 1
    assert len(parts.refresh()) == 1
    assert parts.feed.is_behind
    with pytest.raises(Behind):
        parts.refresh()
    parts.market.number = NEEDED
    assert parts.refresh() == []
    assert not parts.feed.is_behind


@pytest.mark.parametrize("channel", ASKING)
@pytest.mark.parametrize("fails", [NotConnected, TimedOut])
def test_whoever_refreshes_is_told_of_failures(channel: Channel, fails: Any) -> None:
    parts = asking(channel)
    parts.market.fails = fails
    with pytest.raises(fails):
        parts.refresh()
    assert (parts.told(), parts.newest()) == ([], [])


@pytest.mark.parametrize("channel", ASKING)
@pytest.mark.parametrize("code", BUSY)
def test_market_data_that_is_too_busy_is_asked_again(channel: Channel, code: Code) -> None:
    """What has changed might be told with the next deal only, or a minute later."""
    parts = asking(channel)
    before, parts.market.outcomes = parts.market.outcomes, dict.fromkeys(OUTCOMES, code)
    with pytest.raises(Busy):
        parts.refresh()
    parts.market.outcomes = before
    parts.refresh()


@pytest.mark.parametrize("channel", [Channel.STATE, Channel.TODAY, Channel.KLINE])
def test_what_is_refused_is_not_told(channel: Channel) -> None:
    parts = asking(channel)
    parts.market.outcomes.clear()
    assert parts.refresh() == []


# depth, book


def depth(limit: int = 2, interval: str = "0") -> Parts:
    parts = Parts(Channel.DEPTH, limit, interval)
    parts.exchange.books[BTCBCH.index] = ({3 * 10**8: 10**8, 4 * 10**8: 10**8}, {2 * 10**8: 10**8})
    return parts


WHOLE = [True, {"asks": [["3", "1"], ["4", "1"]], "bids": [["2", "1"]]}, NAME]


def test_depth_is_told_whole_and_then_what_changes() -> None:
    parts = depth()
    assert (parts.told(), parts.newest()) == ([], [])
    assert parts.refresh() == [WHOLE]
    assert (parts.told(), parts.newest()) == ([WHOLE], [WHOLE])
    assert parts.refresh() == []
    parts.exchange.books[BTCBCH.index][0][3 * 10**8] = 5 * 10**8
    assert parts.refresh() == [[False, {"asks": [["3", "5"]]}, NAME]]
    assert parts.told() == [[True, {"asks": [["3", "5"], ["4", "1"]], "bids": [["2", "1"]]}, NAME]]


def test_an_empty_book_is_told_too() -> None:
    parts = depth()
    parts.exchange.books.clear()
    assert parts.refresh() == [[True, {"asks": [], "bids": []}, NAME]]
    assert parts.refresh() == []


def test_once_a_minute_a_change_comes_as_the_whole() -> None:
    parts = depth()
    bids = parts.exchange.books[BTCBCH.index][1]
    found = []
    for later_s in (0.0, CLEAN_S - 1, 1.0, 1.0, CLEAN_S - 1, 3 * CLEAN_S, 1.0):
        parts.now_s += later_s
        bids[2 * 10**8] += 1
        found += [is_whole for is_whole, *_ in parts.refresh()]
    assert found == [True, False, True, False, True, True, False]
    parts.now_s += CLEAN_S
    assert parts.refresh() == []


@pytest.mark.parametrize(
    ("interval", "units"), [("0", 0), ("0.01", 10**6), ("1e-8", 1), ("1e-9", 0), ("-0", 0), ("0.010", 10**6)]
)
def test_depth_is_asked_with_its_limit_and_interval(interval: str, units: int) -> None:
    parts = depth(5, interval)
    parts.refresh()
    assert parts.exchange.asked == [{"kind": QueryKind.DEPTH, "market": 0, "limit": 5, "interval": units}]


@pytest.mark.parametrize("channel", [Channel.DEPTH, Channel.BOOK])
def test_without_the_exchange_nothing_is_told_and_nothing_forgotten(channel: Channel) -> None:
    parts = Parts(channel, 2, "0")
    parts.refresh()
    before = parts.newest()
    parts.exchange.fails = TimedOut
    with pytest.raises(TimedOut):
        parts.refresh()
    assert parts.newest() == before


def test_a_book_says_what_each_message_continues() -> None:
    parts = Parts(Channel.BOOK, 2)
    asks = {3 * 10**8: 10**8}
    parts.exchange.books[BTCBCH.index] = (asks, {})
    book, found = Book(), []
    for needed, price in ((NEEDED, 0), (12, 2), (12, 1), (12, 0), (13, 4), (11, 0), (20, 5)):
        parts.feed.needed_number = needed
        if price:
            asks[price * 10**8] = 10**8
        for name, update in parts.refresh():
            assert name == NAME
            book.apply(update)
            found.append((update["type"], update["sequence"], update.get("previous_sequence")))
    assert found == [("snapshot", NEEDED, None), ("delta", 12, NEEDED), ("delta", 13, 12)]
    assert [Decimal(price) for price, _ in book.asks] == [1, 2]
    late = Book()
    [(_, update)] = parts.told()
    late.apply(update)
    assert (late.sequence, late.asks) == (book.sequence, book.asks)


@pytest.mark.parametrize("channel", Channel)
def test_what_makes_a_feed_look_again_without_an_event(channel: Channel) -> None:
    if channel in KINDS:
        is_polled = Parts(channel, 5, "60").feed.poll_s < NEVER_S
        assert is_polled is (channel not in (Channel.PRICE, Channel.DEALS))
