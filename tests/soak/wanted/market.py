"""Market data that deals make: candles by the twin, the newest deals, last prices."""

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

from bus.catalog import Catalog, Market
from bus.messages import DEAL_EVENT, EventKind, Frame
from conf.settings import MarketData
from tests.reference.exact import from_units
from tests.reference.history import stripped
from tests.reference.klines import Candle, Tape
from tests.soak.checks.digests import SIZE, Chain, digest

KEPT_COUNT = 10_000  # deals of a market (CONTRACT 4.1)
SIZES = ("1s", "1m", "1h", "1d")
SIDES = {1: "sell", 2: "buy"}
FIELDS = ("deal_id", "time", "market", "price_units", "amount_units", "taker_side")


class MarketTwin:
    """What the deals so far make; `ids` and `digests` are of every deal of a market, in order."""

    def __init__(self, catalog: Catalog, settings: MarketData) -> None:
        self.catalog = catalog
        self.ids: dict[str, list[int]] = defaultdict(list)
        self.digests: dict[str, Chain] = defaultdict(Chain)
        self.deal_count = 0
        self._last_units: dict[str, int] = {}
        self._tapes = {
            market.name: Tape(
                settings.time_zone, settings.sec_max, settings.min_max, settings.hour_max, settings.kline_row_max
            )
            for market in catalog.markets
        }

    def add(self, frame: Frame) -> None:
        """Take the next events."""
        deals = frame.records[frame.records["kind"] == EventKind.DEAL].view(DEAL_EVENT)
        for deal_id, time, index, price, amount, side in zip(*(deals[name].tolist() for name in FIELDS), strict=True):
            market = self.catalog.market_by_index[index]
            self.deal_count += 1
            self._tapes[market.name].deal(time, price, amount)
            self._last_units[market.name] = price
            self.ids[market.name].append(deal_id)
            self.digests[market.name] += digest(_deal(market, deal_id, time, price, amount, side))

    def keys(self) -> dict[str, Any]:
        """What Redis must hold, as `stored` gives it: but for our own position."""
        found: dict[str, Any] = {"k:offset": str(self.deal_count - 1)} if self.deal_count else {}
        for market in self.catalog.markets:
            name = market.name
            found[f"k:{name}:last"] = (
                base(from_units(self._last_units[name], market.money_prec)) if self.ids[name] else "0"
            )
            if self.ids[name]:
                found[f"k:{name}:deals"] = self.digests[name][-KEPT_COUNT * SIZE :]
                for size, candles in zip(SIZES, self._tapes[name].candles, strict=True):
                    rows = {str(start): _candle(market, candle) for start, candle in candles.items()}
                    found[f"k:{name}:{size}"] = rows
        return found


def stored(keys: dict[str, Any]) -> dict[str, Any]:
    """What Redis holds, in a form to be compared: candles as numbers, deals as digests, the oldest first."""
    found: dict[str, Any] = {}
    for key, value in keys.items():
        if isinstance(value, list):
            found[key] = Chain(b"".join(digest(json.loads(text)) for text in reversed(value)))
        elif isinstance(value, dict):
            found[key] = {start: [Decimal(text) for text in json.loads(row)] for start, row in value.items()}
        else:
            found[key] = value
    return found


def base(value: Decimal) -> str:
    """A number with all its decimals (CONTRACT 0.4)."""
    return str(value).replace("E", "e")


def _deal(market: Market, deal_id: int, time: float, price: int, amount: int, side: int) -> dict[str, Any]:
    """The deal object as clients and Redis have it (CONTRACT 4.2)."""
    price_text, amount_text = (
        stripped(from_units(units, prec)) for units, prec in ((price, market.money_prec), (amount, market.stock_prec))
    )
    return {"id": deal_id, "time": time, "price": price_text, "amount": amount_text, "type": SIDES[side]}


def _candle(market: Market, candle: Candle) -> list[Any]:
    price, stock, money = market.money_prec, market.stock_prec, market.stock_prec + market.money_prec
    return [
        *(from_units(units, price) for units in (candle.open, candle.close, candle.high, candle.low)),
        from_units(candle.volume, stock),
        from_units(candle.money, money),
    ]
