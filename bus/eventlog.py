"""The event log: every event of the exchange by its number, for whoever missed it. One writer, any number of readers.

It is no second journal: nothing waits for it to be on disk, because the events follow from the commands and a replay
makes them again with the same numbers. Its files (bus/eventfiles.py) are memory-mapped, so an append is a copy. After
the death of a process the kernel still has all of it; after another boot only what `sync` took to the disk is
trusted, and the rest is made again.

A reader sees events up to the durable number only: those whose commands are on disk. The writer never changes what
is below that number, and what a recovery writes again is the same.
"""

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice, pairwise, zip_longest
from pathlib import Path

import numpy as np

from bus.ahead import Ahead
from bus.eventfiles import (
    FRAMES_START,
    HEAD,
    SUFFIX,
    Segment,
    State,
    find,
    first_of,
    new_head,
    open_segment,
    padded,
    segment_of,
    segments,
    shorten,
    span_at,
    sync_file,
)
from bus.messages import FRAME, Bytes, Frame, FrameKind, Span, pack, span, unpack

SPARE_NAME = "next.preparing"
SEGMENT_SIZE = 64 << 20
KEEP_SEGMENTS = 64
ROOM_WAIT_S = 0.5  # how long `has_room` waits for the next segment when it is late
REPLAY_FRAMES_MAX = 64  # in one answer: fewer than the replay socket's high-water mark
REPLAY_SIZE_MAX = 8 << 20
NOTHING = np.zeros(0, np.uint8)


class Gone(Exception):
    """The events asked for are no longer, or not yet again, in the log, which starts with `first_number`."""

    def __init__(self, text: str, first_number: int) -> None:
        super().__init__(text)
        self.first_number = first_number


