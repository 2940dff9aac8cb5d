"""What a deal did to the balances of its two owners, step by step, from its one event (CONTRACT 2.4, 2.5, 2.7).

A seller's steps are stock away, money in, fee from the money; a buyer's money away, stock in, fee from the stock. Of
each side the event has the totals behind its last step. What lies before follows backwards: a step took as much off a
total as it moved, a fee as much as it is, rounded up to what the balance keeps (the original cuts off the balance, so
the charge is rounded up). No two steps but that pair are on the same asset. Whole numbers only, because writers do
this for each of thousands of deals a second.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bus.catalog import Asset, Market
from bus.messages import DEAL_EVENT, Side, struct_of
from bus.text import stripped, wide

BUSINESS = "trade"  # of every step of a deal in balance_history
MAKER, TAKER = 1, 2
DEAL_STRUCT = struct_of(DEAL_EVENT)  # its fields are what `sides` takes

_ASK, _BID = int(Side.ASK), int(Side.BID)
_TENS: tuple[int, ...] = tuple(
    10**places for places in range(64)
)  # a power of ten looked up is some times quicker than one made


class DealSide(NamedTuple):
    """One side of a deal; all that user_deal_history and deal_history say of it."""

    time: float
    market: Market
    deal_id: int
    user_id: int
    order_id: int
    deal_order_id: int  # of the other side
    side: int
    role: int
    price_units: int
    amount_units: int
    rate_units: int
    deal_units: int  # in 10^-deal_prec of the money
    fee_units: int  # a seller's in 10^-ask_fee_prec of the money, a buyer's in 10^-bid_fee_prec of the stock
    deal_fee_units: int  # the other side's
    stock_total_units: int  # available and freeze after this side's steps
    money_total_units: int


class Step(NamedTuple):
    """One change of a balance; what a row of balance_history says beside time, user and business."""

    asset: Asset
    change_units: int  # in 10^-change_prec
    change_prec: int
    balance_units: int  # available and freeze after it, in 10^-prec_save of the asset
    detail: str  # JSON


def sides(fields: Sequence[Any], market: Market) -> tuple[DealSide, DealSide]:
    """Both sides of a deal, the taker first; `fields` as DEAL_STRUCT unpacks them, `market` the one they name."""
    # fmt: off
    (_, _, time, _, taker_side, _, _, deal_id, ask_order_id, bid_order_id, ask_user_id, bid_user_id,
     price, amount, ask_rate, bid_rate, ask_stock_low, ask_stock_high, ask_money_low, ask_money_high,
     bid_stock_low, bid_stock_high, bid_money_low, bid_money_high, _, _, _) = fields
    # fmt: on
    deal = price * amount
    ask_fee, bid_fee = deal * ask_rate, amount * bid_rate
    ask_role, bid_role = (TAKER, MAKER) if taker_side == _ASK else (MAKER, TAKER)
    ask = DealSide(
        time, market, deal_id, ask_user_id, ask_order_id, bid_order_id, _ASK, ask_role, price, amount, ask_rate,
        deal, ask_fee, bid_fee, wide(ask_stock_low, ask_stock_high), wide(ask_money_low, ask_money_high),
    )  # fmt: skip
    bid = DealSide(
        time, market, deal_id, bid_user_id, bid_order_id, ask_order_id, _BID, bid_role, price, amount, bid_rate,
        deal, bid_fee, ask_fee, wide(bid_stock_low, bid_stock_high), wide(bid_money_low, bid_money_high),
    )  # fmt: skip
    return (ask, bid) if taker_side == _ASK else (bid, ask)


def steps(dealt: DealSide) -> list[Step]:
    """What a side's deal did to its owner's balances: two steps, and a third when there is a fee."""
    market, amount, deal, fee = dealt.market, dealt.amount_units, dealt.deal_units, dealt.fee_units
    stock, money = market.stock, market.money
    amount_text = stripped(amount, market.stock_prec)
    rest = f'"i": {dealt.order_id}, "m": {market.quoted}, "p": "{stripped(dealt.price_units, market.money_prec)}"}}'
    detail = f'{{"a": "{amount_text}", {rest}'
    if dealt.side == _ASK:
        paid = Step(stock, -amount, market.stock_prec, dealt.stock_total_units, detail)
        asset, received, prec = money, deal, market.deal_prec
        total, fee_prec = dealt.money_total_units, market.ask_fee_prec
    else:
        paid = Step(money, -deal, market.deal_prec, dealt.money_total_units, detail)
        asset, received, prec = stock, amount, market.stock_prec
        total, fee_prec = dealt.stock_total_units, market.bid_fee_prec
    if not fee:
        return [paid, Step(asset, received, prec, total, detail)]
    fee_detail = f'{{"a": "{amount_text}", "f": "{stripped(dealt.rate_units, market.fee_prec)}", {rest}'
    return [
        paid,
        Step(asset, received, prec, total + charge(fee, fee_prec, asset.prec_save), detail),
        Step(asset, -fee, fee_prec, total, fee_detail),
    ]


def charge(fee_units: int, fee_prec: int, prec_save: int) -> int:
    """What a fee takes off a balance, in 10^-prec_save: all of it, or rounded up."""
    if fee_prec <= prec_save:
        return fee_units * _TENS[prec_save - fee_prec]
    return -(-fee_units // _TENS[fee_prec - prec_save])
