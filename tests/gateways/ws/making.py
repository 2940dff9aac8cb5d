"""What tests of the WebSocket gateway are made with: stand-ins for a client, for the exchange and for market data."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from time import monotonic
from typing import Any

import gevent
import numpy as np

from bus.calls import Outcome
from bus.catalog import Catalog
from bus.codes import Code
from bus.messages import (
    BALANCE_VIEW,
    DEAL_EVENT,
    EVENT,
    LEVEL_VIEW,
    UPDATE_EVENT,
    EventKind,
    FrameKind,
    Presence,
    QueryKind,
    Records,
    pack,
)
from bus.methods import Method
from bus.text import halves
from engine.views import Answered
from gateways.link import NotConnected, TimedOut
from gateways.ws.frames import Message
from gateways.ws.session import Change, Follow, Rules, Session, Todo
from gateways.ws.topics import Topic
from tests.gateways.making import CATALOG, order_record

PATIENCE_S = 10.0  # for what takes a moment: a loaded machine may stall for seconds
LOOK_S = 0.002
RULES = Rules(
    depth_limits=frozenset({1, 5, 10}),
    depth_intervals=frozenset(map(Decimal, ("0", "0.00000001", "0.01"))),
    subscription_count_max=1_000,
)
BTC, BCH, SAT = (CATALOG.asset_by_name[name] for name in ("BTC", "BCH", "SAT"))

LOOKS_LIKE_USER = 7  # stands in other events where an order has its user

Side = dict[int, int]  # amount by price, in units
Failure = type[NotConnected] | type[TimedOut] | None


def nothing() -> None:
    """Happens when nothing else does."""


def session(user_id: int = 0, subscription_count_max: int = 1_000) -> Session:
    """One of a user, or of nobody."""
    return Session(replace(RULES, subscription_count_max=subscription_count_max), user_id)


def ask(asking: Session, method: str, params: Any) -> Todo:
    """What a request leads to."""
    request_id, todo = asking.take(json.dumps({"id": 5, "method": method, "params": params}).encode())
    assert request_id == 5
    return todo


def do(asking: Session, method: str, params: Any) -> Todo:
    """The same, and its owner does what it says."""
    todo = ask(asking, method, params)
    if isinstance(todo, Change):
        asking.keep(todo.channel, todo.topics)
    elif isinstance(todo, Follow):
        asking.keep(todo.channel, todo.topics, is_numbered=True)
    return todo


class FakeFollower:
    """A client that takes everything at once, unless it `is_behind`; `messages` are the objects it was pushed."""

    def __init__(self, user_id: int = 0) -> None:
        self.session = Session(RULES, user_id)
        self.out: list[bytes] = []
        self.takes_plain = True
        self.held: dict[Topic, None] = {}
        self.is_behind = False
        self.is_closed = self.is_ended = False
        self.backlog_size = 0
        self.messages: list[Message] = []
        self.closes: list[tuple[int, str]] = []
        self.sent: list[bytes] = []
        self.on_flush: Callable[[], None] = nothing

    def push(self, message: Message) -> None:
        if not self.is_ended:
            self.messages.append(message)
            self.out.append(message.plain)

    def flush(self) -> None:
        self.sent += self.out
        self.out = []
        self.on_flush()

    def close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))

    @property
    def told(self) -> list[Any]:
        """The messages that were sent, decoded."""
        return [json.loads(payload(frame)) for frame in self.sent]

    def take(self) -> list[Any]:
        """The same; afterwards they are forgotten."""
        self.flush()
        told, self.sent = self.told, []
        return told


def payload(frame: bytes) -> bytes:
    """What is in a whole frame of a server."""
    size, start = frame[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(frame[2:start], "big")
    assert len(frame) == start + size
    return frame[start:]


def wait(is_there: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Let the loop run until it is there."""
    end_s = monotonic() + patience_s
    while not is_there():
        assert monotonic() < end_s, "it does not come"
        gevent.sleep(LOOK_S)


