"""Candles as columns of plain integers, which is how stores take and give them.

A 128-bit field of CANDLE is one integer here. Columns are those of `COLUMNS`, in this order.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bus.messages import Records
from bus.text import wide
from market.schema import CANDLE, TICK

NARROW = ("start", "open_units", "close_units", "high_units", "low_units")
WIDES = ("volume_units", "money_units")
COLUMNS = (*NARROW, *WIDES)

Row = tuple[int, ...]

_LOW = (1 << 64) - 1


def rows_of(candles: Records) -> Iterator[Row]:
    """A row for each candle."""
    return zip(*(candles[name].tolist() for name in NARROW), *(_joined(candles[name]) for name in WIDES), strict=True)


def candles_of(columns: Sequence[Sequence[int]]) -> Records:
    """CANDLE records of whole columns. Raises ValueError, TypeError, OverflowError for what they can't hold."""
    candles = np.zeros(len(columns[0]), CANDLE)
    for name, column in zip(NARROW, columns, strict=False):
        candles[name] = column
    for name, column in zip(WIDES, columns[len(NARROW) :], strict=True):
        candles[name] = _split(column)
    return candles


def joined(chunks: Iterable[Records]) -> Records:
    """The candles of some arrays, by start; of two with the same start the first."""
    candles = np.concatenate([np.zeros(0, CANDLE), *chunks])
    _, places = np.unique(candles["start"], return_index=True)
    return candles[places]


def ticks_of(rows: Sequence[Sequence[float]]) -> Records:
    """TICK records of rows."""
    return np.array([tuple(row) for row in rows], TICK)


def _joined(halves: Records) -> list[int]:
    """The integers of a column of WIDE fields."""
    low, high = halves[:, 0], halves[:, 1]
    if np.array_equal(high, low >> 63):
        return low.tolist()  # type: ignore[no-any-return]  # of integers
    return [wide(*pair) for pair in halves.tolist()]


def _split(column: Sequence[int]) -> Records:
    """WIDE fields of a column of integers."""
    halves = np.zeros((len(column), 2), "i8")
    try:
        halves[:, 0] = column
        halves[:, 1] = halves[:, 0] >> 63
    except OverflowError:
        numbers = np.array(column, object)
        halves[:, 0] = (numbers & _LOW).astype("u8").view("i8")
        halves[:, 1] = (numbers >> 64).astype("i8")
    return halves
