"""What reads are answered from: the matcher's shared memory, and the matcher itself where that is not possible.

On another machine, or while the matcher writes too much for a clean look, a query over the link asks the same.
"""

from collections.abc import Callable
from time import monotonic

import numpy as np

from bus import catalog
from bus.catalog import Catalog
from bus.messages import QUERY, QueryKind, Records
from engine.reader import NotReady, Reader, Torn
from engine.views import Answered
from gateways.link import Link

CATALOG_CHECK_S = 0.05  # how long a new market may be unknown here; to look each time would double the cost of reads
CATALOG_AGE_MAX_S = 1.0  # the same without shared memory
READER_RETRY_S = 0.1  # to look for shared memory that is not there costs more than to ask the matcher
UNKNOWN_SEQUENCE = -1


class State:
    """The matcher's state, read-only."""

    def __init__(self, reader: Reader, link: Link, now: Callable[[], float] = monotonic) -> None:
        self._reader = reader
        self._link = link
        self._now = now
        self._reader_after_s = 0.0
        self._catalog: Catalog | None = None
        self._catalog_sequence = UNKNOWN_SEQUENCE
        self._checked_until_s = 0.0
        self._catalog_until_s = 0.0

    def catalog(self, *, is_fresh: bool = False) -> Catalog:
        """What is listed, looked up again if that is wanted or was a while ago. Raises NotConnected, TimedOut."""
        now = self._now()
        if self._catalog is None or is_fresh or now >= self._checked_until_s:
            self._catalog = self._checked(now, is_fresh=is_fresh)
            self._checked_until_s = now + CATALOG_CHECK_S
        return self._catalog

    def _checked(self, now: float, *, is_fresh: bool) -> Catalog:
        sequence = self._listing_sequence()
        is_old = sequence == UNKNOWN_SEQUENCE and (is_fresh or now >= self._catalog_until_s)
        if self._catalog is not None and sequence == self._catalog_sequence and not is_old:
            return self._catalog
        made = catalog.make(self.answer(QueryKind.ASSETS).records, self.answer(QueryKind.MARKETS).records)
        self._catalog_sequence = sequence
        self._catalog_until_s = now + CATALOG_AGE_MAX_S
        return made

    def answer(self, kind: QueryKind, **asked: int) -> Answered:
        """The records that answer a QueryKind; `asked` as for Reader.answer. Raises NotConnected, TimedOut."""
        if self._now() >= self._reader_after_s:
            try:
                return self._reader.answer(kind, **asked)
            except NotReady:
                self._reader_after_s = self._now() + READER_RETRY_S
            except Torn:
                pass  # the matcher itself does not meet its own writes
        frame = self._link.query(_query(kind, **asked))
        return Answered(frame.records, frame.total)

    def _listing_sequence(self) -> int:
        if self._now() < self._reader_after_s:
            return UNKNOWN_SEQUENCE
        try:
            return self._reader.listing_sequence
        except NotReady:
            self._reader_after_s = self._now() + READER_RETRY_S
            return UNKNOWN_SEQUENCE


def _query(
    kind: QueryKind,
    *,
    market: int = 0,
    side: int = 0,
    limit: int = 0,
    user_id: int = 0,
    offset: int = 0,
    order_id: int = 0,
    interval: int = 0,
) -> Records:
    return np.array([(kind, market, side, limit, user_id, offset, order_id, interval)], QUERY)
