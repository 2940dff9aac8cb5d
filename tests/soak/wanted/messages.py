"""The messages of the three Kafka topics that follow from events, as CONTRACT 6 says, each as a digest."""

import json
from typing import Any

from bus.catalog import Catalog, Market
from bus.messages import EventKind, Frame
from bus.orders import order_text
from tests.reference.exact import exactly, from_units
from tests.reference.history import price_and_amount, text
from tests.reference.records import Record, plain_event
from tests.soak.checks.digests import Chain, digest
from tests.soak.wanted.commands import ORDER_AT
from tests.soak.wanted.market import base

TOPICS = ("deals", "orders", "balances")


class Messages:
    """`topics` are the digests of each topic's messages, in order."""

    def __init__(self, catalog: Catalog) -> None:
        self.topics: dict[str, Chain] = {topic: Chain() for topic in TOPICS}
        self._catalog = catalog

    @exactly
    def add(self, frame: Frame) -> None:
        """Take the next events."""
        for place, kind in enumerate(frame.records["kind"].tolist()):
            event = frame.records[place : place + 1]
            if kind == EventKind.DEAL:
                self.topics["deals"] += digest(self._deal(plain_event(event)))
            elif kind == EventKind.BALANCE_UPDATE:
                self.topics["balances"] += digest(self._update(plain_event(event)))
            else:
                self.topics["orders"] += digest(self._order(kind, event))

    def _deal(self, event: Record) -> list[Any]:
        market = self._catalog.market_by_index[event["market"]]
        price, amount = price_and_amount(event, market)
        ask_rate, bid_rate = (from_units(event[f"{side}_rate_units"], market.fee_prec) for side in ("ask", "bid"))
        ids = [event[f"{side}_{what}_id"] for what in ("order", "user") for side in ("ask", "bid")]
        numbers = [base(number) for number in (price, amount, price * amount * ask_rate, amount * bid_rate)]
        end = [event["taker_side"], event["deal_id"], market.stock.name, market.money.name]
        return [event["time"], market.name, *ids, *numbers, *end]

    def _order(self, kind: int, event: Any) -> dict[str, Any]:
        order = json.loads(order_text(event.tobytes(), ORDER_AT, self._catalog.market_by_index))
        market: Market = self._catalog.market_by_name[order["market"]]
        return {"event": kind, "order": order, "stock": market.stock.name, "money": market.money.name}

    def _update(self, event: Record) -> list[Any]:
        asset = self._catalog.asset_by_index[event["asset"]]
        change = base(from_units(event["change_units"], asset.prec_show))
        return [event["time"], event["user_id"], asset.name, text(event["business"], event["business_size"]), change]
