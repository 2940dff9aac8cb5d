"""All events from a number on, those too that are gone from the event log: for whoever stores what he makes of them.

The event log keeps what its consumers still need only up to a limit. What it dropped follows from the commands, so
it is made again as a restart makes it (engine/recovery.py): the journal is replayed in memory of its own, from the
newest snapshot that is old enough, and gives the same events with the same numbers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bus import feed
from bus.eventfiles import first_of, segments
from bus.eventlog import Gone, Reader, rest_of
from bus.messages import Bytes, Frame, Records, unpack
from conf.alert import say
from conf.paths import Paths
from conf.settings import Settings
from engine import recovery, snapshot
from engine.journal_reader import Damaged, Scan, read_header
from engine.opening import capacity_of
from engine.recovery import Diverged, events_frames
from engine.schema import Capacity


class NotRetold(Exception):
    """Events that are gone can't be made again: the text says why, and what to do."""


class Events:
    """The events after `after_number`, each once, in order: those of the feed, and before them what is gone.

    with Events(settings, after_number=position) as events:
        while not stopping():
            frame = events.receive(timeout_ms=200)
    """

    def __init__(self, settings: Settings, after_number: int) -> None:
        self.last_number = after_number
        self._settings = settings
        self._feed = feed.follow(settings.bus.bind, settings.paths, after_number)
        self._retold: Iterator[Frame | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_retelling(self) -> bool:
        """Whether events are being made again: `receive` then returns None after each step of it, without waiting."""
        return self._retold is not None

    @property
    def fd(self) -> int:
        """The feed's file descriptor, to be polled beside others; after events were made again it is another one."""
        return self._feed.fd

    def receive(self, timeout_ms: int) -> Frame | None:
        """The next events, or None when none came in time. Raises NotRetold."""
        frame = self._retell() if self._retold is not None else self._follow(timeout_ms)
        if frame is not None:
            self.last_number = frame.first + len(frame.records) - 1
        return frame

    def close(self) -> None:
        """Close the feed's socket and give the memory of a replay free."""
        self._retold = None
        self._feed.close()

    def _follow(self, timeout_ms: int) -> Frame | None:
        try:
            return self._feed.receive(timeout_ms)
        except Gone as gone:
            say(f"{gone}; it is made again from the journal")
            paths = self._settings.paths
            self._retold = retold(paths, capacity_of(self._settings), self.last_number)
            return None

    def _retell(self) -> Frame | None:
        assert self._retold is not None
        try:
            return next(self._retold)
        except StopIteration:
            self.close()
            self._feed = feed.follow(self._settings.bus.bind, self._settings.paths, self.last_number)
            return None


def retold(paths: Paths, capacity: Capacity, after_number: int) -> Iterator[Frame | None]:
    """The events after `after_number` that are gone from the log, made again; None after a step that gave none.

    Raises NotRetold.
    """
    log = Reader(paths.events_dir)
    number, end_number = after_number, 0
    try:
        for frame in _replayed(paths, capacity, after_number):
            if frame is None:
                yield None
                continue
            if frame.first + len(frame.records) > end_number:
                end_number = _gone_until(log, paths.events_dir, after_number)  # it may have dropped more meanwhile
            frame = frame._replace(records=frame.records[: max(0, end_number + 1 - frame.first)])
            number += len(frame.records)
            yield frame if len(frame.records) else None
            if number >= end_number:
                return
    except (Damaged, Diverged, ValueError, OSError) as error:
        raise NotRetold(f"events from {after_number + 1:,} on can't be made again: {error}") from error
    raise NotRetold(f"events from {after_number + 1:,} on can't be made again: the journal ends with event {number:,}")


def _replayed(paths: Paths, capacity: Capacity, after_number: int) -> Iterator[Frame | None]:
    """All events of the journal after `after_number`; None for each of its frames that has none of them.

    Raises Damaged, Diverged, ValueError for a capacity that is too small, OSError.
    """
    header = read_header(paths.journal_dir)
    if header is None:
        return
    start, _ = snapshot.newest(paths.snapshots_dir, event_number_max=after_number)
    exchange = recovery.begin(start, capacity, seed=header.seed)
    told: list[bytes] = []
    none: list[Frame | None] = [None]

    def tell(events: Records, blob: Bytes, now: float) -> None:
        told.extend(events_frames(events, blob, now))

    for entry in Scan(paths.journal_dir, exchange.sequence):
        recovery.replay(exchange, entry, tell)
        frames = [rest_of(unpack(data), after_number) for data in told]
        told.clear()
        yield from [frame for frame in frames if len(frame.records)] or none


def _gone_until(log: Reader, directory: Path, after_number: int) -> int:
    """The last event that the log lacks when it lacks the one after `after_number`."""
    later = (first for first in map(first_of, segments(directory)) if first > after_number + 1)
    return min(log.durable_number, next(later, log.durable_number + 1) - 1)
