"""The history in ViaBTC's tables of MySQL or MariaDB: the reader. Which rows, in which order, says CONTRACT 3.

Names are compared byte by byte, as the other store does it, whatever a column's collation takes for equal.
"""

import heapq
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, starmap
from operator import itemgetter
from typing import Any, NamedTuple

from conf.settings import Settings
from persist.mysql_address import parse
from persist.mysql_link import Asker, Rows
from persist.mysql_schema import (
    BALANCE_HISTORY,
    DEAL_HISTORY,
    ORDER_DETAIL,
    ORDER_HISTORY,
    SHARD_COUNT,
    USER_DEAL_HISTORY,
    Family,
    table,
)
from persist.runs import RUN_COUNT, in_order
from persist.store import Change, Deal, Order, Page, Times

EXPORT_TIMEOUT_S = 600.0  # for some thousand rows that may be anywhere in a large table
CHUNK_COUNT = 20_000  # rows that an export holds of all the tables it reads in turn

ORDER_COLUMNS = (
    "id, create_time, finish_time, user_id, market, source, t, side, price, amount, taker_fee, maker_fee, "
    "deal_stock, deal_money, deal_fee"
)
CHANGE_COLUMNS = "time, user_id, asset, business, `change`, balance, detail"
DEAL_COLUMNS = "time, user_id, '', deal_id, order_id, deal_order_id, 0, role, price, amount, deal, fee, deal_fee"
USER_DEAL_COLUMNS = (
    "time, user_id, market, deal_id, order_id, deal_order_id, side, role, price, amount, deal, fee, deal_fee"
)


class Where(NamedTuple):
    """Conditions, and the values of their places."""

    conditions: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()

    def also(self, condition: str, *values: Any) -> "Where":
        """One more."""
        return Where((*self.conditions, condition), (*self.values, *values))

    def named(self, column: str, name: str) -> "Where":
        """The text of a column is exactly this one."""
        exactly = self.also(f"CAST(CONVERT({column} USING utf8mb4) AS BINARY) = CAST(%s AS BINARY)", name)
        # Its index is used where that is sure to work: an old column may know no such character, and says so.
        return exactly.also(f"{column} = %s", name) if name.isascii() else exactly

    def within(self, column: str, times: Times) -> "Where":
        """A time is one of these."""
        begun = self.also(f"{column} >= %s", times.start) if times.start else self
        return begun.also(f"{column} < %s", times.end) if times.end else begun

    @property
    def text(self) -> str:
        """As a statement has it."""
        return " AND ".join(self.conditions) or "TRUE"


def _of_user(user_id: int) -> Where:
    return Where().also("user_id = %s", user_id)


def _exported(user_id: int, column: str, name: str) -> Where:
    """User 0 and name "" are all of them."""
    where = _of_user(user_id) if user_id else Where()
    return where.named(column, name) if name else where


