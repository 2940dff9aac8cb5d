"""A stand-in for market data: k-lines, deals and tickers of a list of deals, made the plain way (CONTRACT 4.5)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from bus.calls import Outcome
from bus.codes import Code
from bus.methods import Method
from gateways.link import NotConnected, TimedOut

DAY_S = 86_400


@dataclass(frozen=True)
class Deal:
    """A deal of a market."""

    time: float
    price: str
    amount: str
    side: str = "buy"
    market: str = "BTCBCH"


@dataclass
class FakeMarketData:
    """A link to it."""

    deals: list[Deal] = field(default_factory=list)  # oldest first
    now: float = 1_700_000_000.0
    row_max: int = 10_000
    names: tuple[str, ...] = ("BTCBCH", "SATBCH")
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    fails: type[NotConnected] | type[TimedOut] | Code | None = None
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)

    def call(self, method: Method, params: list[Any]) -> Outcome:
        self.calls.append((method.name, params))
        if isinstance(self.fails, Code):
            return self.fails
        if self.fails is not None:
            raise self.fails
        answers: dict[str, Callable[..., list[Any] | Code]] = {
            "market.kline": self._kline,
            "market.deals": self._deals,
            "market.tickers": self._tickers,
        }
        found = answers[method.name](*params)
        return found if isinstance(found, Code) else json.dumps(found)

    def _kline(self, market: str, start: int, end: int, interval: int) -> list[Any] | Code:
        end = min(end, int(self.now))
        if start <= 0 or end < start:
            return Code.INVALID_ARGUMENT
        by_bucket: dict[int, list[Deal]] = {}
        for deal in self.deals:
            if deal.market == market:
                by_bucket.setdefault(self._bucket(int(deal.time), interval), []).append(deal)
        first = self._bucket(start, interval)
        reach_s = 30 * DAY_S if interval >= DAY_S else 365 * DAY_S
        before = [bucket for bucket in by_bucket if first - reach_s <= bucket < first]
        close = by_bucket[max(before)][-1].price if before else None
        if close is None:
            first = min((bucket for bucket in by_bucket if bucket >= first), default=end + 1)
        rows = []
        for bucket in self._buckets(first, end, interval):
            inside = by_bucket.get(bucket)
            if inside:
                close = inside[-1].price
                rows.append(_row(bucket, inside, market))
            elif close is not None:
                rows.append([bucket, close, close, close, close, "0", "0", market])
        return rows[-self.row_max :]

    def _bucket(self, time: int, interval: int) -> int:
        if interval < DAY_S:
            return time // interval * interval
        moment = datetime.fromtimestamp(time, self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if interval == 7 * DAY_S:
            moment -= timedelta(days=moment.weekday())
        if interval == 30 * DAY_S:
            moment = moment.replace(day=1)
        return int(moment.timestamp())

    def _buckets(self, first: int, end: int, interval: int) -> Iterator[int]:
        bucket = first
        while bucket <= end:
            yield bucket
            into_the_next = {DAY_S: DAY_S + 12 * 3600, 7 * DAY_S: 8 * DAY_S, 30 * DAY_S: 32 * DAY_S}
            bucket = self._bucket(bucket + into_the_next.get(interval, interval), interval)

    def _deals(self, market: str, limit: int, last_id: int) -> list[Any]:
        numbered = [(number, deal) for number, deal in enumerate(self.deals, 1) if deal.market == market]
        found = [
            {"id": number, "time": deal.time, "price": deal.price, "amount": deal.amount, "type": deal.side}
            for number, deal in reversed(numbered)
            if number > last_id
        ]
        return found[:limit]

    def _tickers(self, *markets: str) -> list[Any]:
        return [self._ticker(name) for name in markets or self.names]

    def _ticker(self, name: str) -> dict[str, str]:
        all_deals = [deal for deal in self.deals if deal.market == name]
        deals = [deal for deal in all_deals if deal.time > self.now - DAY_S]
        _, open_, close, high, low, volume, money, _ = _row(0, deals, name) if deals else (0, *("0",) * 6, name)
        last = all_deals[-1].price if all_deals else "0"
        figures = {"open": open_, "close": close, "high": high, "low": low, "volume": volume, "deal": money}
        return {"name": name, "last": last, **figures}


def _row(bucket: int, deals: list[Deal], market: str) -> list[Any]:
    prices = [deal.price for deal in deals]
    volume = sum(Decimal(deal.amount) for deal in deals)
    money = sum(Decimal(deal.amount) * Decimal(deal.price) for deal in deals)
    high, low = max(prices, key=Decimal), min(prices, key=Decimal)
    return [bucket, prices[0], prices[-1], high, low, str(volume), str(money), market]
