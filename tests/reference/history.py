"""The history as the original writes it: five families of tables, row by row, as CONTRACT 2.4 to 2.7, 7.2 and 7.3 say.

It is slow and plain on purpose. It takes the frames of events from the first one on and keeps every user's balances
itself, forward, in decimals: an event's totals are not used, they have to come out. Numbers are exact and have the
decimals that the original computes; what its columns round away is left to who compares.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from bus.catalog import Asset, Catalog, Market
from bus.messages import EventKind, Frame, OrderType, Side
from tests.reference.exact import exactly, from_units, truncate
from tests.reference.records import Record, plain_event

SHARDS = 100
MAKER, TAKER = 1, 2

Row = dict[str, Any]  # column -> value; ids that a table counts up by itself are left out
Tables = dict[str, list[Row]]  # "balance_history_7" -> its rows in the order in which they were inserted


def history_of(frames: Iterable[Frame], catalog: Catalog) -> "History":
    """What there is after the events of `frames`, which begin with event 1."""
    history = History(catalog)
    for frame in frames:
        history.add(frame)
    return history


class History:
    """The tables, and the balances that their rows follow from."""

    def __init__(self, catalog: Catalog) -> None:
        self.tables: Tables = defaultdict(list)
        self._catalog = catalog
        self._totals: dict[tuple[int, str], Decimal] = defaultdict(Decimal)  # available and freeze together

    @exactly
    def add(self, frame: Frame) -> None:
        """Write what follows from the next frame of events."""
        for place in range(len(frame.records)):
            event = plain_event(frame.records[place : place + 1])
            if event["kind"] == EventKind.BALANCE_UPDATE:
                self._add_update(event, bytes(frame.blob))
            elif event["kind"] == EventKind.DEAL:
                self._add_deal(event)
            elif event["kind"] == EventKind.ORDER_FINISH:
                self._add_order(event["order"])

    def of_user(self, family: str, user_id: int) -> list[Row]:
        """A user's rows of a family that is sharded by user."""
        return [row for row in self.tables.get(f"{family}_{user_id % SHARDS}", []) if row["user_id"] == user_id]

    def of_family(self, family: str) -> list[Row]:
        """The rows of all shards of a family, shard by shard."""
        return [row for shard in range(SHARDS) for row in self.tables.get(f"{family}_{shard}", [])]

    def _insert(self, family: str, key: int, row: Row) -> None:
        self.tables[f"{family}_{key % SHARDS}"].append(row)

    # Orders: filled ones, cancelled ones that had traded, and every market order (CONTRACT 2.6)

    def _add_order(self, order: Record) -> None:
        if order["deal_stock_units"] == 0 and order["type"] != OrderType.MARKET:
            return
        market = self._catalog.market_by_index[order["market"]]
        deal_prec = market.stock_prec + market.money_prec
        fee_prec = (deal_prec if order["side"] == Side.ASK else market.stock_prec) + market.fee_prec
        row = {
            "id": order["id"],
            "create_time": order["ctime"],
            "finish_time": order["mtime"],
            "user_id": order["user_id"],
            "market": market.name,
            "source": text(order["source"], order["source_size"]),
            "t": order["type"],
            "side": order["side"],
            "price": from_units(order["price_units"], market.money_prec),
            "amount": from_units(order["amount_units"], market.stock_prec),
            "taker_fee": from_units(order["taker_rate_units"], market.fee_prec),
            "maker_fee": from_units(order["maker_rate_units"], market.fee_prec),
            "deal_stock": from_units(order["deal_stock_units"], market.stock_prec),
            "deal_money": from_units(order["deal_money_units"], deal_prec),
            "deal_fee": from_units(order["deal_fee_units"], fee_prec),
        }
        self._insert("order_history", order["user_id"], row)
        self._insert("order_detail", order["id"], row)

    # Deals, in the order of CONTRACT 2.7

    def _add_deal(self, event: Record) -> None:
        market = self._catalog.market_by_index[event["market"]]
        for side in ("ask", "bid"):
            row = self._deal_row(event, market, side)
            self._insert("deal_history", row["order_id"], row)
        for side in ("ask", "bid"):
            row = self._deal_row(event, market, side)
            placed = row | {"market": market.name, "side": Side.ASK if side == "ask" else Side.BID}
            self._insert("user_deal_history", row["user_id"], placed)
        for side in ("ask", "bid") if event["taker_side"] == Side.ASK else ("bid", "ask"):
            self._settle(event, market, side)
            user_id = event[f"{side}_user_id"]
            for asset, word in ((market.stock, "stock"), (market.money, "money")):
                total = from_units(event[f"{side}_{word}_total_units"], asset.prec_save)
                assert self._totals[user_id, asset.name] == total, f"event {event['number']}: {side} {word}"

    @staticmethod
    def _deal_row(event: Record, market: Market, side: str) -> Row:
        other = "bid" if side == "ask" else "ask"
        price, amount = price_and_amount(event, market)
        is_taker = event["taker_side"] == (Side.ASK if side == "ask" else Side.BID)
        fees = {
            "ask": price * amount * from_units(event["ask_rate_units"], market.fee_prec),
            "bid": amount * from_units(event["bid_rate_units"], market.fee_prec),
        }
        return {
            "time": event["time"],
            "user_id": event[f"{side}_user_id"],
            "deal_id": event["deal_id"],
            "order_id": event[f"{side}_order_id"],
            "deal_order_id": event[f"{other}_order_id"],
            "role": TAKER if is_taker else MAKER,
            "price": price,
            "amount": amount,
            "deal": price * amount,
            "fee": fees[side],
            "deal_fee": fees[other],
        }

    def _settle(self, event: Record, market: Market, side: str) -> None:
        """One side's balance steps, each followed by its row."""
        price, amount = price_and_amount(event, market)
        rate = from_units(event[f"{side}_rate_units"], market.fee_prec)
        if side == "ask":
            paid, paid_asset, received, received_asset = amount, market.stock, price * amount, market.money
        else:
            paid, paid_asset, received, received_asset = price * amount, market.money, amount, market.stock
        fee = received * rate
        shown = {"a": amount, "i": event[f"{side}_order_id"], "m": market, "p": price}
        self._step(event, side, paid_asset, -paid, shown)
        self._step(event, side, received_asset, received, shown)
        if fee > 0:
            self._step(event, side, received_asset, -fee, {"a": amount, "f": rate} | shown)

    def _step(self, event: Record, side: str, asset: Asset, change: Decimal, shown: Row) -> None:
        """Change a balance, the result truncated toward zero to what it keeps, and write the row."""
        user_id = event[f"{side}_user_id"]
        total = truncate(self._totals[user_id, asset.name] + change, asset.prec_save)
        self._totals[user_id, asset.name] = total
        self._add_change(event["time"], user_id, asset, "trade", change, total, trade_detail(shown))

    # Balance updates

    def _add_update(self, event: Record, blob: bytes) -> None:
        asset = self._catalog.asset_by_index[event["asset"]]
        change = from_units(event["change_units"], asset.prec_show)
        total = truncate(self._totals[event["user_id"], asset.name] + change, asset.prec_save)
        assert total == from_units(event["total_units"], asset.prec_save), f"event {event['number']}"
        self._totals[event["user_id"], asset.name] = total
        business = text(event["business"], event["business_size"])
        detail = blob[event["detail_offset"] :][: event["detail_size"]].decode("utf-8", "replace")
        self._add_change(event["time"], event["user_id"], asset, business, change, total, detail)

    def _add_change(
        self, time: float, user_id: int, asset: Asset, business: str, change: Decimal, balance: Decimal, detail: str
    ) -> None:
        row = {
            "time": time,
            "user_id": user_id,
            "asset": asset.name,
            "business": business,
            "change": change,
            "balance": balance,
            "detail": detail,
        }
        self._insert("balance_history", user_id, row)


def price_and_amount(event: Record, market: Market) -> tuple[Decimal, Decimal]:
    """Of a deal."""
    return from_units(event["price_units"], market.money_prec), from_units(event["amount_units"], market.stock_prec)


def text(field: bytes, size: int) -> str:
    """What a text field of a record holds."""
    return field[:size].decode("utf-8", "replace")


def trade_detail(shown: Row) -> str:
    """The detail of a trade's row: compact JSON, keys in order, numbers in quotes and stripped (CONTRACT 0.2, 0.4)."""
    pairs = []
    for key in sorted(shown):
        value = shown[key]
        if isinstance(value, Decimal):
            pairs.append(f'"{key}": "{stripped(value)}"')
        else:
            pairs.append(f'"{key}": {value.quoted if isinstance(value, Market) else value}')
    return "{" + ", ".join(pairs) + "}"


def stripped(value: Decimal) -> str:
    """A number as replies show it, made by the decimal library itself (CONTRACT 0.4)."""
    shown = str(value).replace("E", "e")
    return shown if "e" in shown or "." not in shown else shown.rstrip("0").rstrip(".")
