"""The candles of one market and one size: ordered by start, without gaps between rows, growing at the end.

    +-----------+---------------------------------+----------------+
    | forgotten | candles, by start               | room           |
    +-----------+---------------------------------+----------------+
    0         begin                              end         capacity

Deals come in the order of events, whose times go back only when the machine's clock is set back. Then candles that
are there already are extended, and one that is missing is put in its place.
"""

import numpy as np
from numpy.typing import NDArray

from bus.messages import Records
from bus.text import halves, wide
from market.candles import WIDE_MAX, words
from market.schema import CANDLE

ROOM_COUNT_MIN = 16


class Series:
    """Candles, and which of them have changed since they were last stored."""

    def __init__(self) -> None:
        self._room(ROOM_COUNT_MIN)
        self._begin = self._end = 0
        self._changed: set[int] = set()  # starts
        self._storing: set[int] = set()  # those handed out by `changed`

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def candles(self) -> Records:
        """All of them; a view, until the next change."""
        return self._candles[self._begin : self._end]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Their starts; a view, until the next change."""
        return self._starts[self._begin : self._end]

    def load(self, candles: Records) -> None:
        """Begin with these, which are stored, ordered and each start once."""
        assert not len(self)
        self._append(candles)

    def add(self, candles: Records) -> None:
        """Take over what further deals have made, in the order of the deals."""
        starts = candles["start"]
        first = 0
        if len(self) and starts[0] == self._starts[self._end - 1]:
            self.add_one(*words(candles)[0].tolist())
            first = 1
        is_behind = bool(len(self)) and (starts[first:] <= self._starts[self._end - 1]).any()
        if is_behind or (starts[1:] <= starts[:-1]).any():
            for row in words(candles)[first:].tolist():
                self.add_one(*row)
        else:
            self._changed.update(starts.tolist())
            self._append(candles[first:])

    def add_one(self, start: int, *rest: int) -> None:
        """Take over a candle, given as the numbers of `words`."""
        self._changed.add(start)
        place = self._end - 1
        if not len(self) or start != self._starts[place]:
            place = self._begin + int(np.searchsorted(self.starts, start))
        if place < self._end and self._starts[place] == start:
            self._extend(place, *rest)
        else:
            self._insert(place, np.array((start, *rest)).view(CANDLE))

    def remove_before(self, start: int) -> None:
        """Forget candles that start before then. Their memory is free after the next growth."""
        self._begin += int(np.searchsorted(self.starts, start))

    def changed(self) -> Records:
        """A copy of what has changed since the last `changed` that was followed by `stored`."""
        self._storing |= self._changed
        self._changed = set()
        if not self._storing:  # of most markets, most of the time
            return self._candles[:0]
        wanted = np.fromiter(self._storing, np.int64, len(self._storing))
        wanted.sort()
        places = np.searchsorted(self.starts, wanted)
        places = places[places < len(self)]
        is_there = self.starts[places] == wanted[: len(places)]  # else it was removed
        found: Records = self.candles[places[is_there]]
        return found

    def stored(self) -> None:
        """What `changed` gave is in the store."""
        self._storing = set()

    def _extend(self, place: int, _: int, close: int, high: int, low: int, *sums: int) -> None:
        """Add a later part of the same candle."""
        row = words(self._candles)[place]
        _, _, _, high_before, low_before, *sums_before = row.tolist()
        volume, money = (min(wide(*sums_before[at : at + 2]) + wide(*sums[at : at + 2]), WIDE_MAX) for at in (0, 2))
        row[2:] = close, max(high, high_before), min(low, low_before), *halves(volume), *halves(money)

    def _insert(self, place: int, candle: Records) -> None:
        """Put a new one where it belongs."""
        later_count = self._end - place
        self._append(candle)  # which may move all of them
        place = self._end - 1 - later_count
        if later_count:
            for column in (self._starts, self._candles):
                column[place + 1 : self._end] = column[place : self._end - 1].copy()
            self._write(place, candle)

    def _append(self, candles: Records) -> None:
        """Put new ones at the end."""
        count = len(candles)
        if self._end + count > len(self._starts):
            self._grow(count)
        self._end += count
        self._write(self._end - count, candles)

    def _write(self, place: int, candles: Records) -> None:
        self._candles[place : place + len(candles)] = candles
        self._starts[place : place + len(candles)] = candles["start"]

    def _grow(self, count: int) -> None:
        """Move to where there is room for `count` more and as many again; what is forgotten stays behind."""
        starts, candles = self.starts, self.candles
        self._room(max(ROOM_COUNT_MIN, 2 * (len(starts) + count)))
        self._begin, self._end = 0, len(starts)
        self._starts[: self._end] = starts
        self._candles[: self._end] = candles

    def _room(self, count: int) -> None:
        self._starts = np.empty(count, np.int64)
        self._candles = np.empty(count, CANDLE)
