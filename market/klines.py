"""What the candles of a market say about a stretch of time: k-lines and statuses (CONTRACT 4.5), in whole units.

The cost of a question follows from the rows of its answer and the candles in them, never from how long nothing was
traded. Times are whole seconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from bus.messages import Records
from bus.text import wide
from conf.settings import MarketData
from market import candles
from market.board import ALWAYS, kept_since
from market.calendar import (
    CLOCK_CHANGE_MAX_S,
    DAY_S,
    HOUR_S,
    MINUTE_S,
    MONTH_LENGTH_MAX_S,
    MONTH_S,
    Calendar,
    Starts,
    source,
)
from market.schema import Resolution
from market.series import Series

CARRY_DAYS = 30  # how far back an earlier price is looked for, for k-lines of days and more and for today
FOREVER = 1 << 62  # after any time

AllSeries = Mapping[Resolution, Series]
Since = Mapping[Resolution, int]


class Row(NamedTuple):
    """A bucket, or what several candles make together."""

    start: int
    open_units: int
    close_units: int
    high_units: int
    low_units: int
    volume_units: int = 0
    money_units: int = 0

    @classmethod
    def of(cls, start: int, candle: list[int]) -> Self:
        """Of a row of `candles.words`."""
        _, opening, close, high, low, volume_low, volume_high, money_low, money_high = candle
        return cls(start, opening, close, high, low, wide(volume_low, volume_high), wide(money_low, money_high))

    @classmethod
    def flat(cls, start: int, price_units: int) -> Self:
        """Of a time without deals."""
        return cls(start, price_units, price_units, price_units, price_units)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question for k-lines that has an answer: `start` <= `end` <= `now`, and the interval has a `source`."""

    start: int
    end: int
    interval: int
    now: int


class _Source(NamedTuple):
    """Candles that start at `begin` or later and before `end`."""

    series: Series
    begin: int = ALWAYS
    end: int = FOREVER


def klines(series: AllSeries, question: Question, days: Calendar, settings: MarketData) -> list[Row]:
    """The buckets from the one that holds `start` to the one that holds `end`; of more than `kline_row_max` the newest.

    A bucket without deals repeats the price before it; it is left out when there is none.
    """
    resolution = source(question.interval)
    assert resolution is not None
    since = kept_since(settings, question.now)
    start = max(question.start, since[resolution])
    first = int(days.edges(start, start, question.interval)[0])
    if first > question.end:
        return []
    edges = _newest(start, max(start, question.end), question.interval, days, settings.kline_row_max)
    earliest = since[resolution]
    if resolution is Resolution.DAY:
        is_month = question.interval == MONTH_S
        earliest = start - CARRY_DAYS * DAY_S if is_month else days.days_before(first, CARRY_DAYS)
    return _rows(_sources(series, resolution, edges, since), edges, earliest)


def status(series: AllSeries, period: int, now: int) -> Row | None:
    """What the candles of the last `period` seconds make together; None when there are none.

    Those of seconds up to the next full minute, then those of minutes that have begun.
    """
    start = now - period
    full_minute = start // MINUTE_S * MINUTE_S + MINUTE_S
    seconds = _between(series[Resolution.SEC], start, full_minute)
    minutes = _between(series[Resolution.MIN], full_minute, now)
    found = candles.joined((seconds, minutes))
    if not len(found):
        return None
    return Row.of(start, candles.words(candles.merged(found, np.zeros(1, np.int64)))[0].tolist())


def today(series: AllSeries, days: Calendar, now: int) -> Row | None:
    """Today's prices, or the last price of the days before, four times; None when there is none either."""
    start = days.day(now)
    found = _between(series[Resolution.DAY], days.days_before(now, CARRY_DAYS), days.next_day(now))
    if not len(found):
        return None
    row = Row.of(start, candles.words(found)[-1].tolist())
    return row if found["start"][-1] >= start else Row.flat(start, row.close_units)


def _newest(first: int, last: int, interval: int, days: Calendar, row_max: int) -> Starts:
    """The edges of the newest buckets, as many as may be; hardly more are laid out."""
    length = MONTH_LENGTH_MAX_S if interval == MONTH_S else interval
    far_enough = last - (row_max + 1) * length - CLOCK_CHANGE_MAX_S
    return days.edges(max(first, far_enough), last, interval)[-row_max - 1 :]


def _sources(series: AllSeries, resolution: Resolution, edges: Starts, since: Since) -> list[_Source]:
    """Where the candles of these buckets are, oldest first.

    Candles of an hour begin at full hours of UTC. Where midnight is half an hour off, those of minutes fill the
    buckets as long as they are kept; before that an hour counts to the bucket in which it begins.
    """
    if resolution is not Resolution.HOUR or not (edges % HOUR_S).any():
        return [_Source(series[resolution])]
    turn = -(-since[Resolution.MIN] // HOUR_S) * HOUR_S
    return [_Source(series[Resolution.HOUR], end=turn), _Source(series[Resolution.MIN], begin=turn)]


def _rows(sources: list[_Source], edges: Starts, earliest: int) -> list[Row]:
    """The buckets between edges; the price before the first one counts if its candle starts at `earliest` or later."""
    first, after = int(edges[0]), int(edges[-1])
    found = candles.joined([_between(each, max(begin, first), min(end, after)) for each, begin, end in sources])
    close = None
    for each, begin, end in sources:
        before = _between(each, max(begin, earliest), min(end, first))
        close = int(before["close_units"][-1]) if len(before) else close
    places = np.searchsorted(np.ascontiguousarray(found["start"]), edges)
    filled = np.flatnonzero(places[1:] > places[:-1])
    merged = candles.words(candles.merged(found, places[filled])).tolist() if len(filled) else []
    candle_in = dict(zip(filled.tolist(), merged, strict=True))
    rows = []
    for place, start in enumerate(edges[:-1].tolist()):
        if (candle := candle_in.get(place)) is not None:
            rows.append(row := Row.of(start, candle))
            close = row.close_units
        elif close is not None:
            rows.append(Row.flat(start, close))
    return rows


def _between(series: Series, begin: int, end: int) -> Records:
    """The candles that start at `begin` or later and before `end`."""
    first, after = np.searchsorted(series.starts, (begin, end))
    return series.candles[first:after]
