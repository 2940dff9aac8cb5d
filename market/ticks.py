"""The newest deals of a market (CONTRACT 4.1)."""

import numpy as np

from bus.messages import Records
from market.schema import DEALS_KEPT_COUNT, TICK

_ROOM_COUNT = 2 * DEALS_KEPT_COUNT  # so that they move to the front once in so many deals


def of_deals(deals: Records) -> Records:
    """A tick for each DEAL_EVENT."""
    made = np.empty(len(deals), TICK)
    for name in TICK.names or ():
        made[name] = deals[name]
    return made


class Ticks:
    """The newest 10,000, and which of them are not stored yet. `count` numbers all that ever came, from 1."""

    def __init__(self) -> None:
        self.count = 0
        self._ticks = np.empty(_ROOM_COUNT, TICK)
        self._end = 0
        self._stored_count = self._storing_count = 0

    @property
    def kept(self) -> Records:
        """Oldest first; a view, until the next change."""
        return self._ticks[max(0, self._end - DEALS_KEPT_COUNT) : self._end]

    def load(self, ticks: Records) -> None:
        """Begin with these, which are stored."""
        assert not self.count
        self.add(ticks)
        self._stored_count = self._storing_count = self.count

    def add(self, ticks: Records) -> None:
        """Put newer ones at the end."""
        newest = ticks[-DEALS_KEPT_COUNT:]
        if self._end + len(newest) > _ROOM_COUNT:
            kept = self.kept.copy()
            self._end = len(kept)
            self._ticks[: self._end] = kept
        self._ticks[self._end : self._end + len(newest)] = newest
        self._end += len(newest)
        self.count += len(ticks)

    def after(self, deal_id: int) -> Records:
        """Those with a greater id."""
        kept = self.kept
        return kept[np.searchsorted(np.ascontiguousarray(kept["deal_id"]), deal_id, side="right") :]

    def changed(self) -> Records:
        """A copy of what is new since the last `changed` that was followed by `stored`."""
        self._storing_count = self.count
        kept = self.kept
        return kept[len(kept) - min(self.count - self._stored_count, len(kept)) :].copy()

    def stored(self) -> None:
        """What `changed` gave is in the store."""
        self._stored_count = self._storing_count
