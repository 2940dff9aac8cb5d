"""The matcher's shared memory: one POSIX segment named after the instance, owned by whoever holds its flock.

The kernel drops a flock when its holder dies, however it dies (a semaphore would stay held for ever). A segment is
never shrunk or reused for another layout: that would kill or mislead its readers. It is marked RETIRED, unlinked and
replaced by a new one; readers see the mark and attach anew.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Self

import numpy as np
import posix_ipc

from engine.schema import HEADER, LAYOUT, MAGIC, Capacity, MemoryState, Row


class InUse(Exception):
    """Another matcher owns the segment: the text says which process."""


class Memory:
    """A mapped segment. `buffer` is its bytes; it is unmapped when nothing refers to them any more."""

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        self._descriptor = descriptor
        size = os.fstat(descriptor).st_size
        access = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        self.buffer = mmap.mmap(descriptor, size, mmap.MAP_SHARED, access)

    @classmethod
    def attach(cls, name: str, *, writable: bool = False) -> Self | None:
        """Map a segment that is there, else None; a writer also becomes its owner. Raises InUse.

        Whoever has it calls `let_go` in the end.
        """
        try:
            segment = posix_ipc.SharedMemory(name, flags=0)
        except posix_ipc.ExistentialError:
            return None
        if os.fstat(segment.fd).st_size < HEADER.itemsize:
            if writable:
                _own(segment.fd, name)
                posix_ipc.unlink_shared_memory(name)
            os.close(segment.fd)
            return None
        memory = cls(segment.fd, writable=writable)
        if writable:
            _own(segment.fd, f"{name} (process {memory.header['pid']})")
        return memory

    @classmethod
    def create(cls, name: str, size: int, *, is_shared: bool = False) -> Self:
        """Make a zeroed segment and own it, for this user only, or for its group, too. The name must be free."""
        mode = 0o660 if is_shared else 0o600
        segment = posix_ipc.SharedMemory(name, flags=posix_ipc.O_CREX, mode=mode, size=size)
        _own(segment.fd, name)
        return cls(segment.fd, writable=True)

    @property
    def header(self) -> Row:
        """The HEADER record."""
        return np.frombuffer(self.buffer, HEADER, 1)[0]

    def holds(self, capacity: Capacity, size: int) -> bool:
        """Whether a state of this layout and capacity was completed in it."""
        header = self.header
        return (
            header["magic"] == MAGIC
            and header["layout"] == LAYOUT
            and header["size"] == size == len(self.buffer)
            and all(header[field.name] == getattr(capacity, field.name) for field in fields(capacity))
        )

    def retire(self, name: str) -> None:
        """Tell readers to look elsewhere and free the name."""
        self.header["state"] = MemoryState.RETIRED
        posix_ipc.unlink_shared_memory(name)
        self.let_go()

    def touched(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of bytes between two places that were ever written to; a reader need not look at others.

        To look at a page that nothing has touched would give it memory, by the gigabyte where tables are large.
        """
        descriptor = os.dup(self._descriptor)  # its own: the memory may be let go before the walk ends
        try:
            while start < end:
                start = os.lseek(descriptor, start, os.SEEK_DATA)
                hole = os.lseek(descriptor, start, os.SEEK_HOLE)
                if start < end:
                    yield start, min(end, hole)
                start = hole
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing from there on
                raise
        finally:
            os.close(descriptor)

    def let_go(self) -> None:
        """Give up ownership; what is mapped stays (and keeps a copy of the descriptor, so closing it is not enough)."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def capacity_of(header: Row) -> Capacity:
    """The capacity that a state was made for."""
    return Capacity(**{field.name: int(header[field.name]) for field in fields(Capacity)})


def _own(descriptor: int, who: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InUse(
            f"another matcher runs as instance {who}: stop it, or give this exchange another `instance`"
        ) from None
