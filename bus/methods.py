"""The methods of the JSON-RPC interface: one table.

Dispatch, checks and the description that clients can ask for (gateways/openrpc.py) are made from it. Parameters are
positional, and checked in the order in which they stand here (CONTRACT 2.3).
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from bus import parameters as kinds
from bus.codes import Code
from bus.parameters import Check, Kind, Scope


class Backend(Enum):
    """Who answers a method."""

    GATEWAY = "gateway"
    ENGINE = "engine"
    HISTORY = "history"
    MARKET = "market"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method: `parameters` in order, then as many of `optional` and `rest` as come; a command changes something."""

    name: str
    number: int  # the original's command (CONTRACT 0.5); what a CALL names
    about: str = ""
    backend: Backend = Backend.ENGINE
    is_command: bool = False
    parameters: tuple[tuple[str, Kind], ...] = ()
    optional: tuple[tuple[str, Kind], ...] = ()
    rest: tuple[str, Kind] | None = None
    codes: tuple[Code, ...] = ()  # beside those that every method has

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """The checks of `parameters`."""
        return tuple(kind.check for _, kind in self.parameters)


def check(method: Method, params: list[Any], scope: Scope) -> list[Any] | None:
    """The parameters in the form in which commands carry them, or None when one is refused."""
    checks = method.checks
    if len(params) != len(checks):
        more = len(params) - len(checks)
        if more < 0 or (method.rest is None and more > len(method.optional)):
            return None
        checks += tuple(kind.check for _, kind in method.optional[:more])
        if method.rest is not None:
            checks += (method.rest[1].check,) * (len(params) - len(checks))
    values = []
    for checked_by, value in zip(checks, params):  # noqa: B905  # strict costs, and the lengths are known
        checked = checked_by(value, scope)
        if checked is None:
            return None
        values.append(checked)
    return values


_USER = ("user_id", kinds.USER_OR_ZERO)
_MARKET = ("market", kinds.MARKET)
_PAGE = (("offset", kinds.INTEGER), ("limit", kinds.LIMIT))

_ENGINE_METHODS = (
    Method(
        name="asset.list",
        number=104,
        about="All assets, and the decimals that they are shown with.",
        rest=("ignored", kinds.ANYTHING),
    ),
    Method(
        name="asset.summary",
        number=105,
        about="Sums over all users for the assets named, or for all.",
        rest=("asset", kinds.ASSET),
    ),
    Method(
        name="balance.query",
        number=101,
        about="A user's balances of the assets named, or of all.",
        parameters=(("user_id", kinds.USER),),
        rest=("asset", kinds.ASSET),
    ),
    Method(
        name="balance.update",
        number=102,
        about="Add to or take from a user's available balance, once for each business and business id in 24 hours.",
        is_command=True,
        parameters=(
            _USER,
            ("asset", kinds.ASSET),
            ("business", kinds.BUSINESS),
            ("business_id", kinds.INTEGER),
            ("change", kinds.CHANGE),
            ("detail", kinds.DETAIL),
        ),
        codes=(Code.REPEAT_UPDATE, Code.UPDATE_BALANCE_NOT_ENOUGH),
    ),
    Method(
        name="order.put_limit",
        number=201,
        about="Place a limit order. The reply is the order after matching.",
        is_command=True,
        parameters=(
            _USER,
            _MARKET,
            ("side", kinds.SIDE),
            ("amount", kinds.AMOUNT),
            ("price", kinds.PRICE),
            ("taker_fee_rate", kinds.RATE),
            ("maker_fee_rate", kinds.RATE),
            ("source", kinds.SOURCE),
        ),
        codes=(Code.ORDER_BALANCE_NOT_ENOUGH, Code.AMOUNT_TOO_SMALL),
    ),
    Method(
        name="order.put_market",
        number=202,
        about="Place a market order: what is not matched at once is not done. A buyer's amount is money.",
        is_command=True,
        parameters=(
            _USER,
            _MARKET,
            ("side", kinds.SIDE),
            ("amount", kinds.AMOUNT),
            ("taker_fee_rate", kinds.RATE),
            ("source", kinds.SOURCE),
        ),
        codes=(Code.ORDER_BALANCE_NOT_ENOUGH, Code.NO_ENOUGH_TRADER, Code.AMOUNT_TOO_SMALL),
    ),
    Method(
        name="order.cancel",
        number=204,
        about="Cancel an open order. The reply is the order as it was.",
        is_command=True,
        parameters=(_USER, _MARKET, ("order_id", kinds.INTEGER)),
        codes=(Code.ORDER_NOT_FOUND, Code.USER_NOT_MATCH),
    ),
    Method(
        name="order.pending",
        number=203,
        about="A page of a user's open orders in a market, newest first.",
        parameters=(_USER, _MARKET, *_PAGE),
    ),
    Method(
        name="order.pending_detail",
        number=207,
        about="An open order, or null.",
        parameters=(_MARKET, ("order_id", kinds.INTEGER)),
    ),
    Method(
        name="order.book",
        number=205,
        about="A page of one side's open orders, best first.",
        parameters=(_MARKET, ("side", kinds.SIDE), *_PAGE),
    ),
    Method(
        name="order.depth",
        number=206,
        about="Prices and amounts of both sides, best first; it may be 0.45 s old (`depth_cache_ms`).",
        parameters=(_MARKET, ("limit", kinds.LIMIT), ("interval", kinds.INTERVAL)),
    ),
    Method(
        name="market.list",
        number=307,
        about="All markets.",
        rest=("ignored", kinds.ANYTHING),
    ),
    Method(
        name="market.summary",
        number=308,
        about="Counts and sums of open orders for the markets named, or for all.",
        rest=("market", kinds.MARKET),
    ),
)

