"""All rows of the SQLite file, or all of a user, a market, an asset or a time, oldest first: for exports.

They come in chunks, each read by a question of its own, so that an export that takes minutes holds up nothing.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from bus.catalog import Catalog
from persist import sqlite_ranges
from persist.sqlite_found import ORDER_ROW, changes_of, deal_of, order_of
from persist.sqlite_link import Found, Link, number_of
from persist.sqlite_ranges import BY_ROLE, BY_SIDE, NUMBER_MAX, Range, Row, Sorting, Span
from persist.store import Change, Deal, Order, Times

CHUNK_COUNT = 5_000  # rows of a table that are read at once
CHUNK_MOST = 3 * CHUNK_COUNT + 1  # more than come of them: two sides of each deal, and balance updates
IDS_COUNT = 500  # orders that are read at once by their ids

_CHANGES, _DEALS = Sorting(newest_first=False, tie=BY_ROLE), Sorting(newest_first=False, tie=BY_SIDE)
Spans = Mapping[str, Span]
Chunk = tuple[list[Row], Catalog]


def deals(link: Link, user_id: int, market: str, times: Times) -> Iterator[Deal]:
    """Sides of deals."""

    def ranges(found: Found, spans: Spans) -> Iterator[Range]:
        index = number_of(found.names.market_by_name, market) if market else None
        wanted = sqlite_ranges.markets_with(None, found.names) if index is None else {index}
        if user_id:
            return sqlite_ranges.deals_of_user(found.connection, user_id, wanted, spans["deal"], _DEALS)
        return sqlite_ranges.deals_of_all(wanted, spans["deal"], _DEALS)

    for rows, names in _chunks(link, ("deal",), times, ranges, _DEALS, of_all=not user_id):
        yield from (deal_of(row, names) for row in rows)


def changes(link: Link, user_id: int, asset: str, times: Times) -> Iterator[Change]:
    """Changes of balances."""

    def number(names: Catalog) -> int | None:
        return number_of(names.asset_by_name, asset) if asset else None

    def ranges(found: Found, spans: Spans) -> Iterator[Range]:
        index = number(found.names)
        wanted = sqlite_ranges.markets_with(index, found.names)
        dealt, updated = spans["deal"], spans["balance_update"]
        if user_id:
            yield from sqlite_ranges.deals_of_user(found.connection, user_id, wanted, dealt, _CHANGES)
            yield from sqlite_ranges.updates_of_user(found.connection, user_id, index, "", updated, _CHANGES)
        else:
            yield from sqlite_ranges.deals_of_all(wanted, dealt, _CHANGES)
            yield sqlite_ranges.updates_of_all(index, updated, _CHANGES)

    tables = ("deal", "balance_update")
    for rows, names in _chunks(link, tables, times, ranges, _CHANGES, of_all=not user_id):
        index = number(names)
        for row in rows:
            yield from changes_of(row, names, index)


def _chunks(
    link: Link,
    tables: Iterable[str],
    times: Times,
    ranges: Callable[[Found, Spans], Iterable[Range]],
    sorting: Sorting,
    *,
    of_all: bool,
) -> Iterator[Chunk]:
    """Rows of events. `of_all` users, a chunk ends by number: a question is short even if it finds nothing."""
    first = 0
    while first < NUMBER_MAX:
        with link.question(is_limited=False) as found:
            spans = {
                table: Span(max(span.first, first), span.end) for table, span in found.spans(times, tables).items()
            }
            end = sqlite_ranges.end_of_chunk(found.connection, spans, CHUNK_COUNT) if of_all else NUMBER_MAX
            cut = {table: Span(span.first, min(span.end, end)) for table, span in spans.items()}
            with found.rows(ranges(found, cut), sorting) as rows:
                chunk = list(islice(rows, CHUNK_MOST))
        if len(chunk) == CHUNK_MOST:  # the last deal's other side may be missing
            end = chunk[-1][0]
            chunk = [row for row in chunk if row[0] < end]
        yield chunk, found.names
        first = end


def orders(link: Link, user_id: int, market: str, times: Times) -> Iterator[Order]:
    """Finished orders."""
    for rows, names in (
        _orders_of_user(link, user_id, market, times) if user_id else _orders_of_all(link, market, times)
    ):
        yield from (order_of(row, names) for row in rows)


def _orders_of_user(link: Link, user_id: int, market: str, times: Times) -> Iterator[Chunk]:
    """The user's index knows no times, so his orders are sorted by them once, as ids."""
    with link.question(is_limited=False) as found:
        of_market, markets = (
            (" AND market = ?", (number_of(found.names.market_by_name, market),)) if market else ("", ())
        )
        ids = [order_id for (order_id,) in found.connection.execute(
            f"SELECT id FROM finished_order INDEXED BY finished_order_user WHERE user_id = ?{of_market} "
            "AND finish_time >= ? AND finish_time < ? ORDER BY finish_time, id",
            (user_id, *markets, times.start, times.end or math.inf),
        )]  # fmt: skip
    for place in range(0, len(ids), IDS_COUNT):
        wanted = ids[place : place + IDS_COUNT]
        with link.question(is_limited=False) as found:
            marks = ", ".join("?" * len(wanted))
            rows = found.connection.execute(f"{ORDER_ROW} WHERE id IN ({marks})", wanted).fetchall()
        by_id = {row[0]: row for row in rows}
        yield [by_id[order_id] for order_id in wanted], found.names


def _orders_of_all(link: Link, market: str, times: Times) -> Iterator[Chunk]:
    span = "(finish_time, id) > (?, ?) AND finish_time < ?"
    last: tuple[float, int] | None = (times.start, 0)
    while last is not None:
        before, end = last, times.end or math.inf
        with link.question(is_limited=False) as found:
            last = found.connection.execute(
                "SELECT finish_time, id FROM finished_order INDEXED BY finished_order_time "
                f"WHERE {span} ORDER BY finish_time, id LIMIT 1 OFFSET ?", (*before, end, CHUNK_COUNT)
            ).fetchone()  # fmt: skip
            of_market, markets = (
                (" AND market = ?", (number_of(found.names.market_by_name, market),)) if market else ("", ())
            )
            rows = found.connection.execute(
                f"{ORDER_ROW} INDEXED BY finished_order_time WHERE {span} AND (finish_time, id) <= (?, ?){of_market} "
                "ORDER BY finish_time, id", (*before, end, *(last or (math.inf, 0)), *markets)
            ).fetchall()  # fmt: skip
        yield rows, found.names
