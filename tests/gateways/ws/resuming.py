"""A real event log, who follows it, and a client that comes back to go on from an event."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from bus.calls import Outcome
from bus.eventlog import Reader, Writer
from bus.messages import UPDATE_EVENT, EventKind
from conf.settings import Ws
from gateways.state import State
from gateways.ws.connection import Connection
from gateways.ws.feeds import Source
from gateways.ws.metrics import Metrics
from gateways.ws.own import balances, followers_of, push_balances, push_order
from gateways.ws.publisher import Publisher
from gateways.ws.resume import Resumer
from gateways.ws.topics import Channel, Topic
from tests.gateways.making import BTCBCH, CATALOG
from tests.gateways.ws.making import (
    BCH,
    BTC,
    LOOKS_LIKE_USER,
    FakeExchange,
    FakeFollower,
    FakeMarketData,
    balance_event,
    deal_event,
    frame_of,
    order_event,
)

ME, OTHER = LOOKS_LIKE_USER, 8
COUNT_MAX = 10_000
FAR = 1 << 40
ORDERS = frozenset({Topic(Channel.ORDER, BTCBCH.name)})
BALANCES = frozenset(Topic(Channel.ASSET, asset.name) for asset in (BTC, BCH))


class Resuming:
    """An event log, who follows it, and a client that comes back."""

    def __init__(self, directory: Path, *, segment_size: int = 1 << 20, keep_segments_count: int = 64) -> None:
        self.writer = Writer(directory, segment_size=segment_size, keep_segments_count=keep_segments_count)
        self.exchange, self.metrics = FakeExchange(), Metrics()
        source = Source(cast(State, self.exchange), FakeMarketData(), lambda: 0.0, lambda: 0.0, 0.1)
        self.publisher = Publisher(Ws(), source, self.metrics)
        state, past = cast(State, self.exchange), partial(Reader, directory)
        self.resumer = Resumer(state, self.publisher, self.metrics, past, COUNT_MAX)
        self.client = FakeFollower(ME)
        self.events: list[Any] = []  # all that are in the log
        self._balances_number = 0

    def close(self) -> None:
        self.writer.close()

    def write(self, *events: Callable[[int], Any]) -> None:
        """A frame of events, each made of its number; balances are the number of the event that changed them last."""
        first = self.writer.last_number + 1
        made = [event(first + place) for place, event in enumerate(events)]
        self.writer.append(frame_of(*made))
        self.writer.mark_durable(self.writer.last_number)
        self.events += made
        for event in made:
            number = int(event["number"][0])
            for user_id, asset in changes(event):
                prec = 10 ** CATALOG.asset_by_index[asset].prec_save
                self.exchange.balances.setdefault(user_id, {})[asset] = (number * prec, 0)

    def pump(self, until_number: int = FAR) -> None:
        """Do what the loop of events does: go on to an event, and tell those who follow."""
        number = self.publisher.event_number
        self.publisher.event_number = min(max(number, until_number), self.writer.durable_number)
        assets: dict[str, None] = {}
        for event in self.events[number : self.publisher.event_number]:
            if event["kind"][0] <= EventKind.ORDER_FINISH and event["order"]["user_id"][0] == ME:
                told = followers_of(self.publisher.users.get(ME, {}), Channel.ORDER, BTCBCH.name)
                push_order(told if event["market"][0] == BTCBCH.index else [], event, CATALOG)
            assets |= {CATALOG.asset_by_index[asset].name: None for user, asset in changes(event) if user == ME}
        for asset in assets:
            if told := followers_of(self.publisher.users.get(ME, {}), Channel.ASSET, asset):
                texts = balances(cast(State, self.exchange), ME, [asset])
                before = self.publisher.event_number if asset == [*assets][-1] else self._balances_number
                push_balances(told, texts, before, before)
        self._balances_number = self.publisher.event_number

    def follow(self, channel: Channel, after: int | None, topics: frozenset[Topic] | None = None) -> Outcome:
        topics = topics if topics is not None else ORDERS if channel is Channel.ORDER else BALANCES
        return self.resumer.follow(cast(Connection, self.client), channel, topics, after)

    def sequence(self, channel: Channel, after: int | None) -> int:
        """The number of a reply that must be a good one."""
        outcome = self.follow(channel, after)
        assert isinstance(outcome, str), outcome
        reply = json.loads(outcome)
        assert [*reply] == ["status", "sequence"]
        return int(reply["sequence"])

    def numbers(self) -> list[int]:
        """Of the order.update that came, whose orders have the same as their id."""
        found = []
        for message in self.client.take():
            _, order, number = message["params"]
            assert order["id"] == number
            found.append(number)
        return found

    def is_registered(self) -> bool:
        return ME in self.publisher.users


def changes(event: Any) -> list[tuple[int, int]]:
    """Users and assets whose balances an event changes."""
    if event["kind"][0] == EventKind.BALANCE_UPDATE:
        update = event.view(UPDATE_EVENT)
        return [(int(update["user_id"][0]), int(update["asset"][0]))]
    if event["kind"][0] == EventKind.DEAL:
        return []
    market = CATALOG.market_by_index[event["market"][0]]
    return [(int(event["order"]["user_id"][0]), asset.index) for asset in (market.stock, market.money)]


def mine(number: int) -> Any:
    return order_event(number, ME)


def others(number: int) -> Any:
    return order_event(number, OTHER)


def of_another_market(number: int) -> Any:
    return order_event(number, ME, market=1)


def update(asset: int) -> Callable[[int], Any]:
    return lambda number: balance_event(number, ME, asset)


def with_my_number(number: int) -> Any:
    """A deal, or a balance update of another user: where an order has its user, they have my number."""
    return deal_event(number) if number % 2 else balance_event(number, OTHER, 0)
