"""The files of the event log: their layout, and finding a place in them. Who writes and reads: bus/eventlog.py.

A folder of segments, each named after its first event, and `state`:

    00000000000000000001.events
    +------------+-----------------------+--------------+--------------+----- - -
    | HEAD, 64 B | INDEX x 1024          | EVENTS frame | EVENTS frame |
    +------------+-----------------------+--------------+--------------+----- - -
                  for each 1/1024 of the  frames are those of bus.messages, not sealed; they start at multiples of 8;
                  rest: its first frame   behind the last one of a full segment stands a zero
"""

import mmap
import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bus.messages import FRAME, Span, pack, span, unpack

SUFFIX = ".events"
STATE_NAME = "state"
INDEX_COUNT = 1024
ALIGNMENT = 8
MAGIC = b"TPITEVTS"
VERSION = 1
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

HEAD = np.dtype([
    ("magic", "S8"),
    ("version", "i8"),
    ("first_number", "i8"),
    ("reserved", "u1", (40,)),
])
INDEX = np.dtype([
    ("number", "i8"),  # first event of the frame; 0: no frame starts in this part
    ("offset", "i8"),
])
STATE = np.dtype([
    ("magic", "S8"),
    ("version", "i8"),
    ("boot_id", "S40"),  # of the machine's boot in which the writer ran
    ("last_number", "i8"),  # written
    ("durable_number", "i8"),  # its command is on disk
    ("synced_number", "i8"),  # the log itself is on disk up to here
])
_LAST, _DURABLE, _SYNCED = (
    int(STATE.fields[field][1]) // 8  # type: ignore[index]  # numpy: None only when unstructured
    for field in ("last_number", "durable_number", "synced_number")
)
FRAMES_START = HEAD.itemsize + INDEX_COUNT * INDEX.itemsize
assert HEAD.itemsize == 64
assert FRAMES_START % ALIGNMENT == 0


class Segment(NamedTuple):
    """A mapped segment."""

    path: Path
    data: memoryview
    places: NDArray[Any]  # INDEX

    @property
    def stripe_size(self) -> int:
        return -(-(len(self.data) - FRAMES_START) // INDEX_COUNT)


@cache
def boot_id() -> bytes:
    """Which run of the machine's kernel this is."""
    return BOOT_ID_FILE.read_bytes().strip()


def segments(directory: Path) -> list[Path]:
    """All segments, oldest first."""
    return sorted(file for file in directory.glob(f"*{SUFFIX}") if file.stem.isdigit())


def first_of(file: Path) -> int:
    """The number of a segment's first event."""
    return int(file.stem)


def padded(size: int) -> int:
    """The bytes that a frame of `size` takes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class State:
    """The `state` file, mapped. Its numbers are words to read and write: a record's field takes a microsecond."""

    def __init__(self, directory: Path, *, writable: bool) -> None:
        """Made empty if it is missing and writable. Raises FileNotFoundError."""
        path = directory / STATE_NAME
        if writable and not (path.exists() and path.stat().st_size == STATE.itemsize):
            row = np.zeros(1, STATE)
            row["magic"], row["version"] = MAGIC, VERSION
            path.write_bytes(row.tobytes())
        self._map = _map(path, writable=writable)
        self._row = np.frombuffer(self._map, STATE)[0]
        self._words = memoryview(self._map).cast("q")
        if self._row["magic"] != MAGIC or self._row["version"] != VERSION:
            raise OSError(f"{path} is not the state of an event log of version {VERSION}")

    @property
    def last_number(self) -> int:
        return self._words[_LAST]

    @last_number.setter
    def last_number(self, number: int) -> None:
        self._words[_LAST] = number

    @property
    def durable_number(self) -> int:
        return self._words[_DURABLE]

    @durable_number.setter
    def durable_number(self, number: int) -> None:
        self._words[_DURABLE] = number

    @property
    def synced_number(self) -> int:
        return self._words[_SYNCED]

    @synced_number.setter
    def synced_number(self, number: int) -> None:
        self._words[_SYNCED] = number

    def trusted(self, number: int) -> int:
        """A number of the state; when it was written in another boot, at most what was on disk then."""
        return number if bytes(self._row["boot_id"]) == boot_id() else min(number, self.synced_number)

    def claim(self) -> None:
        """From now on the numbers are of this boot."""
        self._row["boot_id"] = boot_id()

    def flush(self) -> None:
        """Take the numbers to the disk."""
        self._map.flush()


def open_segment(path: Path, *, writable: bool) -> Segment:
    """Map a segment. Raises FileNotFoundError."""
    return segment_of(path, _map(path, writable=writable))


def segment_of(path: Path, data: mmap.mmap) -> Segment:
    """A mapped file as a segment."""
    return Segment(path, memoryview(data), np.frombuffer(data, INDEX, INDEX_COUNT, HEAD.itemsize))


def new_head(first_number: int) -> bytes:
    """The first bytes of a segment."""
    head = np.zeros(1, HEAD)
    head["magic"], head["version"], head["first_number"] = MAGIC, VERSION, first_number
    return head.tobytes()


def _map(path: Path, *, writable: bool) -> mmap.mmap:
    with path.open("r+b" if writable else "rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)


def find(segment: Segment, number: int) -> int | None:
    """Where the frame with this event starts."""
    numbers = segment.places["number"]
    behind = np.flatnonzero((numbers > 0) & (numbers <= number))
    position = int(segment.places["offset"][behind[-1]]) if len(behind) else FRAMES_START
    while (events := span_at(segment, position)) and events.last < number:
        position += padded(events.size)
    return position if events and events.first <= number else None


def span_at(segment: Segment, position: int) -> Span | None:
    """The frame at a place; None behind the last one."""
    if position + FRAME.itemsize > len(segment.data):
        return None
    events = span(segment.data, position)
    return events if events and position + events.size <= len(segment.data) else None


def shorten(segment: Segment, position: int, number: int) -> int:
    """Make `number` the last event of the frame there; return where the next one goes."""
    events = span(segment.data, position)
    assert events is not None
    if events.last > number:
        frame = unpack(segment.data[position : position + events.size])
        kept = frame.records[: number + 1 - frame.first]
        data = pack(frame.kind, kept, frame.blob, first=frame.first, time=frame.time, results_hash=frame.results_hash)
        segment.data[position : position + len(data)] = data
        return position + padded(len(data))
    return position + padded(events.size)


def sync_file(path: Path) -> None:
    """Take a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
