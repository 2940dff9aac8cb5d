"""The methods of the JSON-RPC interface: one table.

Dispatch, checks and the description that clients can ask for (gateways/openrpc.py) are made from it. Parameters are
positional, and checked in the order in which they stand here (CONTRACT 2.3).
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from bus.codes import Code
from gateways import parameters as kinds
from gateways.parameters import Check, Kind, Scope


class Backend(Enum):
    """Who answers a method."""

    GATEWAY = "gateway"
    ENGINE = "engine"
    HISTORY = "history"
    MARKET = "market"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method: `parameters` in order, then any number of `rest`; a command changes something."""

    name: str
    about: str = ""
    backend: Backend = Backend.ENGINE
    is_command: bool = False
    parameters: tuple[tuple[str, Kind], ...] = ()
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
        if method.rest is None or len(params) < len(checks):
            return None
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
        about="All assets, and the decimals that they are shown with.",
        rest=("ignored", kinds.ANYTHING),
    ),
    Method(
        name="asset.summary",
        about="Sums over all users for the assets named, or for all.",
        rest=("asset", kinds.ASSET),
    ),
    Method(
        name="balance.query",
        about="A user's balances of the assets named, or of all.",
        parameters=(("user_id", kinds.USER),),
        rest=("asset", kinds.ASSET),
    ),
    Method(
        name="balance.update",
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
        about="Cancel an open order. The reply is the order as it was.",
        is_command=True,
        parameters=(_USER, _MARKET, ("order_id", kinds.INTEGER)),
        codes=(Code.ORDER_NOT_FOUND, Code.USER_NOT_MATCH),
    ),
    Method(
        name="order.pending",
        about="A page of a user's open orders in a market, newest first.",
        parameters=(_USER, _MARKET, *_PAGE),
    ),
    Method(
        name="order.pending_detail",
        about="An open order, or null.",
        parameters=(_MARKET, ("order_id", kinds.INTEGER)),
    ),
    Method(
        name="order.book",
        about="A page of one side's open orders, best first.",
        parameters=(_MARKET, ("side", kinds.SIDE), *_PAGE),
    ),
    Method(
        name="order.depth",
        about="Prices and amounts of both sides, best first; it may be 0.45 s old (`depth_cache_ms`).",
        parameters=(_MARKET, ("limit", kinds.LIMIT), ("interval", kinds.INTERVAL)),
    ),
    Method(
        name="market.list",
        about="All markets.",
        rest=("ignored", kinds.ANYTHING),
    ),
    Method(
        name="market.summary",
        about="Counts and sums of open orders for the markets named, or for all.",
        rest=("market", kinds.MARKET),
    ),
)

_ELSEWHERE = {
    Backend.HISTORY: (
        "balance.history",
        "order.deals",
        "order.finished",
        "order.finished_detail",
        "market.user_deals",
    ),
    Backend.MARKET: (
        "market.last",
        "market.deals",
        "market.kline",
        "market.status",
        "market.status_today",
    ),
}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *_ENGINE_METHODS,
        *(Method(name=name, backend=backend) for backend, names in _ELSEWHERE.items() for name in names),
        Method(
            name="rpc.discover",
            about="This description, in OpenRPC's form.",
            backend=Backend.GATEWAY,
            rest=("ignored", kinds.ANYTHING),
        ),
    )
}
