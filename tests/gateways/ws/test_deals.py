"""The deals of a market: each told once, however events, market data and its answers overtake each other."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus.calls import Outcome
from bus.deals import deal_text
from bus.methods import Method
from gateways.link import NotConnected, TimedOut
from gateways.state import State
from gateways.ws.feeds import DEALS_AT_ONCE_MAX, DEALS_TOLD_COUNT, Behind, Deal, DealsFeed, Source
from gateways.ws.topics import Channel, Topic
from tests.gateways.making import BTCBCH

Act = str | tuple[str, list[str], list[str]]


def deal(number: int) -> Deal:
    return Deal(number, float(number), 10**8 + number, 10**8, 1 + number % 2)


def ids(messages: list[str]) -> list[list[int]]:
    """Of each message, as it stands there."""
    found = []
    for message in messages:
        name, deals = json.loads(message)["params"]
        assert name == BTCBCH.name
        assert deals == [json.loads(deal_text(BTCBCH, *deal(each["id"]))) for each in deals]
        found.append([each["id"] for each in deals])
    return found


@dataclass
class Flow:
    """An exchange on which the event of deal n is number n, whoever follows events, and market data."""

    made: int = 0  # deals
    taken: int = 0  # by who follows events
    known: int = 0  # to market data
    fails: type[NotConnected] | type[TimedOut] | None = None
    before: list[str] = field(default_factory=list)  # acts until the question has arrived
    after: list[str] = field(default_factory=list)  # acts until the answer is back
    feed: DealsFeed | None = None
    told: list[str] = field(default_factory=list)

    def join(self) -> DealsFeed:
        """Somebody follows the deals from now on."""
        source = Source(cast(State, None), self.answer, lambda: 0.0, lambda: 0.0, 0.1)
        self.feed = DealsFeed(Topic(Channel.DEALS, BTCBCH.name), source, self.taken)
        return self.feed

    def answer(self, method: Method, params: list[Any]) -> tuple[Outcome, int]:
        """market.deals [market, limit, last_id] (CONTRACT 4.5)."""
        (before, self.before), (after, self.after) = (self.before, []), (self.after, [])
        self.act(before)
        if self.fails is not None:
            raise self.fails
        assert method.name == "market.deals"
        market, limit, last_id = params
        assert market == BTCBCH.name
        newest = [deal_text(BTCBCH, *deal(number)) for number in range(self.known, last_id, -1)]
        known = self.known
        self.act(after)
        return f"[{', '.join(newest[:limit])}]", known

    def act(self, acts: Sequence[Act]) -> None:
        """Let things happen."""
        for each in acts:
            match each:
                case "make":
                    self.made += 1
                case "take" if self.taken < self.made:
                    self.taken += 1
                    if self.feed is not None:
                        self.feed.take(deal(self.taken), BTCBCH)
                case "know" if self.known < self.made:
                    self.known += 1
                case "know all":
                    self.known = self.made
                case "lose":  # what is between can't be had any more
                    self.taken = self.made
                    if self.feed is not None:
                        self.feed.needed_number = self.taken
                        self.feed.skip()
                case ("refresh", before, after):
                    self.before, self.after = [*before], [*after]
                    self.refresh()
                    self.before, self.after = [], []  # it may have had nothing to ask

    def refresh(self) -> bool:
        """Look at the feed; whether it had what it needs."""
        assert self.feed is not None
        try:
            self.told += self.feed.refresh(BTCBCH)
        except (Behind, NotConnected, TimedOut):
            return False
        return True

    def settle(self) -> None:
        """Let everything arrive."""
        self.act(["know all"] + ["take"] * (self.made - self.taken))
        assert self.refresh()


small = st.sampled_from(["make", "take", "take", "know", "know all"])
acts = small | st.tuples(st.just("refresh"), st.lists(small, max_size=4), st.lists(small, max_size=4))
losing = st.sampled_from(["make", "take", "know", "know all", "lose"])
losing_acts = losing | st.tuples(st.just("refresh"), st.lists(losing, max_size=4), st.lists(losing, max_size=4))


def check(before: Sequence[str], since: Sequence[Act]) -> None:
    flow = Flow()
    flow.act(["make", *before])
    flow.join()
    flow.act(since)
    flow.settle()
    assert flow.refresh()
    told = ids(flow.told)
    assert all(part for part in told)
    assert [number for part in told for number in reversed(part)] == [*range(1, flow.made + 1)]
    assert flow.feed is not None
    assert ids(flow.feed.told()) == [[*range(flow.made, 0, -1)]]


@settings(deadline=None)
@given(st.lists(small, max_size=8), st.lists(acts, max_size=12))
@example(["make", "know all"], [("refresh", [], []), "take", "take"])
@example(["make", "take"], [("refresh", [], ["take"]), "know all", ("refresh", [], [])])
@example([], [("refresh", ["make", "know all"], ["take", "make", "take"])])
def test_each_deal_is_told_once(before: list[str], since: list[Act]) -> None:
    check(before, since)


@settings(deadline=None)
@given(st.lists(small, max_size=8), st.lists(losing_acts, max_size=12))
@example(["know all"], [("refresh", [], ["make", "lose"])])
@example(["take", "know all"], [("refresh", [], ["make", "make", "lose", "make", "take"])])
def test_each_deal_is_told_once_though_events_are_lost(before: list[str], since: list[Act]) -> None:
    check(before, since)


def flowing(made: int) -> Flow:
    flow = Flow()
    flow.act(["make"] * made)
    flow.taken = flow.known = made
    return flow


def test_the_first_subscriber_gets_the_newest_hundred() -> None:
    flow = flowing(250)
    feed = flow.join()
    assert ids(feed.told()) == []
    flow.refresh()
    assert ids(flow.told) == [[*range(250, 250 - DEALS_TOLD_COUNT, -1)]]
    assert ids(feed.told()) == ids(flow.told)
    flow.act(["make", "take"])
    flow.told.clear()
    flow.refresh()
    assert ids(flow.told) == [[251]]
    assert ids(feed.told()) == [[*range(251, 251 - DEALS_TOLD_COUNT, -1)]]
    assert feed.newest() == feed.told()


def test_of_deals_whose_events_are_lost_all_come_from_market_data() -> None:
    flow = flowing(5)
    flow.join()
    flow.refresh()
    flow.act(["make"] * 3 * DEALS_TOLD_COUNT + ["know all", "lose"])
    flow.settle()
    assert [number for part in ids(flow.told) for number in reversed(part)] == [*range(1, flow.made + 1)]


def test_a_market_without_deals_is_silent_until_there_is_one() -> None:
    flow = flowing(0)
    feed = flow.join()
    assert flow.refresh()
    assert (flow.told, feed.told()) == ([], [])
    flow.act(["make", "take"])
    flow.refresh()
    assert ids(flow.told) == [[1]]


@pytest.mark.parametrize("count", [DEALS_AT_ONCE_MAX, DEALS_AT_ONCE_MAX + 1, 2 * DEALS_AT_ONCE_MAX + 500])
def test_many_deals_at_once_come_in_parts_each_newest_first(count: int) -> None:
    flow = flowing(0)
    feed = flow.join()
    flow.refresh()
    flow.act(["make", "take"] * count)
    flow.refresh()
    found = ids(flow.told)
    assert [len(part) for part in found[:-1]] == [DEALS_AT_ONCE_MAX] * (len(found) - 1)
    assert [number for part in found for number in reversed(part)] == [*range(1, count + 1)]
    assert all(part == sorted(part, reverse=True) for part in found)
    assert ids(feed.told()) == [[*range(count, count - DEALS_TOLD_COUNT, -1)]]


@pytest.mark.parametrize("fails", [NotConnected, TimedOut])
def test_deals_go_on_while_market_data_is_away(fails: Any) -> None:
    flow = flowing(5)
    flow.fails = fails
    flow.join()
    assert flow.refresh() is False
    flow.act(["make", "take"])
    assert flow.refresh()
    assert ids(flow.told) == [[6]]
    flow.fails = None
    flow.act(["make", "take", "make", "take"])
    flow.settle()
    assert ids(flow.told) == [[6], [8, 7]]


def test_deals_that_come_while_market_data_is_found_to_be_away_are_told_at_once() -> None:
    flow = flowing(5)
    flow.fails = TimedOut
    flow.join()
    flow.act([("refresh", ["make", "take", "make", "take"], [])])
    assert ids(flow.told) == [[7, 6]]


def test_deals_need_not_wait_for_market_data_to_catch_up_with_trade() -> None:
    """It needs to know what was before the subscription, not what is made now."""
    flow = flowing(5)
    flow.join()
    for _ in range(3):
        flow.act(["make", "take", "make", "take"])
        assert flow.refresh()
    assert [number for part in ids(flow.told) for number in reversed(part)] == [*range(1, 12)]
