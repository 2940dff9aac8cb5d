"""Single events made by hand, for what no flow brings about."""

import numpy as np

from bus.catalog import Asset
from bus.messages import EVENT, ORDER, UPDATE_EVENT, EventKind, Frame, FrameKind, OrderType, Side, pack, unpack
from bus.text import halves

TIME_S = 1_700_000_000.123456


def update_frame(
    number: int,
    asset: Asset,
    *,
    user_id: int,
    change: int,
    before: int = 0,
    business: bytes = b"deposit",
    detail: bytes = b"{}",
) -> Frame:
    """A balance update of so many 10^-prec_show, when the user had `before`."""
    events = np.zeros(1, EVENT)
    event = events.view(UPDATE_EVENT)[0]
    event["number"], event["time"], event["kind"] = number, TIME_S, EventKind.BALANCE_UPDATE
    event["user_id"], event["business_id"], event["asset"] = user_id, number, asset.index
    event["change_units"] = halves(change)
    event["total_units"] = halves((before + change) * asset.hidden_power)
    event["business_size"], event["detail_size"] = len(business), len(detail)
    event["business"][: len(business)] = np.frombuffer(business, np.uint8)
    return unpack(pack(FrameKind.EVENTS, events, detail, first=number, time=TIME_S))


def finish_frame(number: int, order_id: int, *, market: int, user_id: int, source: bytes) -> Frame:
    """The end of a market order that found nobody."""
    events = np.zeros(1, EVENT)
    events["number"], events["time"], events["kind"] = number, TIME_S, EventKind.ORDER_FINISH
    events["market"] = market
    order = np.zeros(1, ORDER)
    order["id"], order["user_id"], order["ctime"], order["mtime"] = order_id, user_id, TIME_S, TIME_S + 1
    order["market"], order["type"], order["side"], order["amount_units"] = market, OrderType.MARKET, Side.ASK, 1
    order["source_size"] = len(source)
    order["source"][0, : len(source)] = np.frombuffer(source, np.uint8)
    events["order"] = order
    return unpack(pack(FrameKind.EVENTS, events, first=number, time=TIME_S))