class Writer:
    """The one writer of a log. It starts where the log can be trusted to end; `last_number` says where that is."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_size: int = SEGMENT_SIZE,
        keep_segments_count: int = KEEP_SEGMENTS,
        backlog_segments_count: int = KEEP_SEGMENTS,
        needed_after: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`needed_after` tells the last event that every consumer has stored: what comes later is kept in up to
        `backlog_segments_count` full segments, all else in `keep_segments_count`. Raises OSError.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._segment_size = segment_size
        self._keep_segments_count = keep_segments_count
        self._backlog_segments_count = max(backlog_segments_count, keep_segments_count)
        self._needed_after = needed_after
        self._stripe = -1  # the last one in the index
        self._stripe_size = 1
        self._segment: Segment | None = None
        self._descriptor = -1  # of the segment's file
        self._full: list[Segment] = []  # to be unmapped, which takes a moment, by the thread
        self._position = 0  # where the next frame goes
        self._state = State(directory, writable=True)
        (directory / SPARE_NAME).unlink(missing_ok=True)
        self._next = Ahead(self._prepare, lambda: None, name="events-prepare")
        self._frame_max = segment_size - FRAMES_START
        self._waiting: deque[bytes] = deque()  # appended, but there was no room
        self._last_number = self._state.trusted(self._state.last_number)
        self._durable_number = min(self.durable_number, self._last_number)
        self._state.durable_number = self._durable_number
        self._state.claim()
        self._state.last_number = self._last_number
        if not self._end_at(self._last_number):  # something was removed or damaged from outside: make all of it again
            self.cut(0)

    @property
    def last_number(self) -> int:
        """Of the last event appended."""
        return self._last_number

    @property
    def durable_number(self) -> int:
        """What readers may see."""
        return self._state.durable_number

    @property
    def trouble(self) -> str:
        """Why there is no next segment; empty when all is well."""
        return f"the event log has no next segment: {self._next.trouble}" if self._next.trouble else ""

    def has_room(self, size: int) -> bool:
        """May frames of together up to `size` bytes be appended? Waits a moment for a next segment that is late."""
        self._write_waiting()
        if self._waiting:
            return False
        return self._fits(size) or (size <= self._frame_max and self._next.wait(ROOM_WAIT_S))

    def wait_for_room(self, size: int) -> None:
        """Return when there is room. Raises OSError when the disk has none."""
        while not self.has_room(size):
            if self.trouble:
                raise OSError(self.trouble)

    def append(self, frame: Bytes) -> None:
        """Write a frame of events that starts with `last_number + 1`.

        Never raises for the disk's sake: what has no room is kept in memory, and then there is no room for more.
        """
        events = span(frame)
        assert events is not None, "this is no frame"
        assert events.first == self._last_number + 1 <= events.last, f"{events} after {self._last_number}"
        assert events.size <= self._frame_max, f"a frame of {events.size} bytes fits no segment"
        self._last_number = events.last
        if self._waiting or not (self._fits(events.size) or self._next.wait(ROOM_WAIT_S)):
            self._waiting.append(bytes(frame))
        else:
            self._write(frame, events)

    def mark_durable(self, number: int) -> None:
        """Let readers see the events up to `number`: their commands are on disk."""
        assert number <= self._last_number, f"event {number} is not appended"
        self._durable_number = number
        self._state.durable_number = min(number, self._state.last_number)

    def sync(self) -> None:
        """Take the log up to the durable number to the disk, so that another boot can trust it. Raises OSError."""
        number = self.durable_number
        synced = self._state.synced_number
        files = segments(self._directory)
        for file, after in zip_longest(files, files[1:]):
            if after is None or first_of(after) > synced:
                sync_file(file)
        sync_file(self._directory)
        self._state.synced_number = number
        self._state.flush()

    def cut(self, after_number: int) -> None:
        """Forget the events after `after_number`."""
        if after_number < self._last_number:
            self._waiting.clear()
            self._set_numbers(min(self._state.last_number, after_number))
            self._end_at(self._last_number)

    def start_after(self, number: int) -> None:
        """Begin anew with event `number + 1`: everything before it can't be had any more, and readers are told."""
        self.cut(0)
        self._set_numbers(number)
        self._state.durable_number = self._state.synced_number = self._durable_number = number

    def _set_numbers(self, last_number: int) -> None:
        """The log ends with another event; nothing may tell of later ones, the readers' number first of all."""
        self._durable_number = min(self._durable_number, last_number)
        self._state.durable_number = min(self.durable_number, last_number)
        self._state.synced_number = min(self._state.synced_number, last_number)
        self._state.last_number = self._last_number = last_number

    def close(self) -> None:
        """End the thread; what is written stays."""
        self._next.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        (self._directory / SPARE_NAME).unlink(missing_ok=True)
        self._state.flush()

    def _prepare(self) -> mmap.mmap:
        """A segment's file, all its blocks present, so that a write to it can't fail for want of room."""
        self._full.clear()
        path = self._directory / SPARE_NAME
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, self._segment_size)
            data = mmap.mmap(descriptor, self._segment_size)
        finally:
            os.close(descriptor)
        return data

    def _fits(self, size: int) -> bool:
        """Is there room in the segment?"""
        return self._segment is not None and self._position + size <= len(self._segment.data)

    def _write(self, frame: Bytes, events: Span) -> None:
        """Copy a frame into the segment or, when it is full, into the next one, which is ready."""
        if self._segment is None or self._position + events.size > len(self._segment.data):
            self._segment = self._go_to_next(events.first)
        position = self._position
        os.pwrite(self._descriptor, frame, position)  # through the mapping every page would fault once
        self._note(self._segment, events.first, position)
        self._position = position + padded(events.size)
        self._state.last_number = events.last

    def _write_waiting(self) -> None:
        """Write what had no room, as far as there is some now."""
        while self._waiting:
            events = span(self._waiting[0])
            assert events is not None
            if not self._fits(events.size) and self._next.ready is None:
                return
            self._write(self._waiting.popleft(), events)
            self._state.durable_number = min(self._durable_number, events.last)

    def _go_to_next(self, first_number: int) -> Segment:
        if self._segment is not None:
            self._mark_end(self._segment)
            self._full.append(self._segment)
        path = self._directory / f"{first_number:020d}{SUFFIX}"
        data = self._next.ready
        assert data is not None
        (self._directory / SPARE_NAME).rename(path)  # before the next one takes the name it had
        self._next.take()
        self._drop_oldest()
        segment = segment_of(path, data)
        self._open(path)
        segment.data[: HEAD.itemsize] = new_head(first_number)
        self._position, self._stripe, self._stripe_size = FRAMES_START, -1, segment.stripe_size
        return segment

    def _open(self, path: Path) -> None:
        """Write frames to this file from now on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def _mark_end(self, segment: Segment) -> None:
        """Whatever a cut left behind the last frame must not look like the next one."""
        end = min(self._position + FRAME.itemsize, len(segment.data))
        segment.data[self._position : end] = bytes(end - self._position)

    def _note(self, segment: Segment, number: int, position: int) -> None:
        """Put the frame into the index if it is the first of its stripe."""
        stripe = (position - FRAMES_START) // self._stripe_size
        if stripe != self._stripe:
            self._stripe = stripe
            segment.places[stripe] = (number, position)

    def _drop_oldest(self) -> None:
        files = segments(self._directory)
        needed_after = self._needed_after()
        for dropped_count, (file, after) in enumerate(pairwise(files[: -self._keep_segments_count])):
            is_needed = needed_after is not None and first_of(after) > needed_after + 1
            if is_needed and len(files) - dropped_count <= self._backlog_segments_count + 1:
                return
            file.unlink()

    def _end_at(self, number: int) -> bool:
        """Go on behind event `number`, which is the last one, and remove what comes later; False if it isn't there."""
        self._segment = None
        files = segments(self._directory)
        for file in files:
            if first_of(file) > number:
                file.unlink()
        kept = [file for file in files if first_of(file) <= number]
        return not kept or self._reopen(open_segment(kept[-1], writable=True), number)

    def _reopen(self, segment: Segment, number: int) -> bool:
        position = find(segment, number)
        if position is None:
            return False
        self._position = shorten(segment, position, number)
        segment.places[segment.places["number"] > number] = 0
        self._open(segment.path)
        self._segment, self._stripe_size = segment, segment.stripe_size
        self._stripe = (position - FRAMES_START) // self._stripe_size
        return True


