"""Orders and the two sorted lists of them that are a market's book (CONTRACT 2.6)."""

from dataclasses import dataclass, field
from decimal import Decimal

from bus.messages import ORDER, OrderType, Side
from conf.markets import Market
from tests.reference.exact import ZERO, ceiling_multiple, floor_multiple, to_units
from tests.reference.records import TEXT_FIELD_SIZE, Record

NO_ORDER: Record = {name: 0 for name in ORDER.names or () if name not in ("ctime", "mtime", "source", "reserved")} | {
    "ctime": 0.0,
    "mtime": 0.0,
    "source": bytes(TEXT_FIELD_SIZE),
}


@dataclass(kw_only=True, eq=False)
class Order:
    """An order; `left` is stock still to be traded, or, for a market buy, money still to be spent."""

    id: int
    user_id: int
    market: int
    type: int
    side: int
    ctime: float
    mtime: float
    price: Decimal
    amount: Decimal
    taker_rate: Decimal
    maker_rate: Decimal
    source: bytes
    left: Decimal
    deal_stock: Decimal = ZERO
    deal_money: Decimal = ZERO
    deal_fee: Decimal = ZERO
    frozen: Decimal = ZERO  # stock for a sell order, money for a buy order

    @property
    def is_market_buy(self) -> bool:
        return self.type == OrderType.MARKET and self.side == Side.BID

    def record(self, market: Market) -> Record:
        """What an ORDER record says about it now."""
        deal_places = market.stock_prec + market.money_prec
        fee_places = (deal_places if self.side == Side.ASK else market.stock_prec) + market.fee_prec
        return {
            "id": self.id,
            "user_id": self.user_id,
            "ctime": self.ctime,
            "mtime": self.mtime,
            "price_units": to_units(self.price, market.money_prec),
            "amount_units": to_units(self.amount, market.stock_prec),
            "left_units": 0 if self.is_market_buy else to_units(self.left, market.stock_prec),
            "taker_rate_units": to_units(self.taker_rate, market.fee_prec),
            "maker_rate_units": to_units(self.maker_rate, market.fee_prec),
            "deal_stock_units": to_units(self.deal_stock, market.stock_prec),
            "deal_money_units": to_units(self.deal_money, deal_places),
            "deal_fee_units": to_units(self.deal_fee, fee_places),
            "market": self.market,
            "type": self.type,
            "side": self.side,
            "source_size": len(self.source),
            "source": self.source.ljust(TEXT_FIELD_SIZE, b"\0"),
        }


@dataclass
class Book:
    """The resting orders of a market, each side best first."""

    asks: list[Order] = field(default_factory=list)
    bids: list[Order] = field(default_factory=list)

    def side(self, side: int) -> list[Order]:
        return self.asks if side == Side.ASK else self.bids

    def orders(self) -> list[Order]:
        return self.asks + self.bids

    def find(self, order_id: int) -> Order | None:
        return next((order for order in self.orders() if order.id == order_id), None)

    def add(self, order: Order) -> None:
        self.side(order.side).append(order)
        self.asks.sort(key=lambda ask: (ask.price, ask.id))
        self.bids.sort(key=lambda bid: (-bid.price, bid.id))

    def remove(self, order: Order) -> None:
        self.side(order.side).remove(order)

    def levels(self, side: int, limit: int, interval: Decimal) -> list[tuple[Decimal, Decimal]]:
        """At most `limit` prices with all that is left at them, best first, merged when `interval` is not 0."""
        levels: list[tuple[Decimal, Decimal]] = []
        for order in self.side(side):
            price = merged_price(order.price, side, interval)
            if levels and levels[-1][0] == price:
                levels[-1] = (price, levels[-1][1] + order.left)
            else:
                levels.append((price, order.left))
        return levels[:limit]


def merged_price(price: Decimal, side: int, interval: Decimal) -> Decimal:
    """The level that shows a price: asks go up to a multiple of the interval, bids down."""
    if interval == 0:
        return price
    return ceiling_multiple(price, interval) if side == Side.ASK else floor_multiple(price, interval)
