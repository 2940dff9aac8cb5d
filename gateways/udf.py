"""A datafeed for TradingView's charting library, in its UDF protocol, under /udf.

    new Datafeeds.UDFCompatibleDatafeed("http://127.0.0.1:8080/udf")

Bars are the rows of market.kline. An interval without a deal is a flat bar at the close before it, as in the
exchange's own k-lines: so `countback` bars are `countback` intervals, and a chart that has reached the first deal is
told that there is nothing before. As the protocol wants it, `from` is included, `to` is not; a status of HTTP is 200
also for errors, which the body tells; days, weeks and months carry the date of their first day at 00:00 UTC, whatever
the time zone in which they began.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from time import time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from bus.catalog import Market
from conf.settings import Settings
from gateways.marketdata import AWAY, MarketData
from gateways.query import BadQuery, Query
from gateways.rpc import Reply
from gateways.state import State

EVER = -(1 << 62)  # a `from` that nothing is before
DAY_S = 86_400
CLOCK_CHANGE_S = 7200  # by which a day can be longer
SEARCH_LIMIT, SEARCH_LIMIT_MAX = 30, 100
SYMBOL_TYPE = "crypto"

_SECONDS = ("1", "5", "15", "30")
_MINUTES = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")
_DATES = ("1D", "1W", "1M")
SUPPORTED = (*(f"{count}S" for count in _SECONDS), *_MINUTES, *_DATES)


class Resolution(NamedTuple):
    """How long a bar is."""

    interval: int  # as market.kline names it
    longest_s: int
    is_dated: bool = False  # its time is a date


_DAY = Resolution(DAY_S, DAY_S + CLOCK_CHANGE_S, is_dated=True)
_WEEK = Resolution(7 * DAY_S, 7 * DAY_S + CLOCK_CHANGE_S, is_dated=True)
_MONTH = Resolution(30 * DAY_S, 31 * DAY_S + CLOCK_CHANGE_S, is_dated=True)
RESOLUTIONS: Mapping[str, Resolution] = {
    **{f"{count}S": Resolution(int(count), int(count)) for count in _SECONDS},
    **{count: Resolution(60 * int(count), 60 * int(count)) for count in _MINUTES},
    **dict(zip(_DATES, (_DAY, _WEEK, _MONTH), strict=True)),
    **dict(zip("DWM", (_DAY, _WEEK, _MONTH), strict=True)),  # as older libraries name them
}
assert set(SUPPORTED) <= set(RESOLUTIONS)

Bar = tuple[int, list[Any]]  # its time, and the row of market.kline


class Udf:
    """The pages, by path."""

    def __init__(
        self, settings: Settings, state: State, market_data: MarketData, now: Callable[[], float] = time
    ) -> None:
        self._exchange = settings.http.exchange_name
        self._zone = ZoneInfo(settings.market.time_zone)
        self._zone_name = "Etc/UTC" if self._zone.key == "UTC" else self._zone.key  # the library knows the long name
        self._bar_count_max = settings.market.kline_row_max - 3  # `_bars` asks for some more
        self._state = state
        self._market_data = market_data
        self._now = now
        self.pages = {
            f"/udf/{name}": _page(answer)
            for name, answer in (
                ("config", self._config),
                ("symbols", self._symbols),
                ("search", self._search),
                ("history", self._history),
                ("time", self._time),
            )
        }

    def _config(self, query: Query) -> bytes:
        return orjson.dumps({
            "supports_search": True,
            "supports_group_request": False,
            "supports_marks": False,
            "supports_timescale_marks": False,
            "supports_time": True,
            "exchanges": [],  # nothing to choose from
            "symbols_types": [],
            "supported_resolutions": SUPPORTED,
        })

    def _time(self, query: Query) -> bytes:
        return str(int(self._now())).encode()

    def _symbols(self, query: Query) -> bytes:
        market = self._market(query)
        return orjson.dumps({
            "name": market.name,
            "ticker": market.name,
            "description": _pair(market),
            "type": SYMBOL_TYPE,
            "exchange": self._exchange,
            "listed_exchange": self._exchange,
            "currency_code": market.money.name,
            "session": "24x7",
            "timezone": self._zone_name,
            "format": "price",
            "pricescale": 10**market.money_prec,
            "minmov": 1,
            "minmove2": 0,
            "volume_precision": market.stock_prec,
            "visible_plots_set": "ohlcv",
            "data_status": "streaming",
            "supported_resolutions": SUPPORTED,
            "has_seconds": True,
            "seconds_multipliers": _SECONDS,
            "has_intraday": True,
            "intraday_multipliers": _MINUTES,
            "has_daily": True,
            "daily_multipliers": ["1"],
            "has_weekly_and_monthly": True,
            "weekly_multipliers": ["1"],
            "monthly_multipliers": ["1"],
        })

    def _search(self, query: Query) -> bytes:
        """Markets whose name or pair holds what is typed, those first that begin with it."""
        typed = query.text("query", "").upper()
        limit = min(query.integer("limit", SEARCH_LIMIT, least=0), SEARCH_LIMIT_MAX)
        is_ours = query.text("type", SYMBOL_TYPE) == SYMBOL_TYPE
        is_ours &= query.text("exchange", self._exchange) == self._exchange
        markets = self._state.catalog().markets if is_ours else ()
        placed = [(_place(typed, market), market) for market in markets]
        found = sorted((item for item in placed if item[0] >= 0), key=lambda item: item[0])
        return orjson.dumps([self._described(market) for _, market in found[:limit]])

    def _described(self, market: Market) -> dict[str, str]:
        return {
            "symbol": market.name,
            "full_name": f"{self._exchange}:{market.name}",
            "description": _pair(market),
            "exchange": self._exchange,
            "ticker": market.name,
            "type": SYMBOL_TYPE,
        }

    def _history(self, query: Query) -> bytes:
        market = self._market(query)
        resolution = RESOLUTIONS.get(query.text("resolution"))
        if resolution is None:
            raise BadQuery("resolution is not one of those that /udf/config names")
        before = query.integer("to")
        countback = query.integer("countback", 0, least=0)
        since = EVER if countback else query.integer("from")
        newest = min(before, int(self._now()))
        count = min(countback or max(0, newest - since) // resolution.interval + 2, self._bar_count_max)
        bars = self._bars(market, resolution, before, count, newest - (count + 1) * resolution.longest_s)
        if not bars and resolution.is_dated:  # the price of a flat one is looked for 30 days back only (CONTRACT 4.5)
            bars = self._bars(market, resolution, before, count, 1)
        wanted = [bar for bar in bars if bar[0] >= since]
        return _ok(wanted) if wanted else _no_data(bars[-1][0] if bars else None)

    def _bars(self, market: Market, resolution: Resolution, before: int, count: int, first: int) -> list[Bar]:
        """The newest `count` bars, or fewer, before `before`, oldest first, of the rows from `first` on."""
        last = before - 1 + (DAY_S if resolution.is_dated else 0)  # a date may begin that much before it does in UTC
        if last < 1:
            return []
        rows = self._market_data.ask("market.kline", market.name, max(first, 1), last, resolution.interval)
        if not resolution.is_dated:
            return [(row[0], row) for row in rows[-count:]]
        bars = [(self._date(row[0]), row) for row in rows]
        return [bar for bar in bars if self._is_before(bar, before)][-count:]

    def _is_before(self, bar: Bar, before: int) -> bool:
        """Whether it is older than `before`; so is today once it has begun here, even if its date has not in UTC."""
        date, (start, *_) = bar
        return date < before or (start < before < date and self._now() < date)

    def _date(self, start: int) -> int:
        """00:00 UTC of the date on which `start` is midnight in our time zone."""
        offset = datetime.fromtimestamp(start, self._zone).utcoffset()
        assert offset is not None, "the time zone makes it aware"
        return start + int(offset.total_seconds())

    def _market(self, query: Query) -> Market:
        """The market that `symbol` names, with or without the exchange before it. Raises BadQuery and as `State`."""
        symbol = query.text("symbol")
        markets = self._state.catalog().market_by_name
        market = markets.get(symbol) or markets.get(symbol.removeprefix(f"{self._exchange}:"))
        if market is None:
            raise BadQuery("unknown_symbol")
        return market


def _page(answer: Callable[[Query], bytes]) -> Callable[[str], Reply]:
    def page(text: str) -> Reply:
        try:
            return 200, answer(Query(text))
        except BadQuery as wrong:
            return 200, _error(str(wrong))
        except AWAY:
            return 200, _error("the service is not available")

    return page


def _pair(market: Market) -> str:
    return f"{market.stock.name} / {market.money.name}"


def _place(typed: str, market: Market) -> int:
    """Where `typed` stands in the market's name, or in its pair; -1 when it does not."""
    stock, money = market.stock.name.upper(), market.money.name.upper()
    places = [text.find(typed) for text in (market.name.upper(), f"{stock}/{money}", f"{stock} {money}")]
    return min((place for place in places if place >= 0), default=-1)


def _ok(bars: list[Bar]) -> bytes:
    """Columns. A price is written as the text that it came as: a number of JSON, never rounded on the way."""
    times = [str(date) for date, _ in bars]
    _, opens, closes, highs, lows, volumes, *_ = zip(*(row for _, row in bars), strict=True)
    columns = {"t": times, "o": opens, "h": highs, "l": lows, "c": closes, "v": volumes}
    parts = (f'"{name}":[{",".join(column)}]' for name, column in columns.items())
    return f'{{"s":"ok",{",".join(parts)}}}'.encode()


def _no_data(newest: int | None) -> bytes:
    return orjson.dumps({"s": "no_data"} if newest is None else {"s": "no_data", "nextTime": newest})


def _error(text: str) -> bytes:
    return orjson.dumps({"s": "error", "errmsg": text})
