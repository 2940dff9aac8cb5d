"""Market data as ViaBTC keeps it in Redis: keys, candles and deals as text (CONTRACT 4.3).

Text that has more decimals than its market, because another server wrote it with other settings, is cut off toward
zero.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson

from bus.catalog import Market
from bus.jsontext import real
from bus.messages import Records, Side
from bus.text import base, parse, parse_all, stripped
from market.rows import candles_of, rows_of
from market.schema import NAMES, TICK, Resolution

OFFSET_KEY = "k:offset"
TAKER_TYPES = {int(Side.ASK): "sell", int(Side.BID): "buy"}

_SIDES = {name: side for side, name in TAKER_TYPES.items()}


class BadText(ValueError):
    """What stands there is no market data: the text says what."""


def candles_key(market: str, resolution: Resolution) -> str:
    """A hash: the start of each candle and its text."""
    return f"k:{market}:{NAMES[resolution]}"


def deals_key(market: str) -> str:
    """A list, newest first."""
    return f"k:{market}:deals"


def last_key(market: str) -> str:
    """A string."""
    return f"k:{market}:last"


def offset_of(deal_id: int) -> int:
    """Where the deal stands in the Kafka topic `deals` of an exchange that has sent each one there."""
    return deal_id - 1


def last_text(market: Market, last_units: int) -> str:
    """The last price."""
    return base(last_units, market.money_prec) if last_units else "0"


def last_units_of(market: Market, text: bytes | None) -> int:
    """The last price that a text tells. Raises BadText."""
    return 0 if text is None else _units(text.decode("utf-8", "replace"), market.money_prec)


def candle_texts(market: Market, candles: Records) -> dict[str, str]:
    """The text of each candle by the text of its start."""
    price, stock, money = market.money_prec, market.stock_prec, market.deal_prec
    return {
        str(start): f'["{_text(first, price)}", "{_text(close, price)}", "{_text(high, price)}", '
        f'"{_text(low, price)}", "{_text(volume, stock)}", "{_text(deal, money)}"]'
        for start, first, close, high, low, volume, deal in rows_of(candles)
    }


def candles_from(market: Market, starts: Sequence[bytes], texts: Sequence[bytes]) -> Records:
    """CANDLE records of fields and values of a hash; a text without the last element has money 0. Raises BadText."""
    if not starts:
        return candles_of([[]] * 7)
    try:
        rows: list[list[str]] = orjson.loads(b"[" + b",".join(texts) + b"]")
        first, close, high, low, volumes = zip(*(row[:5] for row in rows), strict=True)
        moneys = [row[5] if len(row) > 5 else "0" for row in rows]
        columns = [parse_all(texts, market.money_prec) for texts in (first, close, high, low)]
        columns += [parse_all(volumes, market.stock_prec), parse_all(moneys, market.deal_prec)]
        return candles_of([[*map(int, starts)], *columns])
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadText(f"this is no candle: {error}") from error


def deal_texts(market: Market, ticks: Records) -> list[str]:
    """The text of each deal, in their order."""
    price, amount = market.money_prec, market.stock_prec
    return [
        f'{{"id": {deal_id}, "time": {real(time)}, "price": "{stripped(price_units, price)}", '
        f'"amount": "{stripped(amount_units, amount)}", "type": "{TAKER_TYPES[side]}"}}'
        for deal_id, time, price_units, amount_units, side in ticks.tolist()
    ]


def ticks_from(market: Market, texts: Iterable[bytes]) -> Records:
    """TICK records in the order of the texts. Raises BadText."""
    try:
        return np.array([_tick(market, orjson.loads(text)) for text in texts], TICK)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise BadText(f"this is no deal: {error}") from error


def _tick(market: Market, deal: dict[str, Any]) -> tuple[int, float, int, int, int]:
    price, amount = _units(deal["price"], market.money_prec), _units(deal["amount"], market.stock_prec)
    return int(deal["id"]), float(deal["time"]), price, amount, _SIDES[deal["type"]]


def _text(units: int, prec: int) -> str:
    """A number of a candle; a zero, which no deal makes, is a plain one."""
    return stripped(units, prec) if units else "0"


def _units(text: str, prec: int) -> int:
    if (units := parse(text, prec)) is None:
        raise BadText(f"{text!r} is no number")
    return units
