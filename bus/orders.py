"""An order as clients see it, in JSON (CONTRACT 2.2): replies, notifications and Kafka messages are made of it."""

from collections.abc import Sequence

from bus.catalog import Market
from bus.jsontext import moment, quoted_bytes
from bus.messages import ORDER, OrderType, Side, struct_of
from bus.text import stripped, wide

ORDER_STRUCT = struct_of(ORDER)
_LIMIT, _ASK = int(OrderType.LIMIT), int(Side.ASK)  # an enum's members are slow to look up
assert ORDER.names == (
    *("id", "user_id", "ctime", "mtime", "price_units", "amount_units", "left_units", "taker_rate_units"),
    *("maker_rate_units", "deal_stock_units", "deal_money_units", "deal_fee_units", "market", "type", "side"),
    *("source_size", "reserved", "source"),
)


def order_text(data: bytes, at: int, markets: Sequence[Market]) -> str:
    """The order object of the ORDER at `at` (CONTRACT 2.2)."""
    fields = ORDER_STRUCT.unpack_from(data, at)
    order_id, user_id, ctime, mtime, price, amount, left, taker, maker = fields[:9]
    index, kind, side, source_size, _, source = fields[15:]
    deal_stock, deal_money = wide(fields[9], fields[10]), wide(fields[11], fields[12])
    market = markets[index]
    is_limit, is_ask = kind == _LIMIT, side == _ASK
    amount_text = stripped(amount, market.stock_prec)
    if left == amount:
        left_text = amount_text
    elif not is_limit and not is_ask:
        left_text = _money_left(amount, deal_money, market)
    else:
        left_text = stripped(left, market.stock_prec)
    if deal_stock:
        stock_text = stripped(deal_stock, market.stock_prec)
        money_text = stripped(deal_money, market.deal_prec)
        fee_text = stripped(wide(fields[13], fields[14]), market.ask_fee_prec if is_ask else market.bid_fee_prec)
    else:
        stock_text = money_text = fee_text = "0"
    ctime_text = moment(ctime)
    return (
        f'{{"id": {order_id}, "market": {market.quoted}, "source": {quoted_bytes(source[:source_size])}, '
        f'"type": {kind}, "side": {side}, "user": {user_id}, '
        f'"ctime": {ctime_text}, "mtime": {ctime_text if mtime == ctime else moment(mtime)}, '
        f'"price": "{stripped(price, market.money_prec) if is_limit else "0"}", "amount": "{amount_text}", '
        f'"taker_fee": "{stripped(taker, market.fee_prec)}", '
        f'"maker_fee": "{stripped(maker, market.fee_prec) if is_limit else "0"}", "left": "{left_text}", '
        f'"deal_stock": "{stock_text}", "deal_money": "{money_text}", "deal_fee": "{fee_text}"}}'
    )


def _money_left(amount: int, deal_money: int, market: Market) -> str:
    """What a market buy did not spend; its amount is money with the decimals of stock (CONTRACT 10.3 E1)."""
    if not deal_money:
        return stripped(amount, market.stock_prec)
    return stripped(amount * 10**market.money_prec - deal_money, market.deal_prec)
