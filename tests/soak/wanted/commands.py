"""Which orders, cancels and updates of balances the journal holds, by the names that clients gave them."""

import json
from collections import Counter
from typing import Any, NamedTuple

from bus.catalog import Catalog
from bus.messages import EVENT, UPDATE_EVENT, EventKind, Frame
from bus.orders import order_text
from tests.soak.checks.digests import digest

ORDER_AT: int = EVENT.fields["order"][1]  # type: ignore[index]  # named: numpy's stub allows None
FILLED_KINDS = (EventKind.ORDER_PUT, EventKind.ORDER_FINISH)


class Put(NamedTuple):
    """An order as its reply must have shown it."""

    order_id: int
    digest: bytes


UpdateKey = tuple[int, str, str, int]  # user, asset, business, business id


class Commands:
    """`puts` by source, `doubled` the sources of more than one order, `cancelled` the ids, `updates` how often each."""

    def __init__(self, catalog: Catalog) -> None:
        self.puts: dict[str, Put] = {}
        self.doubled: list[str] = []
        self.cancelled: set[int] = set()
        self.updates: Counter[UpdateKey] = Counter()
        self._catalog = catalog
        self._put_ids = 0  # of orders so far: the next one has the next id

    def add(self, frame: Frame) -> None:
        """Take the next events."""
        for place, kind in enumerate(frame.records["kind"].tolist()):
            event = frame.records[place : place + 1]
            if kind == EventKind.BALANCE_UPDATE:
                self._add_update(event.view(UPDATE_EVENT)[0])
            elif kind in FILLED_KINDS:
                order_id = int(event["order"]["id"][0])
                if order_id > self._put_ids:  # a new order's own event: those of its makers have lower ids
                    self._put_ids = order_id
                    self._add_put(order_id, event)
                elif kind == EventKind.ORDER_FINISH and event["order"]["left_units"][0] > 0:
                    self.cancelled.add(order_id)

    def _add_put(self, order_id: int, event: Any) -> None:
        order = json.loads(order_text(event.tobytes(), ORDER_AT, self._catalog.market_by_index))
        if order["source"] in self.puts:
            self.doubled.append(order["source"])
        self.puts[order["source"]] = Put(order_id, digest(order))

    def _add_update(self, event: Any) -> None:
        asset = self._catalog.asset_by_index[event["asset"]].name
        business = event["business"].tobytes()[: event["business_size"]].decode()
        self.updates[int(event["user_id"]), asset, business, int(event["business_id"])] += 1