class Reader:
    """Reads the log of the same machine, from any number on, while it is being written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state: State | None = None
        self._segment: Segment | None = None
        self._position = 0
        self._next_number = 0  # of the frame at the position, or asked for

    @property
    def durable_number(self) -> int:
        """The last event that can be had; 0 as long as there is no log."""
        if self._state is None:
            with suppress(FileNotFoundError):
                self._state = State(self._directory, writable=False)
        return 0 if self._state is None else self._state.trusted(self._state.durable_number)

    @property
    def first_number(self) -> int:
        """The oldest event that can be had, or the one that will be the first."""
        files = segments(self._directory)
        return first_of(files[0]) if files else self.durable_number + 1

    def frames(self, after_number: int) -> Iterator[Frame]:
        """All events after `after_number` that are durable now, in order. Raises Gone.

        The records are views of the log. Call it again, with the last number that came, to follow the log: that
        goes on where it was.
        """
        for data in self.raw(after_number):
            yield rest_of(unpack(data), after_number)

    def raw(self, after_number: int) -> Iterator[memoryview]:
        """The same as whole frames, of which the first may begin before what is asked for. Raises Gone."""
        if after_number + 1 != self._next_number:
            self._segment, self._next_number = None, after_number + 1
        while self._next_number <= (durable := self.durable_number):
            segment = self._segment or self._open()
            events = span_at(segment, self._position)
            if events is None:
                segment = self._open()  # that one is full
                events = span_at(segment, self._position)
            if events is None or events.last > durable:
                return
            start, self._position = self._position, self._position + padded(events.size)
            self._next_number = events.last + 1
            yield segment.data[start : start + events.size]

    def _open(self) -> Segment:
        """Map the segment that holds the next event and go to its frame."""
        number = self._next_number
        before = [file for file in segments(self._directory) if first_of(file) <= number]
        with suppress(FileNotFoundError):  # dropped this moment
            if before:
                segment = open_segment(before[-1], writable=False)
                position = find(segment, number)
                if position is not None:
                    self._segment, self._position = segment, position
                    return segment
        self._segment = None
        first_number = self.first_number
        raise Gone(f"event {number} is not in the log any more, it starts with {first_number}", first_number)


def replay(reader: Reader, after_number: int) -> Iterator[bytes]:
    """The answer to a PING on the replay socket: some frames of the events after this one, then a PING.

    Its `first` is the oldest event that can be had, its `total` the last one. Not all may come at once: who wants
    more asks again.
    """
    size = 0
    with suppress(Gone):
        for data in islice(reader.raw(after_number), REPLAY_FRAMES_MAX):
            yield bytes(data)
            if (size := size + len(data)) >= REPLAY_SIZE_MAX:
                break
    yield pack(FrameKind.PING, NOTHING, first=reader.first_number, total=reader.durable_number)


def rest_of(frame: Frame, after_number: int) -> Frame:
    """The events of a frame that come after `after_number`; places in the blob stay what they were."""
    known = after_number + 1 - frame.first
    return frame if known <= 0 else frame._replace(records=frame.records[known:], first=after_number + 1)
