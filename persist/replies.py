"""Rows of the history as the JSON of CONTRACT 3: keys in their order, numbers as the original's columns give them back.

A store keeps exact numbers. The original's columns have so many decimals (CONTRACT 7.2), rounded half away from zero;
a reply shows them without zeros at the end and never in scientific form.
"""

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TypeVar

from bus import jsontext
from bus.jsontext import BadJson, moment, quoted
from persist.store import Change, Deal, Order, Page

AMOUNT_PREC = 8  # prices, amounts, what was dealt of the stock; the change of a balance
RATE_PREC = 4
MONEY_PREC = 16  # balances, money, fees

_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)  # of this context: half away from zero
_STEPS = {prec: Decimal(1).scaleb(-prec) for prec in (AMOUNT_PREC, RATE_PREC, MONEY_PREC)}

Row = TypeVar("Row")


def number(value: Decimal, prec: int) -> str:
    """A number with up to `prec` decimals."""
    rounded = value.quantize(_STEPS[prec], context=_EXACT)
    return f"{rounded:f}".rstrip("0").rstrip(".") if rounded else "0"


def page(rows: Sequence[Row], record: Callable[[Row], str], asked: Page) -> str:
    """The result of a method that lists."""
    return f'{{"offset": {asked.offset}, "limit": {asked.limit}, "records": [{", ".join(map(record, rows))}]}}'


def change(row: Change) -> str:
    """A record of balance.history."""
    return (
        f'{{"time": {moment(row.time)}, "asset": {quoted(row.asset)}, "business": {quoted(row.business)}, '
        f'"change": "{number(row.change, AMOUNT_PREC)}", "balance": "{number(row.balance, MONEY_PREC)}", '
        f'"detail": {detail(row.detail)}}}'
    )


def detail(text: str) -> str:
    """A detail on one line, as jansson writes what it has read; "{}" for what is no JSON object."""
    try:
        value = jsontext.parse(text.encode(errors="replace"))
    except BadJson:
        return "{}"
    return jsontext.dump(value) if type(value) is dict else "{}"


def order(row: Order) -> str:
    """A record of order.finished, the result of order.finished_detail."""
    return (
        f'{{"id": {row.id}, "ctime": {moment(row.create_time)}, "ftime": {moment(row.finish_time)}, '
        f'"user": {row.user_id}, "market": {quoted(row.market)}, "source": {quoted(row.source)}, '
        f'"type": {row.type}, "side": {row.side}, '
        f'"price": "{number(row.price, AMOUNT_PREC)}", "amount": "{number(row.amount, AMOUNT_PREC)}", '
        f'"taker_fee": "{number(row.taker_fee, RATE_PREC)}", "maker_fee": "{number(row.maker_fee, RATE_PREC)}", '
        f'"deal_stock": "{number(row.deal_stock, AMOUNT_PREC)}", "deal_money": "{number(row.deal_money, MONEY_PREC)}", '
        f'"deal_fee": "{number(row.deal_fee, MONEY_PREC)}"}}'
    )


def deal_of_order(row: Deal) -> str:
    """A record of order.deals."""
    return (
        f'{{"time": {moment(row.time)}, "user": {row.user_id}, "id": {row.deal_id}, "role": {row.role}, '
        f"{_traded(row)}}}"
    )


def deal_of_user(row: Deal) -> str:
    """A record of market.user_deals."""
    return (
        f'{{"time": {moment(row.time)}, "user": {row.user_id}, "id": {row.deal_id}, "side": {row.side}, '
        f'"role": {row.role}, {_traded(row)}, "market": {quoted(row.market)}}}'
    )


def _traded(row: Deal) -> str:
    return (
        f'"price": "{number(row.price, AMOUNT_PREC)}", "amount": "{number(row.amount, AMOUNT_PREC)}", '
        f'"deal": "{number(row.deal, MONEY_PREC)}", "fee": "{number(row.fee, MONEY_PREC)}", '
        f'"deal_order_id": {row.deal_order_id}'
    )
