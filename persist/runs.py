"""Sorting more rows than memory holds: sorted runs of them wait in a temporary file and are merged."""

import heapq
import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

RUN_COUNT = 200_000  # rows that are sorted in memory
BLOCK_COUNT = 200  # rows of each run that are in memory while they are merged

Row = TypeVar("Row")


def in_order(
    rows: Iterable[Row], key: Callable[[Row], Any], run_count: int = RUN_COUNT, block_count: int = BLOCK_COUNT
) -> Iterator[Row]:
    """The rows by `key`; those that are equal as they came."""
    source = iter(rows)
    first = _run(source, key, run_count)
    if len(first) < run_count:
        yield from first
        return
    with TemporaryFile() as file:
        places = [_put(cast(BinaryIO, file), first, block_count)]
        del first
        while run := _run(source, key, run_count):
            places.append(_put(cast(BinaryIO, file), run, block_count))
        yield from heapq.merge(*(_blocks(cast(BinaryIO, file), run) for run in places), key=key)


def _run(source: Iterator[Row], key: Callable[[Row], Any], count: int) -> list[Row]:
    return sorted(islice(source, count), key=key)


def _put(file: BinaryIO, rows: list[Row], block_count: int) -> list[int]:
    """Write a run; return where its blocks begin."""
    places = []
    for start in range(0, len(rows), block_count):
        places.append(file.tell())
        pickle.dump(rows[start : start + block_count], file, pickle.HIGHEST_PROTOCOL)
    return places


def _blocks(file: BinaryIO, places: list[int]) -> Iterator[Any]:
    for place in places:
        file.seek(place)
        yield from pickle.load(file)
