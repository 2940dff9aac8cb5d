"""Events as rows of INSERT statements: `(..., ...)` in the order of a family's columns, without the id that a table
counts up itself.

Hundreds of thousands of rows a second pass here when a backlog is worked off, so they are put together by hand. All
that is put together is ASCII: numbers of our own, and texts either of harmless characters only or in hexadecimal. No
setting of the server reads another thing into it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from bus.catalog import Catalog, Market
from bus.messages import EVENT, UPDATE_EVENT, EventKind, Frame, OrderType, Side, struct_of
from bus.text import wide
from persist.mysql_schema import (
    BALANCE_HISTORY,
    DEAL_HISTORY,
    ORDER_DETAIL,
    ORDER_HISTORY,
    SHARD_COUNT,
    USER_DEAL_HISTORY,
    Family,
)
from persist.steps import BUSINESS, DEAL_STRUCT, DealSide, sides, steps

DECIMALS_MAX = 30  # of a literal, in MySQL
TEXTS_KEPT_COUNT = 8_192  # sources, businesses and names repeat
ORDER_STRUCT = struct_of(EVENT)
UPDATE_STRUCT = struct_of(UPDATE_EVENT)

Shards = list[list[str]]  # the rows of each table of a family

_ZEROS = "0" * 64
_harmless = re.compile(r"[ -&(-\[\]-~]*").fullmatch  # printable ASCII but ' and \
_DEAL, _UPDATE, _FINISH = int(EventKind.DEAL), int(EventKind.BALANCE_UPDATE), int(EventKind.ORDER_FINISH)
_ASK, _LIMIT = int(Side.ASK), int(OrderType.LIMIT)


class Told(NamedTuple):
    """What some events say that the history keeps, each in order."""

    orders: list[tuple[Any, ...]]  # fields of ORDER_STRUCT
    deals: list[tuple[DealSide, DealSide]]  # the taker's first
    changes: list[DealSide | tuple[int, str]]  # of balances: by a deal; or a user and a row


def number(units: int, prec: int) -> str:
    """units x 10^-prec as an exact literal; beyond DECIMALS_MAX rounded half away from zero, as the server would."""
    if units < 0:
        return "-" + number(-units, prec)
    if prec > DECIMALS_MAX:
        power = 10 ** (prec - DECIMALS_MAX)
        return number((2 * units + power) // (2 * power), DECIMALS_MAX)
    digits = str(units)
    point = len(digits) - prec
    if point > 0:
        return f"{digits[:point]}.{digits[point:]}" if prec else digits
    return f"0.{_ZEROS[:-point]}{digits}"


def literal(text: str) -> str:
    """A text as a literal, whatever is in it."""
    return f"'{text}'" if _harmless(text) else f"_utf8mb4 X'{text.encode().hex()}'"


@lru_cache(TEXTS_KEPT_COUNT)
def field(data: bytes) -> str:
    """A text of a record as a literal; bytes that are no UTF-8 become U+FFFD."""
    return literal(data.decode("utf-8", "replace"))


name = lru_cache(TEXTS_KEPT_COUNT)(literal)  # of an asset or a market


def read(frames: Sequence[Frame], catalog: Catalog) -> Told:
    """What is to be written of some frames of events."""
    told = Told([], [], [])
    markets = catalog.market_by_index
    for frame in frames:
        records, size = memoryview(frame.records.tobytes()), frame.records.itemsize
        for place, kind in enumerate(frame.records["kind"].tolist()):
            if kind == _DEAL:
                fields = DEAL_STRUCT.unpack_from(records, place * size)
                both = sides(fields, markets[fields[6]])
                told.deals.append(both)
                told.changes.extend(both)
            elif kind == _FINISH:
                told.orders.append(ORDER_STRUCT.unpack_from(records, place * size))
            elif kind == _UPDATE:
                fields = UPDATE_STRUCT.unpack_from(records, place * size)
                told.changes.append(_update_row(fields, frame, catalog))
    return told


def _update_row(fields: tuple[Any, ...], frame: Frame, catalog: Catalog) -> tuple[int, str]:
    # fmt: off
    (_, _, time, _, _, _, _, user_id, _, change_low, change_high, total_low, total_high,
     asset_index, business_size, offset, size, business, _) = fields
    # fmt: on
    asset = catalog.asset_by_index[asset_index]
    change = number(wide(change_low, change_high), asset.prec_show)
    total = number(wide(total_low, total_high), asset.prec_save)
    detail = literal(bytes(frame.blob[offset : offset + size]).decode("utf-8", "replace"))
    return user_id, (
        f"({time!r},{user_id},{name(asset.name)},{field(business[:business_size])},{change},{total},{detail})"
    )


def order_rows(told: Told, catalog: Catalog) -> Iterator[tuple[Family, Shards]]:
    """Of orders that are finished, as far as they are kept (CONTRACT 2.6)."""
    by_user, by_order = _shards(), _shards()
    for fields in told.orders:
        # fmt: off
        (_, _, _, _, _, _, _, order_id, user_id, ctime, mtime, price, amount, _, taker_rate, maker_rate,
         stock_low, stock_high, money_low, money_high, fee_low, fee_high,
         market_index, order_type, side, source_size, _, source) = fields
        # fmt: on
        if order_type == _LIMIT and not (stock_low or stock_high):
            continue
        market = catalog.market_by_index[market_index]
        row = (
            f"({order_id},{ctime!r},{mtime!r},{user_id},{name(market.name)},{field(source[:source_size])},"
            f"{order_type},{side},{number(price, market.money_prec)},{number(amount, market.stock_prec)},"
            f"{number(taker_rate, market.fee_prec)},{number(maker_rate, market.fee_prec)},"
            f"{number(wide(stock_low, stock_high), market.stock_prec)},"
            f"{number(wide(money_low, money_high), market.deal_prec)},"
            f"{number(wide(fee_low, fee_high), market.ask_fee_prec if side == _ASK else market.bid_fee_prec)})"
        )
        by_user[user_id % SHARD_COUNT].append(row)
        by_order[order_id % SHARD_COUNT].append(row)
    yield ORDER_HISTORY, by_user
    yield ORDER_DETAIL, by_order


def deal_rows(told: Told) -> Iterator[tuple[Family, Shards]]:
    """Of deals, the seller's row before the buyer's (CONTRACT 2.7)."""
    by_order, by_user = _shards(), _shards()
    for taker, maker in told.deals:
        ask, bid = (taker, maker) if taker.side == _ASK else (maker, taker)
        market, time = ask.market, repr(ask.time)
        numbers = (
            f"{number(ask.price_units, market.money_prec)},{number(ask.amount_units, market.stock_prec)},"
            f"{number(ask.deal_units, market.deal_prec)}"
        )
        ask_fee, bid_fee = number(ask.fee_units, market.ask_fee_prec), number(bid.fee_units, market.bid_fee_prec)
        ids, quoted = f"{ask.deal_id},{ask.order_id},{bid.order_id},", name(market.name)
        end = f"{ask.role},{numbers},{ask_fee},{bid_fee})"
        by_order[ask.order_id % SHARD_COUNT].append(f"({time},{ask.user_id},{ids}{end}")
        by_user[ask.user_id % SHARD_COUNT].append(f"({time},{ask.user_id},{quoted},{ids}{ask.side},{end}")
        ids = f"{ask.deal_id},{bid.order_id},{ask.order_id},"
        end = f"{bid.role},{numbers},{bid_fee},{ask_fee})"
        by_order[bid.order_id % SHARD_COUNT].append(f"({time},{bid.user_id},{ids}{end}")
        by_user[bid.user_id % SHARD_COUNT].append(f"({time},{bid.user_id},{quoted},{ids}{bid.side},{end}")
    yield DEAL_HISTORY, by_order
    yield USER_DEAL_HISTORY, by_user


def change_rows(told: Told) -> Iterator[tuple[Family, Shards]]:
    """Of balances, a row for each step."""
    shards = _shards()
    for change in told.changes:
        if isinstance(change, DealSide):
            detail = _detail_literal(change.market)
            append = shards[change.user_id % SHARD_COUNT].append
            begin = f"({change.time!r},{change.user_id},"
            for asset, units, prec, balance, text in steps(change):
                append(
                    f"{begin}{name(asset.name)},'{BUSINESS}',{number(units, prec)},"
                    f"{number(balance, asset.prec_save)},{detail(text)})"
                )
        else:
            user_id, row = change
            shards[user_id % SHARD_COUNT].append(row)
    yield BALANCE_HISTORY, shards


def _detail_literal(market: Market) -> Callable[[str], str]:
    """How the details of a market's deals become literals: beside numbers they hold its name only."""
    return _in_quotes if _harmless(market.quoted) else literal


def _in_quotes(text: str) -> str:
    return f"'{text}'"


def _shards() -> Shards:
    return [[] for _ in range(SHARD_COUNT)]
