"""What is traded, and where its price is: the same for all clients, so that they meet."""

import math
import random
from typing import Any, NamedTuple

PERIOD_S = 90.0  # in which a price goes up and down once
SWING = 0.01  # of the price
NEAR = 0.001  # how far from the price orders are that trade soon
FAR = 0.03  # and those that rest for a while
RATES = ("0.002", "0.001")  # of takers, of makers


class Traded(NamedTuple):
    """A market, with its decimals."""

    name: str
    stock: str
    money: str
    price: float  # around it
    price_prec: int
    amount: float  # of a usual order
    amount_prec: int


MARKETS = (
    Traded("BTCUSD", "BTC", "USD", 50_000.0, 2, 0.01, 8),
    Traded("ETHUSD", "ETH", "USD", 2_500.0, 4, 0.2, 6),
    Traded("ETHBTC", "ETH", "BTC", 0.05, 6, 0.2, 6),
)
QUIET = Traded("QUIET", "BTC", "USD", 30_000.0, 2, 0.01, 8)  # where nobody sells: what is bid there rests
ASSETS = ("USD", "BTC", "ETH")
FUNDS = {"USD": "500000000", "BTC": "10000", "ETH": "200000"}  # of a user in the beginning

# Balances have fewer decimals than fees: what is rounded up is seen in the sums.
LISTING: dict[str, Any] = {
    "assets": [
        {"name": "USD", "prec_save": 10, "prec_show": 8},
        {"name": "BTC", "prec_save": 20, "prec_show": 8},
        {"name": "ETH", "prec_save": 12, "prec_show": 6},
    ],
    "markets": [
        {
            "name": traded.name,
            "stock": {"name": traded.stock, "prec": traded.amount_prec},
            "money": {"name": traded.money, "prec": traded.price_prec},
            "fee_prec": 4,
            "min_amount": "0.0001",
        }
        for traded in (*MARKETS, QUIET)
    ],
}


def mid(traded: Traded, now_s: float) -> float:
    """Where the price is now."""
    return traded.price * (1 + SWING * math.sin(2 * math.pi * now_s / PERIOD_S))


def near(draw: random.Random, traded: Traded, now_s: float) -> str:
    """A price at which an order trades soon."""
    return written(mid(traded, now_s) * (1 + draw.uniform(-NEAR, NEAR)), traded.price_prec)


def far(draw: random.Random, traded: Traded, now_s: float, side: int) -> str:
    """A price at which an order rests for a while, if not for good."""
    away = draw.uniform(NEAR, FAR)
    return written(mid(traded, now_s) * (1 + away if side == 1 else 1 - away), traded.price_prec)


def amount(draw: random.Random, traded: Traded) -> str:
    """An amount of stock."""
    return written(traded.amount * draw.uniform(0.2, 3), traded.amount_prec)


def written(number: float, prec: int) -> str:
    """With so many decimals."""
    return f"{number:.{prec}f}"
