"""All rows of the SQLite file, or all of a user, a market, an asset or a time, oldest first: for exports.

They come in chunks, each read by a question of its own, so that an export that takes minutes holds up nothing.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from bus.catalog import Catalog
from persist import sqlite_ranges
from persist.sqlite_found import ORDER_ROW, changes_of, deal_of, order_of, orders_by_ids
from persist.sqlite_link import Found, Link, number_of
from persist.sqlite_ranges import NUMBER_MAX, Row, Rows, Span, by_role, end_of_chunk, merged
from persist.store import Change, Deal, Order, Times

CHUNK_COUNT = 5_000  # rows of a table that are read at once
CHUNK_MOST = 3 * CHUNK_COUNT + 1  # more than come of them: two sides of each deal, and balance updates
IDS_COUNT = 500  # orders that are read at once by their ids

Spans = Mapping[str, Span]
Chunk = tuple[list[Row], Catalog]


def deals(link: Link, user_id: int, market: str, times: Times) -> Iterator[Deal]:
    """Sides of deals."""

    def rows_in(found: Found, spans: Spans) -> Rows:
        markets = [number_of(found.names.market_by_name, market)] if market else found.markets_with(None)
        if user_id:
            return sqlite_ranges.deals_of_user(found.connection, user_id, markets, spans["deal"], newest_first=False)
        return sqlite_ranges.deals_of_all(found.connection, markets, spans["deal"])

    for rows, names in _chunks(link, ("deal",), times, rows_in, of_all=not user_id):
        yield from (deal_of(row, names) for row in rows)


def changes(link: Link, user_id: int, asset: str, times: Times) -> Iterator[Change]:
    """Changes of balances."""

    def number(names: Catalog) -> int | None:
        return number_of(names.asset_by_name, asset) if asset else None

    def rows_in(found: Found, spans: Spans) -> Rows:
        index = number(found.names)
        markets, dealt, updated = found.markets_with(index), spans["deal"], spans["balance_update"]
        if user_id:
            rows = [
                sqlite_ranges.deals_of_user(found.connection, user_id, markets, dealt, newest_first=False),
                sqlite_ranges.updates_of_user(found.connection, user_id, index, "", updated, newest_first=False),
            ]
        else:
            rows = [
                sqlite_ranges.deals_of_all(found.connection, markets, dealt),
                sqlite_ranges.updates_of_all(found.connection, index, updated),
            ]
        return by_role(merged(rows, newest_first=False), newest_first=False)

    for rows, names in _chunks(link, ("deal", "balance_update"), times, rows_in, of_all=not user_id):
        index = number(names)
        for row in rows:
            yield from changes_of(row, names, index)


def _chunks(
    link: Link, tables: tuple[str, ...], times: Times, rows_in: Callable[[Found, Spans], Rows], *, of_all: bool
) -> Iterator[Chunk]:
    """Rows of events. `of_all` users, a chunk ends by number: a question is short even if it finds nothing."""
    first = 0
    while first < NUMBER_MAX:
        with link.question(is_limited=False) as found:
            spans = {table: span.cut(first, NUMBER_MAX) for table, span in found.spans(times, tables).items()}
            ends = [end_of_chunk(found.connection, table, spans[table], CHUNK_COUNT) for table in tables if of_all]
            end = min(ends, default=NUMBER_MAX)
            with found.taken(rows_in(found, {table: span.cut(0, end) for table, span in spans.items()})) as rows:
                chunk = list(islice(rows, CHUNK_MOST))
        if len(chunk) == CHUNK_MOST:  # the last deal's other side may be missing
            end = chunk[-1][0]
            chunk = [row for row in chunk if row[0] < end]
        yield chunk, found.names
        first = end


def orders(link: Link, user_id: int, market: str, times: Times) -> Iterator[Order]:
    """Finished orders."""
    chunks = _orders_of_user(link, user_id, market, times) if user_id else _orders_of_all(link, market, times)
    for rows, names in chunks:
        yield from (order_of(row, names) for row in rows)


def _orders_of_user(link: Link, user_id: int, market: str, times: Times) -> Iterator[Chunk]:
    """What is the user's is not in the order of times, so it is sorted once, as ids."""
    with link.question(is_limited=False) as found:
        index = number_of(found.names.market_by_name, market) if market else None
        wanted, values = ("AND user_order.market = ?", (index,)) if market else ("", ())
        found_ids = found.connection.execute(
            f"""SELECT finished_order.id FROM run CROSS JOIN user_order CROSS JOIN finished_order
            WHERE user_order.run = run.id AND user_order.user_id = ? AND finished_order.id = user_order.id {wanted}
            AND finish_time >= ? AND finish_time < ? ORDER BY finish_time, finished_order.id""",
            (user_id, *values, times.start, times.end or NUMBER_MAX),
        )
        ids = array("q", (order_id for (order_id,) in found_ids))
    for place in range(0, len(ids), IDS_COUNT):
        with link.question(is_limited=False) as found:
            rows = orders_by_ids(found.connection, ids[place : place + IDS_COUNT])
        yield rows, found.names


def _orders_of_all(link: Link, market: str, times: Times) -> Iterator[Chunk]:
    """By the index of finish times; a chunk ends by its place there, whatever the market."""
    end = times.end or NUMBER_MAX
    last: tuple[float, int] | None = (times.start, 0)
    while last is not None:
        before = last
        with link.question(is_limited=False) as found:
            last = found.connection.execute(
                """SELECT finish_time, id FROM finished_order INDEXED BY finished_order_time
                WHERE (finish_time, id) > (?, ?) AND finish_time < ?
                ORDER BY finish_time, id LIMIT 1 OFFSET ?""",
                (*before, end, CHUNK_COUNT),
            ).fetchone()
            index = number_of(found.names.market_by_name, market) if market else None
            wanted, values = ("AND market = ?", (index,)) if market else ("", ())
            rows = found.connection.execute(
                f"""{ORDER_ROW} INDEXED BY finished_order_time
                WHERE (finish_time, id) > (?, ?) AND finish_time < ? AND (finish_time, id) <= (?, ?) {wanted}
                ORDER BY finish_time, id""",
                (*before, end, *(last or (NUMBER_MAX, 0)), *values),
            ).fetchall()
        yield rows, found.names
