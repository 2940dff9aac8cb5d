"""The records of market data, and how long they are kept.

Units as in bus/messages.py: a price in 10^-money_prec, an amount or volume in 10^-stock_prec, money in
10^-(stock_prec + money_prec). `WIDE` is a 128-bit integer, low half first.
"""

from enum import IntEnum

import numpy as np

from bus.messages import WIDE

DEALS_KEPT_COUNT = 10_000  # newest deals of each market (CONTRACT 4.1)


class Resolution(IntEnum):
    """The four sizes of candle that are kept (CONTRACT 4.1); longer and in-between ones are merged from these."""

    SEC = 0
    MIN = 1
    HOUR = 2
    DAY = 3  # from local midnight to local midnight


NAMES = {Resolution.SEC: "1s", Resolution.MIN: "1m", Resolution.HOUR: "1h", Resolution.DAY: "1d"}  # CONTRACT 4.3

CANDLE = np.dtype([
    ("start", "i8"),  # seconds since 1970
    ("open_units", "i8"),
    ("close_units", "i8"),
    ("high_units", "i8"),
    ("low_units", "i8"),
    ("volume_units", *WIDE),
    ("money_units", *WIDE),
])
assert CANDLE.itemsize == 72

TICK = np.dtype([
    ("deal_id", "i8"),
    ("time", "f8"),
    ("price_units", "i8"),
    ("amount_units", "i8"),
    ("taker_side", "i8"),
])
assert TICK.itemsize == 40
