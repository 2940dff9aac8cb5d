"""Rows of the SQLite file as rows of the history, with names and decimals."""

import sqlite3
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import numpy as np

from bus import catalog
from bus.catalog import Catalog
from bus.messages import ASSET_VIEW, MARKET_VIEW, Records, Side
from persist.sqlite_ranges import UPDATE, Row
from persist.sqlite_rows import ASSET_COLUMNS, DEAL_COLUMNS, MARKET_COLUMNS, ORDER_COLUMNS
from persist.steps import BUSINESS, MAKER, TAKER, DealSide, steps
from persist.store import Change, Deal, Order

ORDER_ROW = f"SELECT {', '.join(ORDER_COLUMNS)} FROM finished_order"
_ASK_RATE, _BID_RATE, _MARKET = (
    1 + DEAL_COLUMNS.index(name) for name in ("ask_rate_units", "bid_rate_units", "market")
)
_SIDE_COLUMN_COUNT = 5
_EXACT = Context(prec=100)  # digits: more than a product of three numbers of 64 bits has


class Names:
    """What numbers of assets and markets mean; read again when there are more of them."""

    def __init__(self) -> None:
        self._catalog = catalog.EMPTY

    def read(self, connection: sqlite3.Connection) -> Catalog:
        """All that the file names."""
        [counts] = connection.execute("SELECT (SELECT count(*) FROM asset), (SELECT count(*) FROM market)")
        if counts != (len(self._catalog.assets), len(self._catalog.markets)):
            self._catalog = _catalog(connection)
        return self._catalog


def _catalog(connection: sqlite3.Connection) -> Catalog:
    return catalog.make(
        _views(connection, "asset", ASSET_COLUMNS[1:], ASSET_VIEW),
        _views(connection, "market", MARKET_COLUMNS[1:], MARKET_VIEW),
    )


def _views(connection: sqlite3.Connection, table: str, fields: tuple[str, ...], dtype: "np.dtype[Any]") -> Records:
    """A table of names as the matcher would tell it."""
    rows = connection.execute(f"SELECT {', '.join(fields)} FROM {table} ORDER BY id").fetchall()
    views = np.zeros(len(rows), dtype)
    views["rank"] = np.arange(len(rows))
    for place, row in enumerate(rows):
        for field, value in zip(fields, row, strict=True):
            views[place][field] = value.encode() if field == "name" else value
    return views


def side_of(row: Row, names: Catalog) -> DealSide:
    """The side that a row of a deal is."""
    _, side, time, market, deal_id, taker_side, price, amount, *both = row
    ask, bid = both[:_SIDE_COLUMN_COUNT], both[_SIDE_COLUMN_COUNT:]
    mine, other = (ask, bid) if side == Side.ASK else (bid, ask)
    order_id, user_id, rate, stock_total, money_total = mine
    other_id, _, other_rate, *_ = other
    deal = price * amount
    fee, deal_fee = (deal * rate, amount * other_rate) if side == Side.ASK else (amount * rate, deal * other_rate)
    return DealSide(
        time, names.market_by_index[market], deal_id, user_id, order_id, other_id, side,
        TAKER if side == taker_side else MAKER, price, amount, rate, deal, fee, deal_fee,
        int(stock_total), int(money_total),
    )  # fmt: skip


def deal_of(row: Row, names: Catalog) -> Deal:
    """A row of user_deal_history."""
    side = side_of(row, names)
    market = side.market
    fee_prec, deal_fee_prec = market.ask_fee_prec, market.bid_fee_prec
    if side.side == Side.BID:
        fee_prec, deal_fee_prec = deal_fee_prec, fee_prec
    return Deal(
        side.time,
        side.user_id,
        market.name,
        side.deal_id,
        side.order_id,
        side.deal_order_id,
        side.side,
        side.role,
        exact(side.price_units, market.money_prec),
        exact(side.amount_units, market.stock_prec),
        exact(side.deal_units, market.deal_prec),
        exact(side.fee_units, fee_prec),
        exact(side.deal_fee_units, deal_fee_prec),
    )


def changes_of(row: Row, names: Catalog, asset: int | None) -> list[Change]:
    """Rows of balance_history, oldest first: what a balance update, or a side of a deal, did to one asset or all."""
    if row[1] == UPDATE:
        return [_update_of(row, names)]
    side = side_of(row, names)
    return [
        Change(
            side.time,
            side.user_id,
            step.asset.name,
            BUSINESS,
            exact(step.change_units, step.change_prec),
            exact(step.balance_units, step.asset.prec_save),
            step.detail,
        )
        for step in steps(side)
        if asset is None or step.asset.index == asset
    ]


def change_count_of(row: Row, names: Catalog, asset: int | None) -> int:
    """How many rows `changes_of` gives, without making them."""
    side = row[1]
    if side == UPDATE:
        return 1
    fee_count = 1 if row[_ASK_RATE if side == Side.ASK else _BID_RATE] else 0
    if asset is None:
        return 2 + fee_count
    market = names.market_by_index[row[_MARKET]]
    received = market.money if side == Side.ASK else market.stock  # from it the fee is taken
    return 1 + fee_count if received.index == asset else 1


def _update_of(row: Row, names: Catalog) -> Change:
    _, _, time, user_id, number, business, change, total, detail = row
    asset = names.asset_by_index[number]
    return Change(
        time,
        user_id,
        asset.name,
        _text(business),
        exact(int(change), asset.prec_show),
        exact(int(total), asset.prec_save),
        _text(detail),
    )


def orders_by_ids(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Row]:
    """Rows of `finished_order`, in the order of the ids; of those that there are."""
    if not ids:
        return []
    marks = ", ".join("?" * len(ids))
    by_id = {row[0]: row for row in connection.execute(f"{ORDER_ROW} WHERE id IN ({marks})", ids)}
    return [by_id[order_id] for order_id in ids if order_id in by_id]


def order_of(row: Row, names: Catalog) -> Order:
    """A row of order_history."""
    # fmt: off
    (order_id, create_time, finish_time, user_id, market_index, source, order_type, side, price, amount,
     taker_rate, maker_rate, deal_stock, deal_money, deal_fee) = row
    # fmt: on
    market = names.market_by_index[market_index]
    return Order(
        order_id,
        create_time,
        finish_time,
        user_id,
        market.name,
        _text(source),
        order_type,
        side,
        exact(price, market.money_prec),
        exact(amount, market.stock_prec),
        exact(taker_rate, market.fee_prec),
        exact(maker_rate, market.fee_prec),
        exact(int(deal_stock), market.stock_prec),
        exact(int(deal_money), market.deal_prec),
        exact(int(deal_fee), market.ask_fee_prec if side == Side.ASK else market.bid_fee_prec),
    )


def exact(units: int, prec: int) -> Decimal:
    """The number, with as many decimals as its units have."""
    return Decimal(units).scaleb(-prec, _EXACT)


def _text(stored: str | bytes) -> str:
    """What was no UTF-8 is stored as bytes."""
    return stored if isinstance(stored, str) else stored.decode("utf-8", "replace")
