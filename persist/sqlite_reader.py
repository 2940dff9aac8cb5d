"""The history in a SQLite file: the reader. persist/sqlite_schema.py says what is in the file.

Rows come newest first, one by one. So a page costs what it shows and what lies before it: the first one little, a far
one more. Times are found by bisection: they never go backwards from event to event, nor from order to order.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from bus.catalog import Catalog
from conf.settings import Settings
from persist import sqlite_export, sqlite_ranges
from persist.sqlite_found import change_count_of, changes_of, deal_of, order_of, orders_by_ids
from persist.sqlite_link import Found, Link, number_of
from persist.sqlite_ranges import ALL, NUMBER_MAX, Row, Rows, by_role, merged, span_of
from persist.steps import BUSINESS
from persist.store import Change, Deal, Order, Page, Times


class SqliteReader:
    """The history processes' side of the store. A file that is not there yet is as one without rows."""

    def __init__(self, settings: Settings) -> None:
        self._link = Link(settings.paths.history_file, settings.history.query_timeout_s)

    def changes(self, user_id: int, asset: str, business: str, times: Times, page: Page) -> list[Change]:
        """Newest first; an empty asset or business is every one."""
        with self._link.question() as found:
            index = number_of(found.names.asset_by_name, asset) if asset else None
            with found.taken(_changes(found, user_id, index, business, times)) as rows:
                return _page_of_changes(rows, found.names, index, page)

    def orders(self, user_id: int, market: str, side: int, times: Times, page: Page) -> list[Order]:
        """The highest id first, by the times of their creation; side 0 is both."""
        with self._link.question() as found:
            index = number_of(found.names.market_by_name, market)
            span = span_of(found.connection, "finished_order", "id", "create_time", times)
            ids = sqlite_ranges.order_ids_of_user(found.connection, user_id, index, side, span)
            with found.taken(merged(ids, newest_first=True)) as rows:
                wanted = [order_id for (order_id,) in _cut(rows, page)]
            return [order_of(row, found.names) for row in orders_by_ids(found.connection, wanted)]

    def order(self, order_id: int) -> Order | None:
        """One by its id."""
        with self._link.question() as found:
            rows = orders_by_ids(found.connection, [order_id])
            return order_of(rows[0], found.names) if rows else None

    def deals_of_order(self, order_id: int, page: Page) -> list[Deal]:
        """Newest first."""
        with self._link.question() as found:
            return _page_of_deals(
                found, sqlite_ranges.deals_of_order(found.connection, order_id, newest_first=True), page
            )

    def deals_of_user(self, user_id: int, market: str, page: Page) -> list[Deal]:
        """Newest first."""
        with self._link.question() as found:
            markets = [number_of(found.names.market_by_name, market)]
            rows = sqlite_ranges.deals_of_user(found.connection, user_id, markets, ALL, newest_first=True)
            return _page_of_deals(found, rows, page)

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


def _cut(rows: Iterable[Row], page: Page) -> Iterable[Row]:
    """The rows of a page."""
    return islice(rows, page.offset, min(page.offset + page.limit, NUMBER_MAX)) if page.offset >= 0 else ()


def _page_of_deals(found: Found, rows: Rows, page: Page) -> list[Deal]:
    with found.taken(rows) as taken:
        return [deal_of(row, found.names) for row in _cut(taken, page)]


def _changes(found: Found, user_id: int, asset: int | None, business: str, times: Times) -> Rows:
    """Deals and balance updates of a user, newest first."""
    spans = found.spans(times, ("deal", "balance_update"))
    rows = [
        sqlite_ranges.updates_of_user(
            found.connection, user_id, asset, business, spans["balance_update"], newest_first=True
        )
    ]
    if business in ("", BUSINESS):
        markets = found.markets_with(asset)
        rows.append(sqlite_ranges.deals_of_user(found.connection, user_id, markets, spans["deal"], newest_first=True))
    return by_role(merged(rows, newest_first=True), newest_first=True)


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
