"""Rows of the history as Parquet, through pyarrow, which only this needs and only when it is called.

A column of numbers has one decimal type from the first row to the last, and which one is wide enough is known at the
end only. So it starts with a narrow one, and a number that does not fit begins the file anew with a wider one. That
mostly happens within the first rows, and at most as often as there are wider types.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO

from persist.export import Column, Row, clean, microseconds, plain, word

GROUP_ROW_COUNT = 65_536
# Digits and decimals. What does not fit the widest becomes text. 38 digits are 128 bits, 76 are 256.
RUNGS = ((38, 18), (38, 20), (38, 24), (38, 30), (76, 48))


class NoParquet(Exception):
    """pyarrow is not installed: the text says how to get it."""


class _TooNarrow(Exception):
    """A number does not fit the type of its column."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def require() -> Any:
    """The module pyarrow. Raises NoParquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NoParquet(
            "Parquet needs pyarrow: `scripts/install parquet` or `.venv/bin/pip install pyarrow` brings it; "
            "--format csv needs nothing"
        ) from None
    return pyarrow


def write_parquet(columns: tuple[Column, ...], rows: Callable[[], Iterable[Row]], file: BinaryIO) -> None:
    """Write all rows in groups of GROUP_ROW_COUNT, zstd-compressed. `rows` gives them from the first each time it is
    called; what `file` holds so far is written over. Raises NoParquet.
    """
    require()
    rungs = [0] * len(columns)
    while True:
        file.seek(0)
        file.truncate()
        try:
            _write(columns, rungs, iter(rows()), file)
        except _TooNarrow as found:
            rungs[found.place] += 1
        else:
            return


def _write(columns: tuple[Column, ...], rungs: list[int], rows: Iterator[Row], file: BinaryIO) -> None:
    arrow = require()
    schema = arrow.schema([
        (column.name, _type(arrow, column, rung)) for column, rung in zip(columns, rungs, strict=True)
    ])
    with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP_ROW_COUNT)):
            arrays = [
                _array(arrow, column, kind, place, [row[place] for row in group])
                for place, (column, kind) in enumerate(zip(columns, schema.types, strict=True))
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _type(arrow: Any, column: Column, rung: int) -> Any:
    if column.type is Decimal and rung < len(RUNGS):
        digits, decimals = RUNGS[rung]
        return arrow.decimal128(digits, decimals) if digits <= 38 else arrow.decimal256(digits, decimals)
    if column.type is int and column.words is None:
        return arrow.int64()
    return arrow.timestamp("us", "UTC") if column.type is float else arrow.string()


def _array(arrow: Any, column: Column, kind: Any, place: int, values: list[Any]) -> Any:
    if (words := column.words) is not None:
        return arrow.array([word(words, value) for value in values], kind)
    if column.type is str:
        return arrow.array([clean(value) for value in values], kind)
    if column.type is float:
        return arrow.array([microseconds(value) for value in values], kind)
    if column.type is int:
        return arrow.array(values, kind)
    if kind == arrow.string():
        return arrow.array([plain(value) for value in values], kind)
    try:
        return arrow.array(values, kind)
    except arrow.ArrowInvalid:  # it never rounds
        raise _TooNarrow(place) from None
