"""Events as rows of the SQLite file: column by column in numpy, because there are tens of thousands a second."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

import numpy as np

from bus.catalog import Catalog
from bus.messages import DEAL_EVENT, UPDATE_EVENT, EventKind, Frame, OrderType, Records
from bus.text import wide

Row = tuple[Any, ...]
TEXTS_KEPT_COUNT = 4096

_DEAL_FIELDS = ("number", "time", "market", "deal_id", "taker_side", "price_units", "amount_units")
_SIDE_FIELDS = ("order_id", "user_id", "rate_units", "stock_total_units", "money_total_units")
DEAL_COLUMNS = (*_DEAL_FIELDS, *(f"{side}_{field}" for side in ("ask", "bid") for field in _SIDE_FIELDS))
ORDER_COLUMNS = (
    "id", "create_time", "finish_time", "user_id", "market", "source", "type", "side", "price_units", "amount_units",
    "taker_rate_units", "maker_rate_units", "deal_stock_units", "deal_money_units", "deal_fee_units",
)  # fmt: skip
UPDATE_COLUMNS = ("number", "time", "user_id", "asset", "business", "change_units", "total_units", "detail")
ENTRY_COLUMNS = ("run", "user_id", "id", "market", "side")  # of an order in `user_order`
ASSET_COLUMNS = ("id", "name", "prec_save", "prec_show")
MARKET_COLUMNS = ("id", "name", "stock", "money", "stock_prec", "money_prec", "fee_prec")
_FIELDS = {"create_time": "ctime", "finish_time": "mtime"}  # of an ORDER, where it calls them otherwise


def events_of(frames: Sequence[Frame]) -> Records:
    """The events of some frames together."""
    return frames[0].records if len(frames) == 1 else np.concatenate([frame.records for frame in frames])


def deal_rows(events: Records) -> Iterable[Row]:
    """Rows of `deal`."""
    deals = events[events["kind"] == EventKind.DEAL].view(DEAL_EVENT)
    return zip(*(_column(deals[name]) for name in DEAL_COLUMNS), strict=True)


def finished_orders(events: Records) -> Records:
    """The orders that come into the history: what traded, and every market order (CONTRACT 2.6)."""
    orders: Records = events[events["kind"] == EventKind.ORDER_FINISH]["order"]
    wanted: Records = orders[orders["deal_stock_units"].any(axis=1) | (orders["type"] == OrderType.MARKET)]
    return wanted


def order_rows(orders: Records) -> Iterable[Row]:
    """Rows of `finished_order`."""
    made = {"source": _texts(orders["source"], orders["source_size"])}
    return zip(
        *(made.get(name) or _column(orders[_FIELDS.get(name, name)]) for name in ORDER_COLUMNS),
        strict=True,
    )


def order_entries(orders: Records, run: int) -> Iterable[Row]:
    """Rows of `user_order`, in its order: so they are entered in one pass."""
    orders = orders[np.lexsort((orders["id"], orders["user_id"]))]
    return zip(repeat(run), *(orders[name].tolist() for name in ENTRY_COLUMNS[1:]))


def update_rows(events: Records, frames: Sequence[Frame]) -> Iterable[Row]:
    """Rows of `balance_update`; `events` are those of `frames`, whose blobs hold the details."""
    updates = events[events["kind"] == EventKind.BALANCE_UPDATE].view(UPDATE_EVENT)
    made = {
        "business": _texts(updates["business"], updates["business_size"]),
        "detail": _details(updates, frames),
    }
    return zip(*(made.get(name) or _column(updates[name]) for name in UPDATE_COLUMNS), strict=True)


def asset_rows(catalog: Catalog) -> list[Row]:
    """Rows of `asset`."""
    return [(asset.index, asset.name, asset.prec_save, asset.prec_show) for asset in catalog.asset_by_index]


def market_rows(catalog: Catalog) -> list[Row]:
    """Rows of `market`."""
    return [
        (m.index, m.name, m.stock.index, m.money.index, m.stock_prec, m.money_prec, m.fee_prec)
        for m in catalog.market_by_index
    ]


def _column(values: Records) -> list[Any]:
    """A field of all records as SQLite takes it; one of 128 bits as integers, or digits where 64 are too few."""
    if values.ndim == 1:
        return list(values.tolist())
    lows, highs = values[:, 0], values[:, 1]
    column = lows.tolist()
    too_wide = np.flatnonzero(highs != lows >> 63)
    for place, high in zip(too_wide.tolist(), highs[too_wide].tolist(), strict=True):
        column[place] = str(wide(column[place], high))
    return list(column)


def _texts(fields: Records, sizes: Records) -> Iterator[str | bytes]:
    """What text fields hold."""
    whole = np.ascontiguousarray(fields).view(f"V{fields.shape[1]}")[:, 0] if len(fields) else fields
    return map(_text_field, whole.tolist(), sizes.tolist())


@lru_cache(TEXTS_KEPT_COUNT)
def _text_field(field: bytes, size: int) -> str | bytes:
    return text_or_bytes(field[:size])


def text_or_bytes(data: bytes) -> str | bytes:
    """Text as text; what is no UTF-8, which a client of the bus may send, as it is."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _details(updates: Records, frames: Sequence[Frame]) -> Iterator[str | bytes]:
    """The details that updates point at, each in the blob of its frame."""
    places = np.searchsorted([frame.first for frame in frames], updates["number"], side="right") - 1
    offsets, sizes = updates["detail_offset"].tolist(), updates["detail_size"].tolist()
    for place, offset, size in zip(places.tolist(), offsets, sizes, strict=True):
        yield text_or_bytes(bytes(frames[place].blob[offset : offset + size]))
