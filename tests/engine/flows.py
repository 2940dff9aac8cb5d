"""Flows of commands to play to the engine and the twin: traders who mostly know what they do, and now and then don't.

`make_intent` needs nothing but a function that picks one of n, so that Hypothesis (which shrinks) and a seeded
generator (which is quick) make flows by the same rules. An intent becomes a command when it is played, because what
is worth asking depends on the state: cancels name orders that rest, sellers sell what they have.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st

from bus.messages import UNITS_MAX, CommandKind, Side
from conf.markets import Listing, parse
from tests.reference.exact import ZERO, exactly, from_units
from tests.reference.exchange import Twin
from tests.reference.records import Command, cancel, limit, market_order, update

USERS = (1, 2, 3, 2**32 - 1)
POOR_USER = 3  # what he sells is the first money he gets, and a fee may round all of it away
POOR_USERS_ASSETS = ("BTC", "XYZ")
START_S = 1_700_000_000.25
BUSINESS_IDS = 6  # few, so that updates repeat
BLOB_SIZE = 64

Pick = Callable[[int], int]  # one of 0 .. n-1


class Habit(NamedTuple):
    """What traders of a market do: amounts are some lots, prices some ticks around a middle."""

    lot_units: int
    tick_units: int
    middle_units: int


def _market(name: str, stock: str, money: str, precs: tuple[int, int, int], min_amount: str) -> dict[str, Any]:
    stock_prec, money_prec, fee_prec = precs
    return {
        "name": name,
        "stock": {"name": stock, "prec": stock_prec},
        "money": {"name": money, "prec": money_prec},
        "fee_prec": fee_prec,
        "min_amount": min_amount,
    }


LISTING = parse({
    "assets": [
        {"name": name, "prec_save": prec_save, "prec_show": prec_show}
        for name, prec_save, prec_show in (
            ("USD", 20, 8), ("BTC", 20, 8), ("ETH", 12, 8), ("BCH", 16, 8), ("SAT", 12, 4),
            ("XYZ", 12, 8), ("USDT", 12, 12), ("PIP", 2, 0), ("COIN", 2, 1),
        )
    ],
    "markets": [
        _market("BTCUSD", "BTC", "USD", (8, 8, 4), "0.001"),
        _market("ETHUSD", "ETH", "USD", (4, 2, 4), "0.01"),
        _market("BTCBCH", "BTC", "BCH", (8, 8, 6), "0.0001"),  # fees have 6 decimals more than BCH
        _market("SATUSD", "SAT", "USD", (2, 6, 4), "1"),
        _market("XYZUSDT", "XYZ", "USDT", (4, 8, 4), "0.00001"),  # 4 more than USDT, and a minimum below one unit
        _market("PIPCOIN", "PIP", "COIN", (0, 0, 2), "0"),
        _market("BTCUSDT", "BTC", "USDT", (0, 12, 0), "0.5"),  # whole, without fees, a minimum between two amounts
    ],
})  # fmt: skip

HABITS = (
    Habit(lot_units=10**7, tick_units=5 * 10**7, middle_units=8000 * 10**8),
    Habit(lot_units=10**3, tick_units=1, middle_units=250_00),
    Habit(lot_units=12_345, tick_units=3, middle_units=77_777_777),
    Habit(lot_units=100, tick_units=10**3, middle_units=1_234_567),
    Habit(lot_units=3, tick_units=1, middle_units=7),  # deals of a few units: fees that rounding makes whole
    Habit(lot_units=1, tick_units=1, middle_units=8),
    Habit(lot_units=1, tick_units=10**6, middle_units=10**10),
)
assert len(HABITS) == len(LISTING.markets)

WAITS_S = (0.0, 0.000001, 1.5, -10.0, 86_399.999, 86_400.0, 100_000.0)
VERBS = ("limit",) * 14 + ("market",) * 5 + ("cancel",) * 2 + ("update",) * 3 + ("hostile",) * 2

HOSTILE_NUMBERS = (0, -1, 1, UNITS_MAX, UNITS_MAX + 1, 2**63 - 1, -(2**63))
HOSTILE_VALUES: dict[str, tuple[Any, ...]] = {
    "kind": (0, -1, 127, -128, CommandKind.CONFIGURE, 6),
    "side": (0, 3, -1, 127, -128),
    "text_size": (-1, -128, 31, 32, 33, 127),
    "market": (-1, len(LISTING.markets), 2**31 - 1, -(2**31)),
    "asset": (-1, len(LISTING.assets), 2**31 - 1, -(2**31)),
    "detail_offset": (-1, 1, BLOB_SIZE, BLOB_SIZE + 1, 2**31 - 1, -(2**31)),
    "detail_size": (-1, BLOB_SIZE, BLOB_SIZE + 1, 2**31 - 1, -(2**31)),
    "user_id": (0, -1, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, -(2**63)),
    "subject_id": (0, -1, 2**63 - 1, -(2**63)),
    "amount_units": HOSTILE_NUMBERS,
    "price_units": HOSTILE_NUMBERS,
    "taker_rate_units": (-1, 10**2, 10**4, 10**6, 10**8, 2**63 - 1, -(2**63)),
    "maker_rate_units": (-1, 10**2, 10**4, 10**6, 10**8, 2**63 - 1, -(2**63)),
    "change_units": (0, 10**25, 10**25 + 1, 10**37, 10**37 + 1, -(10**37) - 1, 2**127 - 1, -(2**127), 2**64, -(2**64)),
    "text": (
        b"a\0b", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80",
        b"'; drop --", "Müller ☃ 日本".encode(), b"x" * 30, b"\xf0\x9f\x98\x80" * 7 + b"\xf0\x9f",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Intent:
    """What a trader is about to do; the numbers choose among what is possible then."""

    verb: str
    user_id: int
    market: int
    side: int
    price: tuple[int, int]
    amount: tuple[int, int]
    taker_rate: int
    maker_rate: int
    pick: int
    spoil: tuple[str, int]


@dataclass(frozen=True)
class Step:
    """A batch of intents, and how long after the last one it comes."""

    wait_s: float
    intents: tuple[Intent, ...]


def make_intent(pick: Pick, markets: int = len(HABITS)) -> Intent:
    """One intent in the first so many markets."""
    spoiled = tuple(HOSTILE_VALUES)[pick(len(HOSTILE_VALUES))]
    return Intent(
        verb=VERBS[pick(len(VERBS))],
        user_id=USERS[pick(len(USERS))],
        market=pick(markets),
        side=(Side.ASK, Side.BID)[pick(2)],
        price=(pick(13), pick(9) - 4),
        amount=(pick(10), 1 + pick(9)),
        taker_rate=pick(5),
        maker_rate=pick(5),
        pick=pick(64),
        spoil=(spoiled, pick(len(HOSTILE_VALUES[spoiled]))),
    )


@st.composite
def flows(draw: st.DrawFn, steps_max: int = 12, markets: int = len(HABITS)) -> list[Step]:
    """Flows for Hypothesis."""

    def pick(count: int) -> int:
        return draw(st.integers(0, count - 1))

    focus = 1 + pick(markets)
    return [
        Step(WAITS_S[max(0, pick(12) - 5)], tuple(make_intent(pick, focus) for _ in range(1 + pick(6))))
        for _ in range(1 + pick(steps_max))
    ]


def random_flow(seed: int, steps: int, batch_max: int, markets: int = len(HABITS)) -> Iterator[Step]:
    """The same from a seeded generator."""
    pick = Random(seed).randrange
    for _ in range(steps):
        wait = WAITS_S[max(0, pick(40) - 33)]
        yield Step(wait, tuple(make_intent(pick, markets) for _ in range(1 + pick(batch_max))))


@exactly
def funding(listing: Listing = LISTING, lots: int = 300) -> list[Command]:
    """Balance updates that give users what so many lots of every market need; one user has nothing but stocks."""
    needed = {asset.name: Decimal(0) for asset in listing.assets}
    for market, habit in zip(listing.markets, HABITS, strict=True):
        stock = from_units(habit.lot_units * lots, market.stock_prec)
        needed[market.stock] += stock
        needed[market.money] += stock * from_units(habit.middle_units, market.money_prec)
    return [
        update(user, index, 1 + int(needed[asset.name].scaleb(asset.prec_show)), 10**6, b"fund")
        for user in USERS
        for index, asset in enumerate(listing.assets)
        if user != POOR_USER or asset.name in POOR_USERS_ASSETS
    ]


@exactly
def to_command(intent: Intent, twin: Twin, number: int) -> Command:
    """What an intent comes to in the state that the twin is in; `number` is the client's request id."""
    makers: dict[str, Callable[[Intent, Twin], Command]] = {
        "limit": _limit,
        "market": _market_order,
        "cancel": _cancel,
        "update": _update,
        "hostile": _hostile,
    }
    return replace(makers[intent.verb](intent, twin), request_id=number)


