"""Deals, frames of events and markets for tests of market data."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bus.catalog import Catalog, make
from bus.messages import ASSET_VIEW, DEAL_EVENT, EVENT, MARKET_VIEW, EventKind, Frame, FrameKind, Side, pack, unpack

STOCK_PREC, MONEY_PREC = 4, 2


class Deal(NamedTuple):
    """A deal: price and amount in units."""

    time: float
    price: int
    amount: int
    market: int = 0
    taker_side: int = Side.ASK


def catalog(*names: str) -> Catalog:
    """Markets of one pair of assets, all with the same decimals."""
    assets = np.zeros(2, ASSET_VIEW)
    assets["name"], assets["prec_save"], assets["prec_show"], assets["rank"] = (b"S", b"M"), 20, 8, (0, 1)
    markets = np.zeros(len(names), MARKET_VIEW)
    markets["name"] = [name.encode() for name in names]
    markets["money"] = 1
    markets["stock_prec"], markets["money_prec"], markets["fee_prec"] = STOCK_PREC, MONEY_PREC, 4
    markets["rank"] = range(len(names))
    return make(assets, markets)


def frame(deals: Sequence[Deal], first: int, first_deal_id: int | None = None) -> Frame:
    """A frame of events: the deals, then one that is none."""
    events = np.zeros(len(deals) + 1, DEAL_EVENT)
    events["number"] = range(first, first + len(events))
    events["kind"] = EventKind.DEAL
    events["kind"][-1] = EventKind.ORDER_FINISH
    rows = events[:-1]
    rows["deal_id"] = np.arange(len(deals)) + (first if first_deal_id is None else first_deal_id)
    for name, values in (
        ("time", [deal.time for deal in deals]),
        ("price_units", [deal.price for deal in deals]),
        ("amount_units", [deal.amount for deal in deals]),
        ("market", [deal.market for deal in deals]),
        ("taker_side", [deal.taker_side for deal in deals]),
    ):
        rows[name] = values
    return unpack(pack(FrameKind.EVENTS, events.view(EVENT), first=first))


def frames(batches: Iterable[Sequence[Deal]], first: int = 1) -> list[Frame]:
    """A frame for each batch of deals, one after the other."""
    made = []
    for batch in batches:
        made.append(frame(batch, first))
        first += len(batch) + 1
    return made
