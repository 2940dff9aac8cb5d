"""Ranges of the SQLite file, each in the order of events, and how they are merged.

A row of a deal is one side of it: number, tie, side, and so on (DEAL_ROW); a row of a balance update has 0 as its side
(UPDATE_ROW). `tie` puts the two sides of one deal in order where both are asked for. Rows begin with what sorts them,
so they compare as they are.
"""

import sqlite3
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from heapq import merge
from typing import Any, NamedTuple

from bus.catalog import Catalog
from bus.messages import Side
from persist.store import Times

NUMBER_MAX = (1 << 63) - 1
UPDATE = 0  # the side of what is no side of a deal
BY_ROLE = "taker_side <> {code}"  # the taker before the maker, whose balances changed later (CONTRACT 2.7)
BY_SIDE = "{code}"  # the seller before the buyer, as rows of deals are written (CONTRACT 2.7)

Row = tuple[Any, ...]

_DEAL_ROW = """SELECT number, {tie}, {code}, time, market, deal_id, taker_side, price_units, amount_units,
    {mine}_user_id, {mine}_order_id, {other}_order_id, {mine}_rate_units, {other}_rate_units,
    {mine}_stock_total_units, {mine}_money_total_units FROM deal"""
_UPDATE_ROW = (
    "SELECT number, 0, 0, time, asset, user_id, business, change_units, total_units, detail FROM balance_update"
)
_SIDES = ((int(Side.ASK), "ask", "bid"), (int(Side.BID), "bid", "ask"))
_IN_SPAN = "number >= ? AND number < ?"

# Every value of an index's second column that goes with one of its first: a step for each of them, not for each row.
_EACH = """WITH RECURSIVE each(value) AS (
    SELECT min({second}) FROM {table} WHERE {first} = :first
    UNION ALL
    SELECT (SELECT min({second}) FROM {table} WHERE {first} = :first AND {second} > each.value)
    FROM each WHERE each.value IS NOT NULL
) SELECT value FROM each WHERE value IS NOT NULL"""


class Span(NamedTuple):
    """Numbers of events, or of orders, from the first to before the end."""

    first: int
    end: int


class Range(NamedTuple):
    """A statement that gives rows in order, and what is bound to it."""

    sql: str
    values: Row


class Sorting(NamedTuple):
    """Which way rows come, and how the sides of one deal do (BY_ROLE, BY_SIDE)."""

    newest_first: bool
    tie: str

    def text(self, key: str) -> str:
        """The clause."""
        return f"ORDER BY {key} {'DESC' if self.newest_first else 'ASC'}"


def merged(connection: sqlite3.Connection, ranges: Iterable[Range], sorting: Sorting) -> Generator[Row, None, None]:
    """The rows of all ranges, in order. To be closed by who does not take all of them."""
    cursors: list[sqlite3.Cursor] = []
    try:
        cursors.extend(connection.execute(*one) for one in ranges)
        yield from merge(*cursors, reverse=sorting.newest_first)
    finally:
        for cursor in cursors:
            cursor.close()


def deals_of_user(
    connection: sqlite3.Connection, user_id: int, wanted: Collection[int], span: Span, sorting: Sorting
) -> Iterator[Range]:
    """What a user sold and bought in some of the markets."""
    for side in _SIDES:
        _, mine, _ = side
        for market in _each(connection, "deal", f"{mine}_user_id", "market", user_id):
            if market in wanted:
                where = f"INDEXED BY deal_{mine}_user WHERE {mine}_user_id = ? AND market = ? AND {_IN_SPAN}"
                yield Range(_deals(side, where, sorting), (user_id, market, *span))


def deals_of_order(order_id: int, sorting: Sorting) -> Iterator[Range]:
    """What an order sold or bought."""
    for side in _SIDES:
        _, mine, _ = side
        yield Range(_deals(side, f"INDEXED BY deal_{mine}_order WHERE {mine}_order_id = ?", sorting), (order_id,))


def deals_of_all(wanted: Collection[int], span: Span, sorting: Sorting) -> Iterator[Range]:
    """Both sides of all deals in some of the markets."""
    where = f"WHERE {_IN_SPAN} AND market IN ({', '.join('?' * len(wanted))})"
    for side in _SIDES:
        yield Range(_deals(side, where, sorting), (*span, *wanted))


def markets_with(asset: int | None, names: Catalog) -> set[int]:
    """The markets where an asset is traded, or all."""
    markets = names.market_by_index
    return {one.index for one in markets if asset is None or asset in (one.stock.index, one.money.index)}


def updates_of_user(
    connection: sqlite3.Connection, user_id: int, asset: int | None, business: str, span: Span, sorting: Sorting
) -> Iterator[Range]:
    """A user's balance updates, of all assets or one, of all businesses ("") or one."""
    named = " AND business = ?" if business else ""
    for each in _each(connection, "balance_update", "user_id", "asset", user_id):
        if asset is None or each == asset:
            where = f"INDEXED BY balance_update_user WHERE user_id = ? AND asset = ? AND {_IN_SPAN}{named}"
            values = (user_id, each, *span) + ((business,) if business else ())
            yield Range(f"{_UPDATE_ROW} {where} {sorting.text('number')}", values)


def updates_of_all(asset: int | None, span: Span, sorting: Sorting) -> Range:
    """All balance updates, or those of one asset."""
    if asset is None:
        return Range(f"{_UPDATE_ROW} WHERE {_IN_SPAN} {sorting.text('number')}", tuple(span))
    return Range(f"{_UPDATE_ROW} WHERE {_IN_SPAN} AND asset = ? {sorting.text('number')}", (*span, asset))


def _deals(side: tuple[int, str, str], where: str, sorting: Sorting) -> str:
    code, mine, other = side
    columns = _DEAL_ROW.format(tie=sorting.tie.format(code=code), code=code, mine=mine, other=other)
    return f"{columns} {where} {sorting.text('number')}"


def _each(connection: sqlite3.Connection, table: str, first: str, second: str, value: int) -> list[int]:
    """Markets or assets of which a user has rows."""
    found = connection.execute(_EACH.format(table=table, first=first, second=second), {"first": value})
    return [number for (number,) in found.fetchall()]


def span_of(connection: sqlite3.Connection, table: str, key: str, column: str, times: Times) -> Span:
    """Which keys of a table have a time from `times.start` to before `times.end`; later keys have later times."""
    return Span(
        _first_from(connection, table, key, column, times.start) if times.start else 0,
        _first_from(connection, table, key, column, times.end) if times.end else NUMBER_MAX,
    )


def _first_from(connection: sqlite3.Connection, table: str, key: str, column: str, time: int) -> int:
    """A key that no row with an earlier time reaches, and every other one does."""
    [[first, last]] = connection.execute(f"SELECT min({key}), max({key}) FROM {table}")
    low, high = (first, last + 1) if first is not None else (0, 0)
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            f"SELECT {key}, {column} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[1] >= time:
            high = middle
        else:
            low = row[0] + 1
    return int(low)


def end_of_chunk(connection: sqlite3.Connection, spans: Mapping[str, Span], row_count: int) -> int:
    """Where to end so that in its span no table has more than so many rows."""
    end = NUMBER_MAX
    for table, span in spans.items():
        row = connection.execute(
            f"SELECT number FROM {table} WHERE {_IN_SPAN} ORDER BY number LIMIT 1 OFFSET ?", (*span, row_count)
        ).fetchone()
        if row is not None:
            end = min(end, row[0])
    return end