def _limit(intent: Intent, twin: Twin) -> Command:
    taker_rate, maker_rate = _rate(intent.taker_rate, intent.market), _rate(intent.maker_rate, intent.market)
    amount, price = _amount(intent, twin), _price(intent)
    return limit(intent.user_id, intent.market, intent.side, amount, price, taker_rate, maker_rate)


def _market_order(intent: Intent, twin: Twin) -> Command:
    amount, habit, market = _amount(intent, twin), HABITS[intent.market], LISTING.markets[intent.market]
    if intent.side == Side.BID and intent.amount[0] < 7:  # lots of stock, in money
        amount = max(1, amount * habit.middle_units // 10**market.money_prec)
    return market_order(intent.user_id, intent.market, intent.side, amount, _rate(intent.taker_rate, intent.market))


def _cancel(intent: Intent, twin: Twin) -> Command:
    orders = twin.books[intent.market].orders()
    if not orders:
        return cancel(intent.user_id, intent.market, intent.pick)
    order = orders[intent.pick % len(orders)]
    is_owner = intent.amount[0] > 0
    return cancel(order.user_id if is_owner else intent.user_id, intent.market, order.id)


def _update(intent: Intent, twin: Twin) -> Command:
    asset = intent.pick % len(LISTING.assets)
    kind, factor = intent.price
    show = 10 ** LISTING.assets[asset].prec_show
    changes = (factor * show, factor, 0, -_available(twin, intent.user_id, asset, LISTING.assets[asset].prec_show))
    business = (b"deposit", b"withdraw", b"")[intent.taker_rate % 3]
    return update(
        intent.user_id * (intent.maker_rate > 0),
        asset,
        changes[kind % len(changes)],
        intent.pick % BUSINESS_IDS,
        business,
        detail_offset=intent.pick,
        detail_size=(BLOB_SIZE - intent.pick) // 2,
    )


def _hostile(intent: Intent, twin: Twin) -> Command:
    makers = (_limit, _limit, _market_order, _cancel, _update)
    field, choice = intent.spoil
    value = HOSTILE_VALUES[field][choice]
    changed: dict[str, Any] = {field: value}
    if field == "text":
        changed["text_size"] = len(value)
    return replace(makers[intent.pick % len(makers)](intent, twin), **changed)


def _price(intent: Intent) -> int:
    """Mostly a few ticks away from the other side; sometimes right through it."""
    habit, (kind, factor) = HABITS[intent.market], intent.price
    away = abs(factor) if intent.side == Side.ASK else -abs(factor)
    across = {6: factor, 7: -away, 8: -away, 9: 0}
    rare = {10: 1, 11: UNITS_MAX, 12: habit.middle_units * 10 + factor}
    return max(1, rare.get(kind, habit.middle_units + across.get(kind, away) * habit.tick_units))


def _amount(intent: Intent, twin: Twin) -> int:
    habit, (kind, factor) = HABITS[intent.market], intent.amount
    market = LISTING.markets[intent.market]
    stock, money = twin.stock_and_money(intent.market)
    everything = _available(twin, intent.user_id, stock if intent.side == Side.ASK else money, market.stock_prec)
    lots = habit.lot_units
    rare = {4: 10 * lots, 5: 30 * lots, 6: 1, 7: everything, 8: factor * lots + intent.pick, 9: 1000 * factor}
    return min(UNITS_MAX, max(1, rare.get(kind, factor * lots)))


def _available(twin: Twin, user_id: int, asset: int, places: int) -> int:
    return int(twin.ledger.available.get((user_id, asset), ZERO).scaleb(places))


def _rate(choice: int, market: int) -> int:
    end = int(10 ** LISTING.markets[market].fee_prec)
    return (0, 1, end // 500, end // 3, end - 1)[choice]
