"""Sessions as text that a trader can read: what was asked, and below it everything that came of it.

    > ann sells 1.5 at 8000
    put 1: ann sells 1.5 at 8000, left 1.5
    > bob buys 1 at 8000
    deal 1: 1 at 8000, ann 1 to bob 2
    update 1: ann sells 1.5 at 8000, left 0.5, traded 1 for 8000, fee 8
    finish 2: bob buys 1 at 8000, left 0, traded 1 for 8000, fee 0.002
    > balances bob
    BTC 0.998 frozen -

`play` takes the lines that begin with `>`, and returns the whole text as an exchange makes it; a test holds it equal to
what was written. All numbers are exact; `-` is an entry that does not exist, where 0 is one that holds zero.
"""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from bus.codes import Code
from bus.messages import CommandKind, EventKind, OrderType, Presence, Side
from conf.markets import Listing, Market
from tests.reference.exact import from_units, to_units
from tests.reference.exchange import Applied
from tests.reference.records import Command, Record, cancel, limit, market_order, update

USERS = ("ann", "bob", "cat", "dan", "eve")  # ids from 1
PAGE_MAX = 101
VERBS = {"sells": Side.ASK, "buys": Side.BID}
EVENT_NAMES = {EventKind.ORDER_PUT: "put", EventKind.ORDER_UPDATE: "update", EventKind.ORDER_FINISH: "finish"}


class Venue(Protocol):
    """What a transcript is played to: the twin, or the engine behind a driver."""

    def apply(self, commands: list[Command], now: float) -> Applied: ...
    def book(self, market: int, side: int, offset: int, limit: int) -> tuple[list[Record], int]: ...
    def pending(self, market: int, user_id: int, offset: int, limit: int) -> tuple[list[Record], int]: ...
    def depth(self, market: int, limit: int, interval_units: int) -> tuple[list[Record], list[Record]]: ...
    def balances(self, user_id: int) -> list[Record]: ...


def play(venue: Venue, listing: Listing, script: str) -> str:
    """The transcript of the questions in `script`."""
    return "\n".join(_Session(venue, listing).lines(script)) + "\n"


def tidy(script: str) -> str:
    """A transcript without indentation, empty lines, comments (`# ...`) and broken lines (`\\`), as `play` makes it."""
    lines = (" ".join(line.partition("#")[0].split()) for line in script.replace("\\\n", " ").splitlines())
    return "\n".join(line for line in lines if line) + "\n"


