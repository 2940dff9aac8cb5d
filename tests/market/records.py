"""Candles and ticks for tests of stores, and how they are compared."""

import numpy as np

from bus.messages import Records
from bus.text import halves
from market.schema import CANDLE, TICK, Resolution
from market.store import Loaded, Part

START = 1_700_000_000


def candles(*starts: int, price: int = 100, volume: int = 5, money: int = 7) -> Records:
    made = np.zeros(len(starts), CANDLE)
    made["start"] = starts
    for name in ("open_units", "close_units", "high_units", "low_units"):
        made[name] = price
    made["volume_units"], made["money_units"] = halves(volume), halves(money)
    return made


def ticks(*ids: int) -> Records:
    return np.array([(number, START + number / 7, 100 + number, 3, 1 + number % 2) for number in ids], TICK)


def minutes(*starts: int, price: int = 100) -> dict[Resolution, Records]:
    return {Resolution.MIN: candles(*starts, price=price)}


def of(loaded: Loaded, name: str = "AONE") -> Part:
    return next(part for part in loaded.parts if part.market.name == name)


def assert_equal(found: Records, wanted: Records) -> None:
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted), (found, wanted)
