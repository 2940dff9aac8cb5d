"""The state of the naive exchange and what can be asked about it, in the records that carry the answers (CONTRACT 2.3).

Assets and markets are known by their index, the order in which they were first listed.
"""

from bus.messages import Presence, Side
from conf.markets import Listing
from tests.reference.book import Book, Order
from tests.reference.checks import save_places
from tests.reference.exact import ZERO, exactly, from_units, to_units
from tests.reference.ledger import Entries, Ledger
from tests.reference.records import Record

UpdateKey = tuple[int, int, bytes, int]  # user, asset, business, business id


class Answers:
    """Balances, books and everything else that an exchange remembers."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.assets = list(listing.assets)
        self.markets = list(listing.markets)
        self.books = [Book() for _ in self.markets]
        self.ledger = Ledger(lambda asset: save_places(self, asset))
        self.updates: dict[UpdateKey, float] = {}
        self.blob_size = 0
        self.time = 0.0
        self.sequence = self.event_number = self.order_id = self.deal_id = 0

    def stock_and_money(self, index: int) -> tuple[int, int]:
        """The indices of a market's two assets."""
        names = [asset.name for asset in self.assets]
        return names.index(self.markets[index].stock), names.index(self.markets[index].money)

    @exactly
    def pending(self, market: int, user_id: int, offset: int, limit: int) -> tuple[list[Record], int]:
        """A page of a user's resting orders, newest first, and how many there are."""
        orders = [order for order in self.books[market].orders() if order.user_id == user_id]
        orders.sort(key=lambda order: -order.id)
        return self._page(market, orders, offset, limit), len(orders)

    @exactly
    def pending_detail(self, market: int, order_id: int) -> list[Record]:
        """A resting order, or nothing."""
        order = self.books[market].find(order_id)
        return [order.record(self.markets[market])] if order else []

    @exactly
    def book(self, market: int, side: int, offset: int, limit: int) -> tuple[list[Record], int]:
        """A page of one side's orders, best first, and how many there are."""
        orders = self.books[market].side(side)
        return self._page(market, orders, offset, limit), len(orders)

    @exactly
    def depth(self, market: int, limit: int, interval_units: int) -> tuple[list[Record], list[Record]]:
        """The best levels of asks and of bids."""
        places = self.markets[market]
        asks, bids = (
            [
                {"price_units": to_units(price, places.money_prec), "left_units": to_units(left, places.stock_prec)}
                for price, left in self.books[market].levels(side, limit, from_units(interval_units, places.money_prec))
            ]
            for side in (Side.ASK, Side.BID)
        )
        return asks, bids

    @exactly
    def balances(self, user_id: int) -> list[Record]:
        """A user's entries, by asset; assets in which there is none are left out."""
        rows = []
        for asset in range(len(self.assets)):
            row: Record = {"asset": asset}
            for name, entries in self._ledgers():
                value = entries.get((user_id, asset))
                row[f"{name}_state"] = Presence.ABSENT if value is None else Presence.PRESENT
                row[f"{name}_units"] = to_units(value or ZERO, save_places(self, asset))
            if row["available_state"] or row["freeze_state"]:
                rows.append(row)
        return rows

    @exactly
    def asset_summaries(self) -> list[Record]:
        """What all users have, by asset index."""
        rows = []
        for index, asset in enumerate(self.assets):
            row: Record = {
                "name": asset.name.encode(),
                "prec_save": asset.prec_save,
                "prec_show": asset.prec_show,
                "rank": self.listing.assets.index(asset),
                "entry_count": 0,
            }
            for name, entries in self._ledgers():
                values = self.ledger.values(entries, index)
                row["entry_count"] += len(values)
                row[f"{name}_count"] = sum(value != 0 for value in values)
                row[f"{name}_units"] = to_units(sum(values, ZERO), asset.prec_save)
            rows.append(row)
        return rows

    @exactly
    def market_summaries(self) -> list[Record]:
        """What rests, by market index."""
        rows = []
        for index, market in enumerate(self.markets):
            stock, money = self.stock_and_money(index)
            row: Record = {
                "name": market.name.encode(),
                "stock": stock,
                "money": money,
                "stock_prec": market.stock_prec,
                "money_prec": market.money_prec,
                "fee_prec": market.fee_prec,
                "min_prec": market.min_prec,
                "rank": self.listing.markets.index(market),
                "min_units": market.min_units,
            }
            for name, orders in (("ask", self.books[index].asks), ("bid", self.books[index].bids)):
                row[f"{name}_count"] = len(orders)
                row[f"{name}_units"] = to_units(sum((order.left for order in orders), ZERO), market.stock_prec)
            rows.append(row)
        return rows

    def _ledgers(self) -> tuple[tuple[str, Entries], tuple[str, Entries]]:
        return ("available", self.ledger.available), ("freeze", self.ledger.freeze)

    def _page(self, market: int, orders: list[Order], offset: int, limit: int) -> list[Record]:
        if offset < 0:
            return []
        return [order.record(self.markets[market]) for order in orders[offset : offset + limit]]
