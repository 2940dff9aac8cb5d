"""A reader of the history that looks at every row of the twin's tables: what readers of stores have to answer."""

from collections.abc import Iterable, Iterator

from persist.store import Change, Deal, Order, Page, Times
from tests.reference.history import SHARDS, History, Row

FIRST_TIME, LAST_TIME = 0, 1 << 62


class PlainReader:
    """A `persist.store.Reader`."""

    def __init__(self, history: History) -> None:
        self._history = history

    def changes(self, user_id: int, asset: str, business: str, times: Times, page: Page) -> list[Change]:
        rows = self._history.of_user("balance_history", user_id)
        wanted = (
            row
            for row in reversed(rows)
            if asset in ("", row["asset"]) and business in ("", row["business"]) and within(row["time"], times)
        )
        return [change_of(row) for row in cut(wanted, page)]

    def orders(self, user_id: int, market: str, side: int, times: Times, page: Page) -> list[Order]:
        rows = self._history.of_user("order_history", user_id)
        wanted = (
            row
            for row in sorted(rows, key=lambda row: -row["id"])
            if row["market"] == market and side in (0, row["side"]) and within(row["create_time"], times)
        )
        return [order_of(row) for row in cut(wanted, page)]

    def order(self, order_id: int) -> Order | None:
        for row in self._history.tables.get(f"order_detail_{order_id % SHARDS}", []):
            if row["id"] == order_id:
                return order_of(row)
        return None

    def deals_of_order(self, order_id: int, page: Page) -> list[Deal]:
        rows = self._history.tables.get(f"deal_history_{order_id % SHARDS}", [])
        wanted = (row for row in reversed(rows) if row["order_id"] == order_id)
        return [deal_of(row) for row in cut(wanted, page)]

    def deals_of_user(self, user_id: int, market: str, page: Page) -> list[Deal]:
        rows = self._history.of_user("user_deal_history", user_id)
        return [deal_of(row) for row in cut((row for row in reversed(rows) if row["market"] == market), page)]

    def all_orders(self, user_id: int, market: str, times: Times) -> Iterator[Order]:
        rows = sorted(self._history.of_family("order_history"), key=lambda row: (row["finish_time"], row["id"]))
        for row in rows:
            if user_id in (0, row["user_id"]) and market in ("", row["market"]) and within(row["finish_time"], times):
                yield order_of(row)

    def all_deals(self, user_id: int, market: str, times: Times) -> Iterator[Deal]:
        rows = sorted(self._history.of_family("user_deal_history"), key=lambda row: (row["deal_id"], row["side"]))
        for row in rows:
            if user_id in (0, row["user_id"]) and market in ("", row["market"]) and within(row["time"], times):
                yield deal_of(row)

    def all_changes(self, user_id: int, asset: str, times: Times) -> Iterator[Change]:
        """User by user, since it is not kept in which order the users' rows were written."""
        rows = self._history.of_family("balance_history")
        users = [user_id] if user_id else sorted({row["user_id"] for row in rows})
        for user in users:
            yield from reversed(self.changes(user, asset, "", times, Page(0, len(rows))))

    def close(self) -> None:
        pass


def within(time: float, times: Times) -> bool:
    """Zero is no limit (CONTRACT 3)."""
    return (times.start or FIRST_TIME) <= time < (times.end or LAST_TIME)


def cut(rows: Iterable[Row], page: Page) -> list[Row]:
    """The page; a negative offset is beyond all rows."""
    return [] if page.offset < 0 else list(rows)[page.offset : page.offset + page.limit]


def change_of(row: Row) -> Change:
    return Change(**row)


def order_of(row: Row) -> Order:
    return Order(**{("type" if column == "t" else column): value for column, value in row.items()})


def deal_of(row: Row) -> Deal:
    """Rows of deal_history have neither market nor side."""
    whole: Row = {"market": "", "side": 0} | row
    whole["side"] = int(whole["side"])
    return Deal(**whole)
