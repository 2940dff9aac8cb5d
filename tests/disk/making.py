"""Batches of commands for the journal's tests: they need no meaning, only their own bytes."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bus.messages import COMMAND, Bytes, FrameKind, pack
from engine.journal import Journal
from engine.journal_files import Disk
from engine.journal_reader import Header, Scan, find_end, padded

HEADER = Header(seed=7, instance="test")
SEGMENT_SIZE = 1 << 16


def batch(first: int, count: int, *, unsynced: int = 0, blob: bytes = b"") -> bytes:
    """A sealed frame of `count` commands that start with sequence `first`."""
    commands = np.zeros(count, COMMAND)
    commands["request_id"] = np.arange(first, first + count)
    commands["amount_units"] = 3 * commands["request_id"]
    return pack(FrameKind.COMMANDS, commands, blob, first=first, total=unsynced, time=float(first), sealed=True)


def frame_size(count: int, blob: bytes = b"") -> int:
    """The bytes that such a frame takes in a segment."""
    return padded(len(batch(1, count, blob=blob)))


def open_journal(directory: Path, *, disk: Disk = Disk(), segment_size: int = SEGMENT_SIZE) -> Journal:  # noqa: B008  # frozen
    """A journal that goes on where the folder's ends."""
    return Journal(directory, find_end(directory), header=HEADER, segment_size=segment_size, disk=disk)


def append(journal: Journal, counts: Sequence[int], blob: bytes = b"") -> int:
    """Append a batch for each count, each in its own sync; return the last sequence."""
    for count in counts:
        frame = batch(journal.appended + 1, count, unsynced=journal.unsynced_count, blob=blob)
        assert journal.has_room(len(frame)), journal.trouble
        journal.append(frame)
        assert journal.sync_now()
    return journal.appended


def sequences(directory: Path, after: int = 0) -> list[int]:
    """The sequence of every command that can be read."""
    found: list[int] = []
    for entry in Scan(directory, after):
        ids = entry.frame.records["request_id"].tolist()
        assert ids[0] == entry.frame.first
        found += ids
    return found


class FaultyDisk:
    """The calls of a disk that can be full, or broken for a number of writes or syncs."""

    def __init__(self) -> None:
        self.failing_syncs = 0
        self.failing_writes = 0
        self.is_full = False

    @property
    def calls(self) -> Disk:
        return Disk(write=self._write, sync=self._sync)

    def _write(self, descriptor: int, data: Bytes, offset: int) -> int:
        if self.failing_writes:
            self.failing_writes -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.is_full and offset + len(data) > os.fstat(descriptor).st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(descriptor, data, offset)

    def _sync(self, descriptor: int) -> None:
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)
