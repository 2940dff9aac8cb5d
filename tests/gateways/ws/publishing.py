"""A publisher that runs over stand-ins, and is told of events by hand."""

from typing import Any, cast

from conf.settings import Ws
from gateways.state import State
from gateways.ws.feeds import Deal, Source
from gateways.ws.metrics import Metrics
from gateways.ws.publisher import Publisher
from gateways.ws.topics import Channel, Topic
from tests.gateways.making import BTCBCH, CATALOG
from tests.gateways.ws.making import FakeExchange, FakeFollower, FakeMarketData

INTERVALS = ("price", "state", "today", "kline", "depth", "book")


def topic(channel: Channel, name: str = BTCBCH.name) -> Topic:
    """One of a market, with whatever else the channel needs."""
    match channel:
        case Channel.DEPTH:
            return Topic(channel, name, 5, "0")
        case Channel.BOOK:
            return Topic(channel, name, 5)
        case Channel.KLINE:
            return Topic(channel, name, interval="60")
        case _:
            return Topic(channel, name)


class Publishing:
    """A publisher that runs, and what is around it."""

    def __init__(self, interval_ms: int = 1) -> None:
        self.exchange, self.market, self.metrics = FakeExchange(), FakeMarketData(), Metrics()
        self.market.outcomes = {"market.deals": "[]", "market.last": '"0"', "market.kline": "[]"}
        source = Source(cast(State, self.exchange), self.market, lambda: 1_700_000_000.0, lambda: 0.0, 0.1)
        intervals = {f"{name}_interval_ms": interval_ms for name in INTERVALS}
        self.publisher = Publisher(Ws(**cast(Any, intervals)), source, self.metrics)
        self.publisher.start()

    def close(self) -> None:
        self.publisher.check()
        self.publisher.stop()

    def follow(self, *topics: Topic, follower: FakeFollower | None = None) -> FakeFollower:
        """A client that follows these topics of a channel, and is told at once what is known."""
        made = follower or FakeFollower()
        self.publisher.change(made, topics[0].channel, frozenset(topics), topics)
        return made

    def end(self, follower: FakeFollower, channel: Channel) -> None:
        self.publisher.change(follower, channel, frozenset())

    def touch(self, name: str = BTCBCH.name, *deals: int) -> None:
        """An event comes, with deals of these prices."""
        self.publisher.event_number += 1
        market = CATALOG.market_by_name[name]
        number = self.publisher.event_number
        self.publisher.touch(name, [(Deal(number + at, 1.0, price, 1, 1), market) for at, price in enumerate(deals)])

    def set_ask(self, price: int, amount: int, market: int = 0) -> None:
        self.exchange.books.setdefault(market, ({}, {}))[0][price * 10**8] = amount * 10**8

    def has_nothing_left(self) -> bool:
        """Whether nobody follows anything."""
        made = self.publisher
        rests: list[Any] = [made._feeds, made._followers, made._of_market, made.users, made._unsent]
        rests += [each for lane in made._lanes.values() for each in (lane.feeds, lane.urgent, lane.asked)]
        return not any(rests) and self.metrics._registry.get_sample_value("ws_topics") == 0
