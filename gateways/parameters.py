"""The kinds of parameters that methods take: how each is checked, and how it is described to clients.

A check gets the value as JSON gave it and returns it in the form in which commands carry it, or None when it is
refused (CONTRACT 2.3: types are strict, "1" and 1.0 and true are no integers).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bus.messages import TEXT_MAX, UNITS_MAX, USER_MAX
from gateways import text
from gateways.catalog import Asset, Catalog, Market

PAGE_MAX = 101  # records of a page (CONTRACT 2.1)


class Scope:
    """What later checks of a request know from earlier ones: precisions follow from the market or the asset."""

    __slots__ = ("asset", "catalog", "market")

    catalog: Catalog
    market: Market
    asset: Asset

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
