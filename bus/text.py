"""Decimal text and whole units: the one place where either becomes the other (CONTRACT 0.4).

The grammar read is that of General Decimal Arithmetic: sign, digits with or without a point, exponent. Not-a-number
and infinities, which the original let through, are refused. What is written is the historic "stripped" form, in
which small numbers are scientific and zero shows how many decimals it has: "0.1", "1.2e-7", "0e-8"; or the "base"
form, which keeps the zeros at the end.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

SIZE_MAX = 128  # characters of a number
TEXT_UNITS_MAX = 10**37 - 1  # no balance reaches it (conf.markets.TOTAL_DIGITS)
PLAIN_POINT_MIN = -5  # zeros after the point that plain notation goes to; smaller numbers are scientific
KEPT_COUNT = 16_384  # rates, prices and amounts repeat: to remember them is some times quicker than to make them anew

_DIGITS_MAX = len(str(TEXT_UNITS_MAX))
_WORD_MASK = (1 << 64) - 1
_ZEROS = "0" * SIZE_MAX
_number = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?").fullmatch


def parse(text: str, prec: int) -> int | None:
    """The number in 10^-prec, toward zero; None when it is no number or beyond TEXT_UNITS_MAX.

    Exact for whatever is accepted, and as quick for "1e999999999" as for "1".
    """
    return _parsed(text, prec) if len(text) <= SIZE_MAX else None


def parse_all(texts: Iterable[str], prec: int) -> list[int]:
    """`parse` of many texts that a server has written; four times as quick. Raises ValueError for what is no number."""
    powers = [10 ** (prec - size) for size in range(prec + 1)]  # by the size of the fraction
    found = []
    for text in texts:
        whole, _, fraction = text.partition(".")
        try:
            found.append(int(whole + fraction) * powers[len(fraction)])
        except (ValueError, IndexError):  # an exponent, or more decimals
            units = parse(text, prec)
            if units is None:
                raise ValueError(f"{text!r} is no number") from None
            found.append(units)
    return found


@lru_cache(KEPT_COUNT)
def _parsed(text: str, prec: int) -> int | None:
    match = _number(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match.groups("")
    if not whole and not fraction:
        return None
    if exponent:
        digits = _shifted(whole + fraction, int(exponent) - len(fraction) + prec)
    elif fraction:
        digits = whole + (fraction + _ZEROS)[:prec]
    else:
        digits = whole + _ZEROS[:prec]
    units = int(digits or "0")
    if units > TEXT_UNITS_MAX:
        return None
    return -units if sign == "-" else units


def _shifted(digits: str, places: int) -> str:
    """`digits` times 10^places, without its decimals; something too large when it is too large."""
    if places < 0:
        return digits[:places]
    significant = digits.lstrip("0")
    return significant + "0" * min(places, _DIGITS_MAX) if significant else "0"


@lru_cache(KEPT_COUNT)
def stripped(units: int, prec: int) -> str:
    """Text of units x 10^-prec: to-scientific-string with a small e, and no zeros at the end of a plain fraction."""
    if units < 0:
        return "-" + stripped(-units, prec)
    digits = str(units)
    if prec == 0:
        return digits
    point = len(digits) - prec
    if point > 0:
        fraction = digits[point:].rstrip("0")
        return f"{digits[:point]}.{fraction}" if fraction else digits[:point]
    if point >= PLAIN_POINT_MIN:
        return f"0.{_ZEROS[:-point]}{digits}".rstrip("0").rstrip(".") if units else "0"
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{mantissa}e{point - 1}"


@lru_cache(KEPT_COUNT)
def base(units: int, prec: int) -> str:
    """Text of units x 10^-prec with all its decimals: "100.00", "1.20e-7", "0e-8"."""
    if units < 0:
        return "-" + base(-units, prec)
    digits = str(units)
    if prec == 0:
        return digits
    point = len(digits) - prec
    if point > 0:
        return f"{digits[:point]}.{digits[point:]}"
    if point >= PLAIN_POINT_MIN:
        return f"0.{_ZEROS[:-point]}{digits}"
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{mantissa}e{point - 1}"


def wide(low: int, high: int) -> int:
    """The integer that a WIDE field holds."""
    return high << 64 | low & _WORD_MASK


def halves(number: int) -> tuple[int, int]:
    """The two signed fields of a WIDE: what `wide` takes back."""
    low = number & _WORD_MASK
    return low - (1 << 64) if low >> 63 else low, number >> 64