class _Session:
    def __init__(self, venue: Venue, listing: Listing) -> None:
        self.venue = venue
        self.listing = listing
        self.market_index = 0
        self.taker_rate = self.maker_rate = Decimal(0)
        self.time = 1_000_000.0
        self.business_id = 0
        self.assets = [asset.name for asset in listing.assets]

    def lines(self, script: str) -> Iterator[str]:
        for line in tidy(script).splitlines():
            if line.startswith("> "):
                yield line
                yield from self._ask(line.removeprefix("> "))

    @property
    def market(self) -> Market:
        return self.listing.markets[self.market_index]

    def _ask(self, line: str) -> list[str]:
        for pattern, answer in self._questions.items():
            if match := re.fullmatch(pattern, line):
                return list(answer(self, *match.groups()))
        raise AssertionError(f"not understood: {line}")

    def _use_market(self, name: str) -> list[str]:
        self.market_index = [market.name for market in self.listing.markets].index(name)
        return []

    def _use_rates(self, taker: str, maker: str) -> list[str]:
        self.taker_rate, self.maker_rate = Decimal(taker), Decimal(maker)
        return []

    def _pass_time(self, seconds: str) -> list[str]:
        self.time += float(seconds)
        return []

    def _update(self, user: str, verb: str, amount: str, asset: str, business: str, number: str) -> list[str]:
        self.business_id += 1
        index = self.assets.index(asset)
        change = to_units(Decimal(amount), self.listing.assets[index].prec_show)
        return self._do(
            update(
                user_id(user),
                index,
                change if verb == "gets" else -change,
                int(number) if number else 1_000_000 + self.business_id,
                (business or "script").encode(),
            )
        )

    def _limit(self, user: str, verb: str, amount: str, price: str) -> list[str]:
        market = self.market
        return self._do(
            limit(
                user_id(user),
                self.market_index,
                VERBS[verb],
                to_units(Decimal(amount), market.stock_prec),
                to_units(Decimal(price), market.money_prec),
                to_units(self.taker_rate, market.fee_prec),
                to_units(self.maker_rate, market.fee_prec),
            )
        )

    def _market_order(self, user: str, verb: str, amount: str) -> list[str]:
        amount_units = to_units(Decimal(amount), self.market.stock_prec)
        rate_units = to_units(self.taker_rate, self.market.fee_prec)
        return self._do(market_order(user_id(user), self.market_index, VERBS[verb], amount_units, rate_units))

    def _cancel(self, user: str, order_id: str) -> list[str]:
        return self._do(cancel(user_id(user), self.market_index, int(order_id)))

    def _do(self, command: Command) -> list[str]:
        applied = self.venue.apply([command], self.time)
        code = Code(applied.results[0]["code"])
        if code != Code.OK:
            return [f"refused: {code.name.lower().replace('_', ' ')}"]
        shown = [self._event(event) for event in applied.events]
        if command.kind != CommandKind.UPDATE_BALANCE:
            last = applied.events[-1]["order"]
            assert applied.results[0]["order"] == last, "the reply shows the order of the last event"
        return shown

    def _event(self, event: Record) -> str:
        if event["kind"] == EventKind.BALANCE_UPDATE:
            asset = self.listing.assets[event["asset"]]
            return f"total {text(event['total_units'], asset.prec_save)} {asset.name}"
        market = self.listing.markets[event["market"]]
        if event["kind"] == EventKind.DEAL:
            amount = text(event["amount_units"], market.stock_prec)
            price = text(event["price_units"], market.money_prec)
            ask, bid = (f"{user_name(event[f'{side}_user_id'])} {event[f'{side}_order_id']}" for side in ("ask", "bid"))
            return f"deal {event['deal_id']}: {amount} at {price}, {ask} to {bid}"
        return f"{EVENT_NAMES[event['kind']]} {order_line(event['order'], market)}"

    def _book(self) -> Iterator[str]:
        asks, _ = self.venue.book(self.market_index, Side.ASK, 0, PAGE_MAX)
        bids, _ = self.venue.book(self.market_index, Side.BID, 0, PAGE_MAX)
        for name, orders in (("ask", reversed(asks)), ("bid", iter(bids))):
            for order in orders:
                price = text(order["price_units"], self.market.money_prec)
                left = text(order["left_units"], self.market.stock_prec)
                yield f"{name} {price} {left} {user_name(order['user_id'])} {order['id']}"

    def _pending(self, user: str, offset: str, count: str) -> Iterator[str]:
        orders, total = self.venue.pending(self.market_index, user_id(user), int(offset), int(count))
        for order in orders:
            yield order_line(order, self.market)
        yield f"of {total}"

    def _depth(self, count: str, interval: str) -> Iterator[str]:
        interval_units = to_units(Decimal(interval), self.market.money_prec)
        asks, bids = self.venue.depth(self.market_index, int(count), interval_units)
        for name, levels in (("ask", reversed(asks)), ("bid", iter(bids))):
            for level in levels:
                price = text(level["price_units"], self.market.money_prec)
                yield f"{name} {price} {text(level['left_units'], self.market.stock_prec)}"

    def _balances(self, user: str) -> Iterator[str]:
        for row in self.venue.balances(user_id(user)):
            asset = self.listing.assets[row["asset"]]
            available, freeze = (
                "-" if row[f"{name}_state"] == Presence.ABSENT else text(row[f"{name}_units"], asset.prec_save)
                for name in ("available", "freeze")
            )
            yield f"{asset.name} {available} frozen {freeze}"

    _questions: ClassVar[dict[str, Callable[..., Any]]] = {
        r"market (\w+)": _use_market,
        r"rates (\S+) (\S+)": _use_rates,
        r"wait (\S+)": _pass_time,
        r"(\w+) (gets|gives) (\S+) (\w+)(?: as (\w+) (\d+))?": _update,
        r"(\w+) (sells|buys) (\S+) at (\d\S*)": _limit,
        r"(\w+) (sells) (\S+) at market": _market_order,
        r"(\w+) (buys) for (\S+) at market": _market_order,
        r"(\w+) cancels (\d+)": _cancel,
        r"book": _book,
        r"pending (\w+) from (\S+) count (\S+)": _pending,
        r"depth (\d+) by (\S+)": _depth,
        r"balances (\w+)": _balances,
    }


def user_id(name: str) -> int:
    """The id of a user in transcripts."""
    return USERS.index(name) + 1


def user_name(number: int) -> str:
    """The user of an id."""
    return USERS[number - 1]


def text(units: int, places: int) -> str:
    """A number without needless zeros."""
    shown = format(from_units(units, places), "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def order_line(order: Record, market: Market) -> str:
    """An order with what it has traded so far."""
    deal_places = market.stock_prec + market.money_prec
    fee_places = (deal_places if order["side"] == Side.ASK else market.stock_prec) + market.fee_prec
    amount, left = text(order["amount_units"], market.stock_prec), text(order["left_units"], market.stock_prec)
    verb, at = "sells" if order["side"] == Side.ASK else "buys", text(order["price_units"], market.money_prec)
    if order["type"] == OrderType.MARKET:
        at = "market"
        if order["side"] == Side.BID:
            left = text(order["amount_units"] * 10**market.money_prec - order["deal_money_units"], deal_places)
            verb = "buys for"
    line = f"{order['id']}: {user_name(order['user_id'])} {verb} {amount} at {at}, left {left}"
    if order["deal_stock_units"]:
        line += f", traded {text(order['deal_stock_units'], market.stock_prec)}"
        line += f" for {text(order['deal_money_units'], deal_places)}, fee {text(order['deal_fee_units'], fee_places)}"
    return line
