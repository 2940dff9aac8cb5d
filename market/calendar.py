"""Days, weeks and months of a time zone, and the buckets of k-lines (CONTRACT 4.5).

A day begins with the first second at which the zone's calendar shows its date, or a later one. Mostly that is midnight.
Where clocks jump over midnight it is the jump; where they go back over it, it is the first of the two midnights; a
date that a zone never had (Samoa's 30 December 2011) begins when the next one does, and so has no length. So days
never overlap, however a zone's clocks were set. Times are whole seconds since 1970.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from market.schema import Resolution

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
WEEK_S = 7 * DAY_S
MONTH_S = 30 * DAY_S  # how a calendar month is asked for
MONTH_LENGTH_MAX_S = 31 * DAY_S + 2 * HOUR_S  # with a clock change
CLOCK_CHANGE_MAX_S = 26 * HOUR_S  # a zone that goes to the other side of the date line
DAYS_KEPT_COUNT = 65_536  # beginnings of days that are remembered: all since 1970, some times over
_EPOCH = date(1970, 1, 1).toordinal()

Starts = NDArray[np.int64]


def source(interval: int) -> Resolution | None:
    """The candles that k-lines of so many seconds are made of; None when there are no such k-lines."""
    if interval in (WEEK_S, MONTH_S):
        return Resolution.DAY
    for resolution, unit, whole in (
        (Resolution.SEC, 1, MINUTE_S),
        (Resolution.MIN, MINUTE_S, HOUR_S),
        (Resolution.HOUR, HOUR_S, DAY_S),
    ):
        if unit <= interval < whole:
            return resolution if interval % unit == 0 and whole % interval == 0 else None
    return Resolution.DAY if DAY_S <= interval < WEEK_S and interval % DAY_S == 0 else None


class Calendar:
    """The calendar of a time zone. Raises zoneinfo.ZoneInfoNotFoundError."""

    def __init__(self, zone_name: str) -> None:
        self._zone = ZoneInfo(zone_name)
        self._start_of = lru_cache(DAYS_KEPT_COUNT)(self._start_of_ordinal)

    def day(self, moment: int) -> int:
        """The start of the day that holds `moment`."""
        return self._start_of(self._ordinal(moment))

    def next_day(self, moment: int) -> int:
        """The start of the day after it."""
        ordinal = self._ordinal(moment) + 1
        while self._start_of(ordinal) <= moment:  # a date that never was
            ordinal += 1
        return self._start_of(ordinal)

    def days_before(self, moment: int, count: int) -> int:
        """The start of the day `count` days before the one that holds `moment`."""
        return self._start_of(self._ordinal(moment) - count)

    def days(self, first: int, last: int) -> Starts:
        """The starts of the days from that of `first` to that of `last`, and of the one after."""
        ordinals = range(self._ordinal(first), self._ordinal(last) + 1)
        return self._edges(map(self._start_of, ordinals), self.next_day(last))

    def edges(self, first: int, last: int, interval: int) -> Starts:
        """The starts of the buckets from that of `first` to that of `last`, and where that one ends.

        `interval` is one that has a `source`. Buckets below an hour are counted from 1970, those of hours from each
        midnight, those of days from 1 January 1970; weeks begin on Monday, months on the first.
        """
        assert source(interval) is not None
        if interval < HOUR_S:
            begin = first // interval * interval
            return np.arange(begin, last // interval * interval + interval + 1, interval)
        if interval < DAY_S:
            return self._parts_of_days(first, last, interval)
        begins = self._months(first, last) if interval == MONTH_S else self._groups(first, last, interval // DAY_S)
        *starts, end = map(self._start_of, begins)
        return self._edges(iter(starts), end)

    def _parts_of_days(self, first: int, last: int, interval: int) -> Starts:
        days = self.days(first, last)
        parts = [np.arange(day, after, interval) for day, after in pairwise(days)]
        starts = np.append(np.concatenate(parts), days[-1])
        held = np.searchsorted(starts, (first, last), side="right")
        return starts[held[0] - 1 : held[1] + 1]

    def _groups(self, first: int, last: int, count: int) -> Iterator[int]:
        """The first dates of groups of `count` days, and the one after them."""
        anchor = date(1970, 1, 5).toordinal() if count * DAY_S == WEEK_S else _EPOCH  # a Monday
        begin, end = ((self._ordinal(moment) - anchor) // count * count + anchor for moment in (first, last))
        yield from range(begin, end + count + 1, count)

    def _months(self, first: int, last: int) -> Iterator[int]:
        """The first dates of months, and the one after them."""
        begin, end = (date.fromordinal(self._ordinal(moment)).replace(day=1) for moment in (first, last))
        while begin <= end:
            yield begin.toordinal()
            begin = (begin + timedelta(days=31)).replace(day=1)
        yield begin.toordinal()

    @staticmethod
    def _edges(starts: Iterator[int], end: int) -> Starts:
        """Without the days that never were."""
        return np.unique(np.fromiter((*starts, end), np.int64))

    def _ordinal(self, moment: int) -> int:
        """The date of the day that holds `moment`, as datetime counts: the last one that has begun."""
        ordinal = self._date(moment)
        # Where clocks have gone back over midnight, the calendar shows yesterday once more.
        return ordinal + 1 if self._start_of(ordinal + 1) <= moment else ordinal

    def _date(self, moment: int) -> int:
        return datetime.fromtimestamp(moment, self._zone).toordinal()

    def _start_of_ordinal(self, ordinal: int) -> int:
        """When a date begins.

        Of two midnights datetime takes the first. One that clocks jumped over it gives as the jump, for all jumps
        over midnight since 1970 began at midnight.
        """
        return int(datetime.combine(date.fromordinal(ordinal), time(), self._zone).timestamp())


@lru_cache
def of_zone(name: str) -> Calendar:
    """The calendar of a zone, made once."""
    return Calendar(name)
