"""The twin of market data in plain Python: candles as a dict, questions answered by looking at every one (CONTRACT 4).

Numbers are whole units. The calendar is found by walking through time minute by minute and asking the zone for the
date, so it shares nothing with market/calendar.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
WEEK_S, MONTH_S = 604_800, 2_592_000
AWAY_DAYS = 40  # how far a month or a week may reach over the times asked about

Row = tuple[int, int, int, int, int, int, int]  # start, open, close, high, low, volume, money
Group = Callable[[int], object]  # of a date by its ordinal: the bucket that it belongs to


@lru_cache(100_000)
def dates(zone: str, utc_day: int) -> tuple[tuple[int, int], ...]:
    """The minutes of a day of UTC at which a zone's date changes, and the first one: moment and ordinal."""
    info = ZoneInfo(zone)
    minutes = range(utc_day * DAY_S, (utc_day + 1) * DAY_S, MINUTE_S)
    shown = [(moment, datetime.fromtimestamp(moment, info).toordinal()) for moment in minutes]
    return tuple(row for before, row in zip([(0, 0), *shown], shown, strict=False) if row[1] != before[1])


def days(zone: str, first: int, last: int) -> list[tuple[int, int]]:
    """The days around these times: start and ordinal. One begins when a date is shown for the first time."""
    found: list[tuple[int, int]] = []
    for utc_day in range(first // DAY_S - AWAY_DAYS, last // DAY_S + AWAY_DAYS):
        for row in dates(zone, utc_day):
            if not found or row[1] > found[-1][1]:
                found.append(row)
    return found[1:]  # the first one began earlier


def month(ordinal: int) -> object:
    return date.fromordinal(ordinal).timetuple()[:2]


def group_of(interval: int) -> Group:
    """The bucket of a date, for k-lines of days and more."""
    if interval == MONTH_S:
        return month
    count, anchor = interval // DAY_S, date(1970, 1, 5 if interval == WEEK_S else 1).toordinal()
    return lambda ordinal: (ordinal - anchor) // count


def buckets(zone: str, first: int, last: int, interval: int) -> list[tuple[int, int]]:
    """Start and end of the buckets from that of `first` to that of `last`."""
    if interval < HOUR_S:
        starts = list(range(first // interval * interval, last + 2 * interval, interval))
    elif interval < DAY_S:
        begins = [start for start, _ in days(zone, first, last)]
        starts = [moment for begin, after in pairwise(begins) for moment in range(begin, after, interval)]
    else:
        group, rows = group_of(interval), days(zone, first, last)
        starts = [start for (_, before), (start, ordinal) in pairwise(rows) if group(before) != group(ordinal)]
    return [(start, end) for start, end in pairwise(starts) if end > first and start <= last]


@dataclass(frozen=True)
class Candle:
    """What deals make together."""

    open: int
    close: int
    high: int
    low: int
    volume: int
    money: int

    def __add__(self, later: "Candle") -> "Candle":
        return Candle(
            self.open,
            later.close,
            max(self.high, later.high),
            min(self.low, later.low),
            self.volume + later.volume,
            self.money + later.money,
        )


@dataclass
class Tape:
    """One market. `candles` are those of seconds, minutes, hours and days, by start."""

    zone: str
    sec_max: int
    min_max: int
    hour_max: int
    row_max: int
    candles: tuple[dict[int, Candle], ...] = field(default_factory=lambda: ({}, {}, {}, {}))

    def deal(self, time: float, price: int, amount: int) -> None:
        """Apply a deal (CONTRACT 4.2)."""
        second = int(time)
        ((day, _),) = buckets(self.zone, second, second, DAY_S)
        starts = (second, second // MINUTE_S * MINUTE_S, second // HOUR_S * HOUR_S, day)
        new = Candle(price, price, price, price, amount, price * amount)
        for candles, start in zip(self.candles, starts, strict=True):
            candles[start] = candles[start] + new if start in candles else new

    def bounds(self, now: int) -> tuple[int, int, int]:
        """Since when candles of seconds, minutes and hours are kept."""
        return (
            now - self.sec_max,
            now // MINUTE_S * MINUTE_S - self.min_max * MINUTE_S,
            now // HOUR_S * HOUR_S - self.hour_max * HOUR_S,
        )

    def sweep(self, now: int) -> None:
        """Forget what is kept no longer."""
        for candles, bound in zip(self.candles, self.bounds(now), strict=False):
            for start in [start for start in candles if start < bound]:
                del candles[start]

    def kline(self, start: int, end: int, interval: int, now: int) -> list[Row] | None:
        """market.kline (CONTRACT 4.5); None is code 1."""
        end = min(end, now)
        size = next((size for size, fits in enumerate(_fits(interval)) if fits), None)
        if start <= 0 or end <= 0 or end < start or size is None:
            return None
        if size < 3:
            start = max(start, self.bounds(now)[size])
        wanted = [bucket for bucket in buckets(self.zone, start, max(start, end), interval) if bucket[0] <= end]
        if not wanted:
            return []
        if interval == MONTH_S:
            earliest = start - 30 * DAY_S
        else:
            earliest = self.bounds(now)[size] if size < 3 else self._days_before(wanted[0][0])
        candles = self._candles(size, wanted, now)
        return list(self._rows(candles, wanted, earliest))

    def status(self, period: int, now: int) -> Row | None:
        """The part of market.status that candles make."""
        start = now - period
        full_minute = start // MINUTE_S * MINUTE_S + MINUTE_S
        seconds, minutes = self.candles[:2]
        found = [seconds[moment] for moment in range(start, full_minute) if moment in seconds]
        found += [minutes[moment] for moment in range(full_minute, now, MINUTE_S) if moment in minutes]
        return _row(start, found) if found else None

    def today(self, now: int) -> Row | None:
        """The prices of market.status_today."""
        ((start, after),) = buckets(self.zone, now, now, DAY_S)
        earliest = self._days_before(start)
        before = [candle for moment, candle in sorted(self.candles[3].items()) if earliest <= moment < after]
        if not before:
            return None
        today = [candle for moment, candle in self.candles[3].items() if start <= moment < after]
        return _row(start, today) if today else _flat(start, before[-1].close)

    def _days_before(self, start: int) -> int:
        """The start of the day 30 days before the one that starts then."""
        rows = days(self.zone, start, start)
        ordinal = next(ordinal for moment, ordinal in rows if moment == start)
        return next(moment for moment, each in rows if each >= ordinal - 30)

    def _candles(self, size: int, wanted: list[tuple[int, int]], now: int) -> dict[int, Candle]:
        """Hours that begin within the hour of UTC are made of minutes, as long as there are some."""
        candles = self.candles[size]
        if size != 2 or all(moment % HOUR_S == 0 for bucket in wanted for moment in bucket):
            return candles
        turn = -(-self.bounds(now)[1] // HOUR_S) * HOUR_S
        hours = {start: candle for start, candle in candles.items() if start < turn}
        return hours | {start: candle for start, candle in self.candles[1].items() if start >= turn}

    def _rows(self, candles: dict[int, Candle], wanted: list[tuple[int, int]], earliest: int) -> Iterator[Row]:
        shown = set(wanted[-self.row_max :])
        before = [start for start in candles if earliest <= start < wanted[0][0]]
        close = candles[max(before)].close if before else None
        for start, end in wanted:
            held = [candles[moment] for moment in sorted(candles) if start <= moment < end]
            if held:
                close = held[-1].close
            if close is not None and (start, end) in shown:
                yield _row(start, held) if held else _flat(start, close)


def _fits(interval: int) -> tuple[bool, bool, bool, bool]:
    """Whether it is an interval of seconds, minutes, hours, days."""
    return (
        0 < interval < MINUTE_S and MINUTE_S % interval == 0,
        MINUTE_S <= interval < HOUR_S and interval % MINUTE_S == 0 and HOUR_S % interval == 0,
        HOUR_S <= interval < DAY_S and interval % HOUR_S == 0 and DAY_S % interval == 0,
        (DAY_S <= interval < WEEK_S and interval % DAY_S == 0) or interval in (WEEK_S, MONTH_S),
    )


def _row(start: int, candles: list[Candle]) -> Row:
    whole = candles[0]
    for candle in candles[1:]:
        whole += candle
    return start, whole.open, whole.close, whole.high, whole.low, whole.volume, whole.money


def _flat(start: int, price: int) -> Row:
    return start, price, price, price, price, 0, 0