@dataclass
class FakeExchange:
    """The matcher's state: books and balances that a test sets. `meanwhile` is called before each look."""

    books: dict[int, tuple[Side, Side]] = field(default_factory=dict)  # asks and bids, by index of the market
    balances: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)  # by user and asset, in 10^-prec_save
    listed: Catalog = CATALOG
    fails: Failure = None
    meanwhile: Callable[[], None] = nothing
    asked: list[dict[str, int]] = field(default_factory=list)

    def catalog(self, *, is_fresh: bool = False) -> Catalog:
        self.meanwhile()
        if self.fails:
            raise self.fails
        return self.listed

    def answer(self, kind: QueryKind, **asked: int) -> Answered:
        self.asked.append({"kind": kind, **asked})
        self.meanwhile()
        if self.fails:
            raise self.fails
        if kind == QueryKind.BALANCES:
            return Answered(balance_records(self.balances.get(asked["user_id"], {})), 0)
        assert kind == QueryKind.DEPTH
        asks, bids = (window(side, asked["limit"], is_bid=bool(place)) for place, side in enumerate(self._book(asked)))
        return Answered(level_records([*asks.items(), *bids.items()]), len(asks))

    def _book(self, asked: dict[str, int]) -> tuple[Side, Side]:
        return self.books.get(asked["market"], ({}, {}))


def window(side: Side, limit: int, *, is_bid: bool) -> Side:
    """The best levels of a side, best first."""
    return {price: side[price] for price in sorted(side, reverse=is_bid)[:limit]}


def level_records(levels: Iterable[tuple[int, int]]) -> Records:
    """LEVEL_VIEW of prices and amounts in units."""
    return np.array([(price, halves(amount)) for price, amount in levels], LEVEL_VIEW)


def balance_records(balances: dict[int, tuple[int, int]]) -> Records:
    """BALANCE_VIEW of available and frozen units by asset."""
    rows = [
        (asset, Presence.PRESENT, Presence.PRESENT, halves(available), halves(freeze))
        for asset, (available, freeze) in balances.items()
    ]
    return np.array(rows, BALANCE_VIEW)


@dataclass
class FakeMarketData:
    """Market data: an outcome for each method, and the last event that they take into account."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    number: int = 0
    fails: Failure = None
    meanwhile: Callable[[], None] = nothing  # while the answer is on its way
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)

    def __call__(self, method: Method, params: list[Any]) -> tuple[Outcome, int]:
        self.calls.append((method.name, params))
        outcome, number = self.outcomes.get(method.name, Code.INVALID_ARGUMENT), self.number
        self.meanwhile()
        if self.fails:
            raise self.fails
        return outcome, (0 if isinstance(outcome, Code) else number)


def order_event(number: int, user_id: int, kind: EventKind = EventKind.ORDER_PUT, market: int = 0) -> Any:
    """An event of an order, whose id is its number."""
    row = np.zeros(1, EVENT)
    row["number"], row["kind"], row["market"], row["time"] = number, kind, market, float(number)
    row["order"] = order_record(id=number, user_id=user_id, market=market, amount_units=5, left_units=5)
    return row


def balance_event(number: int, user_id: int, asset: int) -> Any:
    """A balance update."""
    row = np.zeros(1, UPDATE_EVENT)
    row["number"], row["kind"], row["time"] = number, EventKind.BALANCE_UPDATE, float(number)
    row["user_id"], row["asset"], row["business_id"] = user_id, asset, LOOKS_LIKE_USER
    return row.view(EVENT)


def deal_event(number: int, market: int = 0, price_units: int = 1, amount_units: int = 1, taker_side: int = 1) -> Any:
    """A deal, whose id is its number."""
    row = np.zeros(1, DEAL_EVENT)
    row["number"] = row["deal_id"] = number
    row["kind"], row["market"], row["time"], row["taker_side"] = EventKind.DEAL, market, float(number), taker_side
    row["price_units"], row["amount_units"] = price_units, amount_units
    row["ask_order_id"] = row["bid_order_id"] = LOOKS_LIKE_USER
    return row.view(EVENT)


def frame_of(*events: Any) -> bytes:
    """A frame of events, whose numbers follow each other."""
    records = np.concatenate([event.view(np.int64) for event in events]).view(EVENT)
    return pack(FrameKind.EVENTS, records, first=int(records["number"][0]))
