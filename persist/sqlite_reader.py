"""The history in a SQLite file: the reader. persist/sqlite_schema.py says what is in the file.

A user's deals stand in two indexes, as seller and as buyer, each by market; his balance updates in one, by asset. What
is asked for are ranges of those, each in the order of events, and rows of several ranges are merged as they come. So a
page costs what it shows and what lies before it: the first one little, a far one more. Times are found by bisection:
they never go backwards from event to event, nor from order to order.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from bus.catalog import Catalog
from conf.settings import Settings
from persist import sqlite_export, sqlite_ranges
from persist.sqlite_found import ORDER_ROW, change_count_of, changes_of, deal_of, order_of
from persist.sqlite_link import Found, Link, number_of
from persist.sqlite_ranges import BY_ROLE, BY_SIDE, NUMBER_MAX, Range, Row, Sorting, Span, span_of
from persist.steps import BUSINESS
from persist.store import Change, Deal, Order, Page, Times

_CHANGES, _DEALS = Sorting(newest_first=True, tie=BY_ROLE), Sorting(newest_first=True, tie=BY_SIDE)


class SqliteReader:
    """The history processes' side of the store. A file that is not there yet is as one without rows."""

    def __init__(self, settings: Settings) -> None:
        self._link = Link(settings.paths.history_file, settings.history.query_timeout_s)

    def changes(self, user_id: int, asset: str, business: str, times: Times, page: Page) -> list[Change]:
        """Newest first; an empty asset or business is every one."""
        with self._link.question() as found:
            index = number_of(found.names.asset_by_name, asset) if asset else None
            ranges = _changes(found, user_id, index, business, found.spans(times, ("deal", "balance_update")))
            with found.rows(ranges, _CHANGES) as rows:
                return _page_of_changes(rows, found.names, index, page)

    def orders(self, user_id: int, market: str, side: int, times: Times, page: Page) -> list[Order]:
        """The highest id first, by the times of their creation; side 0 is both."""
        if page.offset < 0:
            return []
        with self._link.question() as found:
            index = number_of(found.names.market_by_name, market)
            span = span_of(found.connection, "finished_order", "id", "create_time", times)
            of_side, sides = (" AND side = ?", (side,)) if side else ("", ())
            rows = found.connection.execute(
                f"{ORDER_ROW} INDEXED BY finished_order_user WHERE user_id = ? AND market = ? AND id >= ? AND id < ?"
                f"{of_side} ORDER BY id DESC LIMIT ? OFFSET ?",
                (user_id, index, *span, *sides, page.limit, page.offset),
            ).fetchall()
            return [order_of(row, found.names) for row in rows]

    def order(self, order_id: int) -> Order | None:
        """One by its id."""
        with self._link.question() as found:
            row = found.connection.execute(f"{ORDER_ROW} WHERE id = ?", (order_id,)).fetchone()
            return None if row is None else order_of(row, found.names)

    def deals_of_order(self, order_id: int, page: Page) -> list[Deal]:
        """Newest first."""
        with self._link.question() as found:
            return _page_of_deals(found, sqlite_ranges.deals_of_order(order_id, _DEALS), page)

    def deals_of_user(self, user_id: int, market: str, page: Page) -> list[Deal]:
        """Newest first."""
        with self._link.question() as found:
            wanted = {number_of(found.names.market_by_name, market)}
            ranges = sqlite_ranges.deals_of_user(found.connection, user_id, wanted, Span(0, NUMBER_MAX), _DEALS)
            return _page_of_deals(found, ranges, page)

    def all_orders(self, user_id: int, market: str, times: Times) -> Iterator[Order]:
        """For an export: oldest first, by finish time; user 0 and market "" are all of them."""
        return sqlite_export.orders(self._link, user_id, market, times)

    def all_deals(self, user_id: int, market: str, times: Times) -> Iterator[Deal]:
        """For an export: oldest first, two sides of each deal."""
        return sqlite_export.deals(self._link, user_id, market, times)

    def all_changes(self, user_id: int, asset: str, times: Times) -> Iterator[Change]:
        """For an export: oldest first."""
        return sqlite_export.changes(self._link, user_id, asset, times)

    def close(self) -> None:
        """Disconnect."""
        self._link.close()


def _page_of_deals(found: Found, ranges: Iterable[Range], page: Page) -> list[Deal]:
    if page.offset < 0:
        return []
    with found.rows(ranges, _DEALS) as rows:
        wanted = islice(rows, page.offset, min(page.offset + page.limit, NUMBER_MAX))
        return [deal_of(row, found.names) for row in wanted]


def _changes(
    found: Found, user_id: int, asset: int | None, business: str, spans: Mapping[str, Span]
) -> Iterator[Range]:
    """What changed a user's balances."""
    if business in ("", BUSINESS):
        markets = sqlite_ranges.markets_with(asset, found.names)
        yield from sqlite_ranges.deals_of_user(found.connection, user_id, markets, spans["deal"], _CHANGES)
    updates = spans["balance_update"]
    yield from sqlite_ranges.updates_of_user(found.connection, user_id, asset, business, updates, _CHANGES)


def _page_of_changes(rows: Iterable[Row], names: Catalog, asset: int | None, page: Page) -> list[Change]:
    """A row of a deal becomes some changes; those of rows before the page are only counted."""
    changes: list[Change] = []
    skip_count = page.offset
    if skip_count < 0:
        return changes
    for row in rows:
        count = change_count_of(row, names, asset)
        if skip_count < count:
            changes += changes_of(row, names, asset)[::-1][skip_count:]
            if len(changes) >= page.limit:
                break
        skip_count = max(0, skip_count - count)
    return changes[: page.limit]