class MySqlReader:
    """The history processes' side of the store."""

    def __init__(self, settings: Settings) -> None:
        """Raises StoreWrong for an address that is none."""
        self._address = parse(settings.history.store)
        self._asker = Asker(self._address, settings.history.query_timeout_s)

    def changes(self, user_id: int, asset: str, business: str, times: Times, page: Page) -> list[Change]:
        """Newest first; an empty asset or business is every one."""
        where = _of_user(user_id)
        where = where.named("asset", asset) if asset else where
        where = where.named("business", business) if business else where
        rows = self._page(BALANCE_HISTORY, user_id, CHANGE_COLUMNS, where.within("time", times), page)
        return [Change(*row) for row in rows]

    def orders(self, user_id: int, market: str, side: int, times: Times, page: Page) -> list[Order]:
        """The highest id first, by the times of their creation; side 0 is both."""
        where = _of_user(user_id).named("market", market).within("create_time", times)
        where = where.also("side = %s", side) if side else where
        return [Order(*row) for row in self._page(ORDER_HISTORY, user_id, ORDER_COLUMNS, where, page)]

    def order(self, order_id: int) -> Order | None:
        """One by its id."""
        where = Where().also("id = %s", order_id)
        rows = self._page(ORDER_DETAIL, order_id, ORDER_COLUMNS, where, Page(0, 1))
        return Order(*rows[0]) if rows else None

    def deals_of_order(self, order_id: int, page: Page) -> list[Deal]:
        """Newest first. The market of a row is empty, the side 0: the table does not have them."""
        where = Where().also("order_id = %s", order_id)
        return [Deal(*row) for row in self._page(DEAL_HISTORY, order_id, DEAL_COLUMNS, where, page)]

    def deals_of_user(self, user_id: int, market: str, page: Page) -> list[Deal]:
        """Newest first."""
        where = _of_user(user_id).named("market", market)
        return [Deal(*row) for row in self._page(USER_DEAL_HISTORY, user_id, USER_DEAL_COLUMNS, where, page)]

    def all_orders(self, user_id: int, market: str, times: Times) -> Iterator[Order]:
        """For an export: oldest first, by finish time, which has no index: they are sorted here."""
        where = _exported(user_id, "market", market).within("finish_time", times)
        with closing(Asker(self._address, EXPORT_TIMEOUT_S)) as asker:
            rows = chain.from_iterable(self._shards(asker, ORDER_HISTORY, user_id, ORDER_COLUMNS, where))
            yield from in_order((Order(*row) for row in rows), _by_finish, RUN_COUNT)

    def all_deals(self, user_id: int, market: str, times: Times) -> Iterator[Deal]:
        """For an export: oldest first, two sides of each deal."""
        where = _exported(user_id, "market", market).within("time", times)
        with closing(Asker(self._address, EXPORT_TIMEOUT_S)) as asker:
            shards = self._shards(asker, USER_DEAL_HISTORY, user_id, USER_DEAL_COLUMNS, where)
            deals = [starmap(Deal, rows) for rows in shards]
            yield from heapq.merge(*deals, key=lambda deal: (deal.deal_id, deal.side))

    def all_changes(self, user_id: int, asset: str, times: Times) -> Iterator[Change]:
        """For an export: oldest first; the changes of a user are in their order even if the clock went back."""
        where = _exported(user_id, "asset", asset).within("time", times)
        with closing(Asker(self._address, EXPORT_TIMEOUT_S)) as asker:
            shards = self._shards(asker, BALANCE_HISTORY, user_id, CHANGE_COLUMNS, where)
            changes = [_with_latest_times(starmap(Change, rows)) for rows in shards]
            for _, change in heapq.merge(*changes, key=itemgetter(0)):
                yield change

    def close(self) -> None:
        """Disconnect."""
        self._asker.close()

    def _table(self, family: Family, key: int) -> str:
        return f"`{self._address.database}`.`{table(family, key)}`"

    def _page(self, family: Family, key: int, columns: str, where: Where, page: Page) -> Rows:
        if page.offset < 0:
            return []
        return self._asker.ask(
            f"SELECT {columns} FROM {self._table(family, key)} WHERE {where.text} ORDER BY id DESC LIMIT %s, %s",
            (*where.values, page.offset, page.limit),
        )

    def _shards(
        self, asker: Asker, family: Family, user_id: int, columns: str, where: Where
    ) -> list[Iterator[tuple[Any, ...]]]:
        """The rows of a user's table, or of all tables, each as they were inserted (orders: put)."""
        keys = [user_id] if user_id else range(SHARD_COUNT)
        count = CHUNK_COUNT // len(keys)
        return [_in_chunks(asker, self._table(family, key), columns, where, count) for key in keys]


def _in_chunks(asker: Asker, table: str, columns: str, where: Where, count: int) -> Iterator[tuple[Any, ...]]:
    """The rows of a table by their ids, `count` at a time."""
    statement = f"SELECT id, {columns} FROM {table} WHERE {where.text} AND id > %s ORDER BY id LIMIT {count}"
    last_id = 0
    while True:
        rows = asker.ask(statement, (*where.values, last_id))
        for row in rows:
            yield row[1:]
        if len(rows) < count:
            return
        last_id = rows[-1][0]


def _by_finish(order: Order) -> tuple[float, int]:
    return order.finish_time, order.id


def _with_latest_times(changes: Iterator[Change]) -> Iterator[tuple[float, Change]]:
    latest = 0.0
    for change in changes:
        latest = max(latest, change.time)
        yield latest, change