_HISTORY_PAGE = (("offset", kinds.LENIENT_INTEGER), ("limit", kinds.PAGE_LIMIT))
_TIMES = (("start_time", kinds.START_TIME), ("end_time", kinds.END_TIME))

_HISTORY_METHODS = (
    Method(
        name="balance.history",
        number=103,
        about="A page of a user's balance changes, newest first. An empty asset or business is every one.",
        backend=Backend.HISTORY,
        parameters=(
            ("user_id", kinds.USER),
            ("asset", kinds.NAME),
            ("business", kinds.NAME),
            *_TIMES,
            *_HISTORY_PAGE,
        ),
    ),
    Method(
        name="order.finished",
        number=208,
        about="A page of a user's finished orders in a market, newest first, by the time of their creation.",
        backend=Backend.HISTORY,
        parameters=(("user_id", kinds.USER), ("market", kinds.NAME), *_TIMES, *_HISTORY_PAGE),
        optional=(("side", kinds.SIDE_OR_BOTH),),
        rest=("ignored", kinds.ANYTHING),
    ),
    Method(
        name="order.deals",
        number=209,
        about="A page of an order's deals, newest first.",
        backend=Backend.HISTORY,
        parameters=(("order_id", kinds.LENIENT_ID), *_HISTORY_PAGE),
    ),
    Method(
        name="order.finished_detail",
        number=210,
        about="A finished order, or null.",
        backend=Backend.HISTORY,
        parameters=(("order_id", kinds.LENIENT_ID),),
    ),
    Method(
        name="market.user_deals",
        number=306,
        about="A page of a user's deals in a market, newest first.",
        backend=Backend.HISTORY,
        parameters=(("user_id", kinds.USER), ("market", kinds.NAME), *_HISTORY_PAGE),
    ),
)

_MARKET_METHODS = (
    Method(
        name="market.status",
        number=301,
        about="What happened in a market in the last so many seconds.",
        backend=Backend.MARKET,
        parameters=(_MARKET, ("period", kinds.LENIENT_POSITIVE)),
    ),
    Method(
        name="market.kline",
        number=302,
        about="Open, close, high, low, volume and money of each interval from start to end.",
        backend=Backend.MARKET,
        parameters=(
            _MARKET,
            ("start", kinds.LENIENT_POSITIVE),
            ("end", kinds.LENIENT_POSITIVE),
            ("interval", kinds.LENIENT_POSITIVE),
        ),
    ),
    Method(
        name="market.deals",
        number=303,
        about="The newest deals of a market after the one named, newest first.",
        backend=Backend.MARKET,
        parameters=(_MARKET, ("limit", kinds.DEALS_LIMIT), ("last_id", kinds.INTEGER)),
    ),
    Method(
        name="market.last",
        number=304,
        about="The last price of a market.",
        backend=Backend.MARKET,
        parameters=(_MARKET,),
    ),
    Method(
        name="market.status_today",
        number=305,
        about="What happened in a market today; volume and money are those of the last 24 hours.",
        backend=Backend.MARKET,
        parameters=(_MARKET,),
    ),
    Method(
        name="market.tickers",
        number=309,
        about="The last 24 hours of the markets named, or of all; `change` is the way from open to close in percent.",
        backend=Backend.MARKET,
        rest=("market", kinds.MARKET),
    ),
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *_ENGINE_METHODS,
        *_HISTORY_METHODS,
        *_MARKET_METHODS,
        Method(
            name="rpc.discover",
            number=1,
            about="This description, in OpenRPC's form.",
            backend=Backend.GATEWAY,
            rest=("ignored", kinds.ANYTHING),
        ),
    )
}
BY_NUMBER = {method.number: method for method in METHODS.values()}
assert len(BY_NUMBER) == len(METHODS)
