"""The kinds of parameters that methods take: how each is checked, and how it is described to clients.

A check gets the value as JSON gave it and returns it in the form in which commands carry it, or None when it is
refused (CONTRACT 2.3: types are strict, "1" and 1.0 and true are no integers).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bus import text
from bus.catalog import Asset, Catalog, Market
from bus.messages import TEXT_MAX, UNITS_MAX, USER_MAX

PAGE_MAX = 101  # records of a page (CONTRACT 2.1)
DEALS_MAX = 10_000  # deals that a market remembers (CONTRACT 4.1)


class Scope:
    """What later checks of a request know from earlier ones: precisions follow from the market or the asset."""

    __slots__ = ("asset", "catalog", "market", "start_time")

    catalog: Catalog
    market: Market
    asset: Asset
    start_time: int

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog


class Interval(NamedTuple):
    """What order.depth merges to, and how it was written."""

    units: int
    text: str


Check = Callable[[Any, Scope], Any]


class Kind(NamedTuple):
    """A kind of parameter; `schema` is JSON Schema."""

    check: Check
    schema: Mapping[str, Any]


def _user(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int and 0 < value <= USER_MAX else None


def _user_or_zero(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int and 0 <= value <= USER_MAX else None


def _market(value: Any, scope: Scope) -> Market | None:
    if type(value) is not str:
        return None
    market = scope.catalog.market_by_name.get(value)
    if market is not None:
        scope.market = market
    return market


def _asset(value: Any, scope: Scope) -> Asset | None:
    if type(value) is not str:
        return None
    asset = scope.catalog.asset_by_name.get(value)
    if asset is not None:
        scope.asset = asset
    return asset


def _side(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int and (value == 1 or value == 2) else None


def _above_zero(units: int | None) -> int | None:
    return units if units is not None and 0 < units <= UNITS_MAX else None


def _amount(value: Any, scope: Scope) -> int | None:
    return _above_zero(text.parse(value, scope.market.stock_prec)) if type(value) is str else None


def _price(value: Any, scope: Scope) -> int | None:
    return _above_zero(text.parse(value, scope.market.money_prec)) if type(value) is str else None


def _rate(value: Any, scope: Scope) -> int | None:
    if type(value) is not str:
        return None
    units = text.parse(value, scope.market.fee_prec)
    return units if units is not None and 0 <= units < scope.market.rate_one_units else None


def _interval(value: Any, scope: Scope) -> Interval | None:
    if type(value) is not str:
        return None
    units = text.parse(value, scope.market.money_prec)
    return Interval(units, value) if units is not None and 0 <= units <= UNITS_MAX else None


def _change(value: Any, scope: Scope) -> int | None:
    return text.parse(value, scope.asset.prec_show) if type(value) is str else None


def _short_text(value: Any, scope: Scope) -> bytes | None:
    if type(value) is not str or len(value) > TEXT_MAX:
        return None
    encoded = value.encode()
    return encoded if len(encoded) <= TEXT_MAX else None


def _integer(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int else None


def _limit(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int and 0 <= value <= PAGE_MAX else None


def _lenient(value: Any) -> int:
    """What the original makes of a value that it reads without looking at its type (CONTRACT 0.3)."""
    return value if type(value) is int else 0


def _lenient_integer(value: Any, scope: Scope) -> int:
    return _lenient(value)


def _lenient_positive(value: Any, scope: Scope) -> int | None:
    return _lenient(value) if _lenient(value) > 0 else None


def _lenient_id(value: Any, scope: Scope) -> int | None:
    return _lenient(value) or None


def _page_limit(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int and 1 <= value <= PAGE_MAX else None


def _deals_limit(value: Any, scope: Scope) -> int | None:
    return value if type(value) is int and 1 <= value <= DEALS_MAX else None


def _start_time(value: Any, scope: Scope) -> int:
    scope.start_time = _lenient(value)
    return scope.start_time


def _end_time(value: Any, scope: Scope) -> int | None:
    end_time = _lenient(value)
    return end_time if end_time == 0 or scope.start_time <= end_time else None


def _side_or_both(value: Any, scope: Scope) -> int | None:
    side = _lenient(value)
    return side if 0 <= side <= 2 else None


def _name(value: Any, scope: Scope) -> str | None:
    return value if type(value) is str else None


def _object(value: Any, scope: Scope) -> dict[str, Any] | None:
    return value if type(value) is dict else None


def _anything(value: Any, scope: Scope) -> bool:
    return True


_NUMBER_TEXT = {"type": "string", "pattern": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"}
_SHORT_TEXT = {"type": "string", "maxLength": TEXT_MAX}

USER = Kind(_user, {"type": "integer", "minimum": 1, "maximum": USER_MAX})
USER_OR_ZERO = Kind(_user_or_zero, {"type": "integer", "minimum": 0, "maximum": USER_MAX})
MARKET = Kind(_market, {"type": "string", "description": "the name of a market"})
ASSET = Kind(_asset, {"type": "string", "description": "the name of an asset"})
SIDE = Kind(_side, {"type": "integer", "enum": [1, 2], "description": "1 is sell, 2 is buy"})
AMOUNT = Kind(_amount, {**_NUMBER_TEXT, "description": "above 0, with the decimals of the market's stock"})
PRICE = Kind(_price, {**_NUMBER_TEXT, "description": "above 0, with the decimals of the market's money"})
RATE = Kind(_rate, {**_NUMBER_TEXT, "description": "a fee rate from 0 to below 1"})
INTERVAL = Kind(_interval, {**_NUMBER_TEXT, "description": "prices are merged to multiples of it; 0 merges none"})
CHANGE = Kind(_change, {**_NUMBER_TEXT, "description": "added to the balance; negative takes away"})
SOURCE = Kind(_short_text, {**_SHORT_TEXT, "description": "where the order comes from, shown with it"})
BUSINESS = Kind(_short_text, {**_SHORT_TEXT, "description": "what the change is for"})
INTEGER = Kind(_integer, {"type": "integer"})
LIMIT = Kind(_limit, {"type": "integer", "minimum": 0, "maximum": PAGE_MAX})
DETAIL = Kind(_object, {"type": "object", "description": "kept with the change; `id` is set to the business id"})
ANYTHING = Kind(_anything, {"description": "ignored"})

# Of the methods of history and market data, whose original reads what is no integer as 0. Where 0 is refused, so is it.
LENIENT_ID = Kind(_lenient_id, {"type": "integer", "description": "not 0"})
LENIENT_INTEGER = Kind(_lenient_integer, {"type": "integer"})
LENIENT_POSITIVE = Kind(_lenient_positive, {"type": "integer", "minimum": 1})
PAGE_LIMIT = Kind(_page_limit, {"type": "integer", "minimum": 1, "maximum": PAGE_MAX})
DEALS_LIMIT = Kind(_deals_limit, {"type": "integer", "minimum": 1, "maximum": DEALS_MAX})
START_TIME = Kind(_start_time, {"type": "integer", "description": "seconds since 1970, from then on; 0 is no limit"})
END_TIME = Kind(_end_time, {"type": "integer", "description": "seconds since 1970, before then; 0 is no limit"})
SIDE_OR_BOTH = Kind(_side_or_both, {"type": "integer", "enum": [0, 1, 2], "description": "1 is sell, 2 is buy, 0 both"})
NAME = Kind(_name, {"type": "string"})
