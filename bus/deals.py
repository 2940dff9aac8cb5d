"""A deal as market data shows it, in JSON (CONTRACT 4.2)."""

from bus.catalog import Market
from bus.jsontext import moment
from bus.messages import Side
from bus.text import stripped

_SIDES = {int(Side.ASK): "sell", int(Side.BID): "buy"}  # the taker's


def deal_text(market: Market, deal_id: int, time: float, price_units: int, amount_units: int, taker_side: int) -> str:
    """The deal object."""
    return (
        f'{{"id": {deal_id}, "time": {moment(time)}, "price": "{stripped(price_units, market.money_prec)}",'
        f' "amount": "{stripped(amount_units, market.stock_prec)}", "type": "{_SIDES[taker_side]}"}}'
    )
