"""Bringing older candles into the store: from a CSV file, or from the Redis of a ViaBTC Exchange Server.

What deals of this exchange have made stays as it is, unless it is to be replaced. Recent deals are not taken over:
their ids are those of another exchange.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from bus.catalog import Market
from bus.messages import Records
from market import candles
from market.calendar import Calendar
from market.csv_candles import begin_of
from market.schema import Resolution
from market.store import Editable, Part


class Done(NamedTuple):
    """What was done with the candles of one market and size."""

    market: str
    resolution: Resolution
    written_count: int
    there_count: int  # that were there already
    old_count: int  # that are not kept so long


def store_candles(
    store: Editable,
    market: Market,
    resolution: Resolution,
    found: Records,
    since: Mapping[Resolution, int],
    *,
    replace: bool,
) -> Done:
    """Put candles into the store, but for those that start before `since`. Raises StoreDown, StoreWrong."""
    kept = found[found["start"] >= since[resolution]]
    written_count = store.fill(market, resolution, kept, replace=replace) if len(kept) else 0
    return Done(market.name, resolution, written_count, len(kept) - written_count, len(found) - len(kept))


def store_parts(
    store: Editable, parts: tuple[Part, ...], since: Mapping[Resolution, int], *, replace: bool
) -> Iterator[Done]:
    """Put all that another store has into the store: candles, and the last price of markets that have none."""
    for part in parts:
        for resolution, found in part.candles.items():
            if len(found):
                yield store_candles(store, part.market, resolution, found, since, replace=replace)
        if part.last_units:
            store.set_last(part.market, part.last_units)


def larger(found: Records, resolution: Resolution, calendar: Calendar) -> Iterator[tuple[Resolution, Records]]:
    """The candles of every greater size that these make."""
    for size in Resolution:
        if size > resolution:
            starts = np.array([begin_of(start, size, calendar) for start in found["start"].tolist()], np.int64)
            groups = candles.firsts(starts)
            made = candles.merged(found, groups).copy()
            made["start"] = starts[groups]
            yield size, made
