"""Decimal arithmetic that never rounds by itself, and the way from whole units to decimals and back.

The original computes with 34 digits; the exchange is exact. So the context here has more digits than any sum or
product can need and *raises* where a digit would be lost: the only rounding is `truncate`, where the contract says so.
"""

from collections.abc import Callable
from decimal import ROUND_DOWN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext
from functools import wraps
from typing import ParamSpec, TypeVar

DIGITS = 200
EXACT = Context(prec=DIGITS, rounding=ROUND_DOWN, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
TOWARD_ZERO = Context(prec=DIGITS, rounding=ROUND_DOWN, traps=[InvalidOperation, DivisionByZero, Overflow])
ZERO = Decimal(0)

P = ParamSpec("P")
T = TypeVar("T")


def exactly(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` with operators that raise when a result can't be exact."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return run


def from_units(units: int, places: int) -> Decimal:
    """The decimal of `units` of 10^-places."""
    return Decimal(units).scaleb(-places, EXACT)


def to_units(value: Decimal, places: int) -> int:
    """How many units of 10^-places `value` is; it has to be a whole number of them."""
    scaled = value.scaleb(places, EXACT)
    assert scaled == scaled.to_integral_value(), f"{value} is no whole number of 10^-{places}"
    return int(scaled)


def truncate(value: Decimal, places: int) -> Decimal:
    """`value` with `places` decimals, the rest cut off toward zero."""
    return value.quantize(Decimal(1).scaleb(-places), context=TOWARD_ZERO)


def ceiling_multiple(value: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of `step` that is not below `value`."""
    floor = floor_multiple(value, step)
    return floor if floor == value else floor + step


def floor_multiple(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not above `value` (both positive)."""
    return value // step * step
