"""Candles out of deals, and larger candles out of smaller ones (CONTRACT 4.2): pure functions on arrays.

A candle's opening price is that of its first deal, its closing price that of its last one, in the order of the
events. Volume and money are 128-bit sums; one that would be larger stays at the largest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bus.messages import Records
from market.schema import CANDLE

WIDE_MAX = (1 << 127) - 1
_HALF_BITS = 32
_HALF = (1 << _HALF_BITS) - 1
_WORD_COUNT = CANDLE.itemsize // 8
_SUMS = slice(5, 9)  # volume and money: low, high, low, high
assert CANDLE.fields is not None
assert CANDLE.fields["volume_units"][1] == 8 * _SUMS.start

Words = NDArray[np.int64]
Places = NDArray[Any]  # of integers


def words(candles: Records) -> Words:
    """The same memory as rows of nine integers."""
    return candles.view(np.int64).reshape(-1, _WORD_COUNT)


def of_deals(deals: Records) -> Records:
    """A candle of one second for each DEAL_EVENT."""
    made = np.empty(len(deals), CANDLE)
    price, amount = deals["price_units"].astype(np.int64), deals["amount_units"].astype(np.int64)
    made["start"] = np.floor(deals["time"])
    for name in ("open_units", "close_units", "high_units", "low_units"):
        made[name] = price
    made["volume_units"][:, 0], made["volume_units"][:, 1] = amount, 0
    made["money_units"][:, 0], made["money_units"][:, 1] = _product(price, amount)
    return made


def _product(left: Words, right: Words) -> tuple[Words, Words]:
    """The low and the high half of 128-bit products of numbers from 0 to 2^62."""
    left_low, left_high = left & _HALF, left >> _HALF_BITS
    right_low, right_high = right & _HALF, right >> _HALF_BITS
    lowest = (left_low.view(np.uint64) * right_low.view(np.uint64)) >> np.uint64(_HALF_BITS)
    middle = left_high * right_low + left_low * right_high + lowest.view(np.int64)
    return left * right, left_high * right_high + (middle >> _HALF_BITS)


def joined(parts: Sequence[Records]) -> Records:
    """Candles one after the other; a single part is not copied."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([words(part) for part in parts]).view(CANDLE)[:, 0]


def firsts(*keys: Places) -> Places:
    """Where a run of the same keys begins."""
    changes = [key[1:] != key[:-1] for key in keys]
    return np.concatenate(([0], np.flatnonzero(np.logical_or.reduce(changes)) + 1))


def merged(candles: Records, groups: Places) -> Records:
    """One candle for each group of neighbours; `groups` are the places at which one begins, 0 the first of them.

    A group begins when its first candle does.
    """
    if len(groups) == len(candles):
        return candles
    made = candles[groups]
    made["close_units"] = candles["close_units"][np.append(groups[1:], len(candles)) - 1]
    made["high_units"] = np.maximum.reduceat(candles["high_units"], groups)
    made["low_units"] = np.minimum.reduceat(candles["low_units"], groups)
    words(made)[:, _SUMS] = _sums(words(candles)[:, _SUMS], groups)
    return made


def _sums(parts: Words, groups: Places) -> Words:
    """Sums of groups of rows, each row two 128-bit numbers."""
    lower = np.add.reduceat(parts & _HALF, groups)
    upper = np.add.reduceat(parts >> _HALF_BITS & (_HALF, -1, _HALF, -1), groups)  # the highest have the sign
    made = np.empty_like(lower)
    for low, high in ((0, 1), (2, 3)):
        upper[:, low] += lower[:, low] >> _HALF_BITS
        lower[:, high] += upper[:, low] >> _HALF_BITS
        upper[:, high] += lower[:, high] >> _HALF_BITS
        made[:, low] = upper[:, low] << _HALF_BITS | lower[:, low] & _HALF
        made[:, high] = upper[:, high] << _HALF_BITS | lower[:, high] & _HALF
        made[upper[:, high] > _HALF >> 1, low : high + 1] = -1, WIDE_MAX >> 64
    return made
