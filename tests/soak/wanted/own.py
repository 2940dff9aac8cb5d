"""What users who follow their own orders must have been told, and how much of each asset there must be."""

import json
from collections import defaultdict

from bus.catalog import Catalog
from bus.messages import DEAL_EVENT, UPDATE_EVENT, EventKind, Frame
from bus.orders import order_text
from bus.text import wide
from tests.soak.checks.digests import digest
from tests.soak.wanted.commands import ORDER_AT

Numbered = tuple[int, bytes]  # an event's number, and what was told of it


class OwnOrders:
    """`told` are, for each of some users, the events of his orders in order."""

    def __init__(self, catalog: Catalog, users: frozenset[int]) -> None:
        self.told: dict[int, list[Numbered]] = {user: [] for user in users}
        self._markets = catalog.market_by_index

    def add(self, frame: Frame) -> None:
        """Take the next events."""
        kinds, users = frame.records["kind"].tolist(), frame.records["order"]["user_id"].tolist()
        for place, (kind, user) in enumerate(zip(kinds, users, strict=True)):
            if kind <= EventKind.ORDER_FINISH and user in self.told:
                event = frame.records[place : place + 1]
                order = json.loads(order_text(event.tobytes(), ORDER_AT, self._markets))
                self.told[user].append((int(event["number"][0]), digest([kind, order])))


class Sums:
    """`units` is what all users together must hold of each asset, in 10^-prec_save: what came, less what fees took."""

    def __init__(self, catalog: Catalog) -> None:
        self.came: dict[str, int] = defaultdict(int)  # deposits less withdrawals
        self.fees: dict[str, int] = defaultdict(int)
        self._catalog = catalog

    @property
    def units(self) -> dict[str, int]:
        """Of every asset."""
        return {asset.name: self.came[asset.name] - self.fees[asset.name] for asset in self._catalog.assets}

    def add(self, frame: Frame) -> None:
        """Take the next events."""
        kinds = frame.records["kind"]
        for row in frame.records[kinds == EventKind.BALANCE_UPDATE].view(UPDATE_EVENT):
            asset = self._catalog.asset_by_index[row["asset"]]
            self.came[asset.name] += wide(*row["change_units"].tolist()) * 10 ** (asset.prec_save - asset.prec_show)
        for row in frame.records[kinds == EventKind.DEAL].view(DEAL_EVENT):
            market = self._catalog.market_by_index[row["market"]]
            amount, price = int(row["amount_units"]), int(row["price_units"])
            ask_fee, bid_fee = amount * price * int(row["ask_rate_units"]), amount * int(row["bid_rate_units"])
            self.fees[market.money.name] += rescaled_up(ask_fee, market.ask_fee_prec, market.money.prec_save)
            self.fees[market.stock.name] += rescaled_up(bid_fee, market.bid_fee_prec, market.stock.prec_save)


def rescaled_up(units: int, prec: int, wanted_prec: int) -> int:
    """`units` of 10^-prec in 10^-wanted_prec, rounded up: what a fee takes off a balance (CONTRACT 2.4)."""
    if wanted_prec >= prec:
        return int(units * 10 ** (wanted_prec - prec))
    return int(-(-units // 10 ** (prec - wanted_prec)))
