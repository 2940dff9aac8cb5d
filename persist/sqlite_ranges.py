"""What the SQLite file is asked for: statements whose rows come in the order of events, one by one.

A row of a deal is one side of it: number, side, then the other columns of `deal`. A row of a balance update is number,
0, then the other columns of `balance_update`. So rows of both can be merged as they are.
"""

import sqlite3
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from bus.messages import Side
from persist.sqlite_rows import DEAL_COLUMNS, UPDATE_COLUMNS
from persist.store import Times

NUMBER_MAX = (1 << 63) - 1
UPDATE = 0  # in the place of a side

Row = tuple[Any, ...]
Rows = Generator[Row, None, None]

_DEAL = ", ".join(f"deal.{column}" for column in DEAL_COLUMNS[1:])
_TAKER_SIDE = 1 + DEAL_COLUMNS.index("taker_side")  # its place in a row
_UPDATE = ", ".join(f"balance_update.{column}" for column in UPDATE_COLUMNS[1:])


class Span(NamedTuple):
    """Numbers of events, or ids of orders, from the first to before the end."""

    first: int
    end: int

    def cut(self, first: int, end: int) -> "Span":
        """What of it lies there."""
        return Span(max(self.first, first), min(self.end, end))


ALL = Span(0, NUMBER_MAX)


def rows_of(connection: sqlite3.Connection, sql: str, values: Iterable[Any]) -> Rows:
    """The rows of a statement as they are found. To be closed by who does not take all."""
    with closing(connection.execute(sql, tuple(values))) as cursor:
        yield from cursor


def merged(rows: Iterable[Rows], *, newest_first: bool) -> Rows:
    """The rows of several statements in one order."""
    rows = list(rows)
    try:
        yield from merge(*rows, reverse=newest_first)
    finally:
        for one in rows:
            one.close()


def by_role(rows: Rows, *, newest_first: bool) -> Rows:
    """The same rows; of who traded with himself, his side as taker comes before the other (CONTRACT 2.7).

    His rows of deals come the seller's first, as they are written there, those of balances in this order.
    """
    with closing(rows):
        for _, same in groupby(rows, itemgetter(0)):
            sides = list(same)
            if len(sides) > 1:
                sides.sort(key=lambda row: row[1] != row[_TAKER_SIDE], reverse=newest_first)
            yield from sides


def deals_of_user(
    connection: sqlite3.Connection, user_id: int, markets: Collection[int], span: Span, *, newest_first: bool
) -> Rows:
    """What a user sold and bought in some markets."""
    if not markets:
        return
    way = _way(newest_first)
    yield from rows_of(
        connection,
        f"""SELECT deal.number, user_deal.side, {_DEAL} FROM run CROSS JOIN user_deal CROSS JOIN deal
        WHERE user_deal.run = run.id AND user_deal.user_id = ? AND user_deal.number >= ? AND user_deal.number < ?
        AND user_deal.market IN ({_marks(markets)}) AND deal.number = user_deal.number
        ORDER BY run.id {way}, user_deal.number {way}, user_deal.side {way}""",
        (user_id, *span, *markets),
    )


def deals_of_order(connection: sqlite3.Connection, order_id: int, *, newest_first: bool) -> Rows:
    """What an order sold or bought."""
    for side, name in ((Side.ASK, "ask"), (Side.BID, "bid")):
        yield from rows_of(
            connection,
            f"SELECT number, {int(side)}, {_DEAL} FROM deal INDEXED BY deal_{name}_order WHERE {name}_order_id = ? "
            f"ORDER BY number {_way(newest_first)}",
            (order_id,),
        )


def deals_of_all(connection: sqlite3.Connection, markets: Collection[int], span: Span) -> Rows:
    """Both sides of all deals in some markets, oldest first."""
    sql = f"""SELECT number, {_DEAL} FROM deal
        WHERE number >= ? AND number < ? AND market IN ({_marks(markets)}) ORDER BY number"""
    with closing(rows_of(connection, sql, (*span, *markets))) as rows:
        for number, *rest in rows:
            for side in Side:
                yield number, int(side), *rest


def updates_of_user(
    connection: sqlite3.Connection, user_id: int, asset: int | None, business: str, span: Span, *, newest_first: bool
) -> Rows:
    """A user's balance updates of one asset or all (None), of one business or all ("")."""
    way = _way(newest_first)
    wanted, values = _conditions(("user_update.asset", asset), ("balance_update.business", business or None))
    return rows_of(
        connection,
        f"""SELECT balance_update.number, {UPDATE}, {_UPDATE} FROM run CROSS JOIN user_update CROSS JOIN balance_update
        WHERE user_update.run = run.id AND user_update.user_id = ?
        AND user_update.number >= ? AND user_update.number < ? AND balance_update.number = user_update.number{wanted}
        ORDER BY run.id {way}, user_update.number {way}""",
        (user_id, *span, *values),
    )


def updates_of_all(connection: sqlite3.Connection, asset: int | None, span: Span) -> Rows:
    """All balance updates, or those of one asset, oldest first."""
    wanted, values = _conditions(("asset", asset))
    return rows_of(
        connection,
        f"SELECT number, {UPDATE}, {_UPDATE} FROM balance_update "
        f"WHERE number >= ? AND number < ?{wanted} ORDER BY number",
        (*span, *values),
    )


def order_ids_of_user(
    connection: sqlite3.Connection, user_id: int, market: int | None, side: int, span: Span
) -> Iterator[Rows]:
    """The ids of a user's orders in one market or all (None), of one side or both (0): highest first in each run."""
    wanted, values = _conditions(("market", market), ("side", side or None))
    for (run,) in connection.execute("SELECT id FROM run").fetchall():
        yield rows_of(
            connection,
            f"SELECT id FROM user_order WHERE run = ? AND user_id = ? AND id >= ? AND id < ?{wanted} ORDER BY id DESC",
            (run, user_id, *span, *values),
        )


def _way(newest_first: bool) -> str:
    return "DESC" if newest_first else "ASC"


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _conditions(*wanted: tuple[str, Any]) -> tuple[str, list[Any]]:
    """More of a WHERE clause, and its values: columns that must have one, unless it is None."""
    given = [(column, value) for column, value in wanted if value is not None]
    return "".join(f" AND {column} = ?" for column, _ in given), [value for _, value in given]


def span_of(connection: sqlite3.Connection, table: str, key: str, column: str, times: Times) -> Span:
    """Which keys of a table have a time from `times.start` to before `times.end`; later keys have later times."""
    return Span(
        _first_from(connection, table, key, column, times.start) if times.start else 0,
        _first_from(connection, table, key, column, times.end) if times.end else NUMBER_MAX,
    )


def _first_from(connection: sqlite3.Connection, table: str, key: str, column: str, time: int) -> int:
    """A key that no row with an earlier time reaches, and every other one does."""
    [[first]] = connection.execute(f"SELECT min({key}) FROM {table}")
    [[last]] = connection.execute(f"SELECT max({key}) FROM {table}")  # both in one statement would read all rows
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


def end_of_chunk(connection: sqlite3.Connection, table: str, span: Span, row_count: int) -> int:
    """Where a chunk of the span must end to hold so many of the table's rows at most; NUMBER_MAX if it need not."""
    row = connection.execute(
        f"SELECT number FROM {table} WHERE number >= ? AND number < ? ORDER BY number LIMIT 1 OFFSET ?",
        (*span, row_count),
    ).fetchone()
    return NUMBER_MAX if row is None else int(row[0])
