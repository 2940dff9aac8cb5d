"""Writing the journal: a command that `synced` covers is on disk, whatever happens to the process or the machine.

The matcher asks `has_room` before it applies a batch, appends the accepted commands, and lets nobody know of them
until `synced` has reached the batch's last sequence. Group commit: a sync takes all that was appended when it starts.
It runs in this object's thread (`sync_soon`; `wake_fd` becomes readable after it) while the matcher applies the next
batch, or in the caller (`sync_now`) when nothing else is to be done: a thread's wake-up costs as much as half a sync.

A second thread prepares the next segment. It can fail (disk full): then there is room as long as the current segment
has some, `trouble` says why, and it is tried again every second.

When a write or a sync of commands fails, the kernel may have dropped the data and reports the failure once: a later
"success" on the same file means nothing. So the segment is given up: what is not yet durable is kept in memory and
written to a new segment, every second until that works. Meanwhile nothing is acknowledged and there is no room.

What reads this and why a reader can tell a torn tail from damage: engine/journal_reader.py.
"""

import os
import select
import threading
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Self

from bus.ahead import Ahead
from bus.messages import span
from engine.journal_files import Disk, SegmentFile, capacity, sync_directory
from engine.journal_reader import HEADER_SIZE, End, Header, Stretch, first_of, padded, segment_name, segments

SEGMENT_SIZE = 64 << 20
RETRY_S = 1.0  # between attempts while the disk is in trouble
ROOM_WAIT_S = 0.5  # how long a batch may wait for a slow disk before it is refused
SPARE_NAME = "next.preparing"
REPAIR_NAME = "repair.preparing"

Sync = Literal["always", "interval"]


class _Pending(NamedTuple):
    """A frame that is not known to be on disk."""

    first_sequence: int
    last_sequence: int
    frame: bytes


class Journal:
    """The writer. One thread appends; `close` before the next `Journal` of the same folder."""

    def __init__(
        self,
        directory: Path,
        end: End,
        *,
        header: Header,
        segment_size: int = SEGMENT_SIZE,
        sync: Sync = "always",
        interval_ms: int = 100,
        disk: Disk = Disk(),  # noqa: B008  # frozen
    ) -> None:
        """Go on at `end`, as the reader found it (all that is readable is durable afterwards). Raises OSError.

        With an `end` that has no file a segment for the command after `end.sequence` is started.
        """
        self._directory = directory
        self._header = header
        self._segment_size = segment_size
        self._interval_ms = interval_ms if sync == "interval" else None
        self._disk = disk
        self._lock = threading.Lock()  # of everything below
        self._syncing = threading.Lock()  # one sync or repair at a time; taken before `_lock`
        self._room = threading.Condition(self._lock)
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._appended = self._durable = self._acknowledged = end.sequence
        self._retired: list[SegmentFile] = []  # full, to be synced once more and closed
        self._names_changed = False
        self._lost = ""  # why the current segment is given up
        self._slow = False  # has a batch waited in vain, and nothing got better since?
        self._closing = False
        self._file = _continued(directory, end, header, segment_size, disk)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._work_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._next = Ahead(self._prepare, self._notify_room, name="journal-prepare")
        self._thread = threading.Thread(target=self._keep_syncing, name="journal-sync", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def appended(self) -> int:
        """The sequence of the last command given to `append`."""
        return self._appended

    @property
    def synced(self) -> int:
        """The sequence up to which commands may be acknowledged: on disk, or, with sync = "interval", soon to be."""
        return self._acknowledged

    @property
    def unsynced_count(self) -> int:
        """How many appended commands may not be on disk: the next frame's `total`."""
        return self._appended - self._durable

    @property
    def trouble(self) -> str:
        """What is wrong with the disk; empty when all is well."""
        if self._lost:
            return f"the journal can't be written: {self._lost}"
        if self._next.trouble:
            return f"the journal has no next segment: {self._next.trouble}"
        return f"the disk is slow: {self._pending_bytes} bytes wait for it" if self._slow else ""

    def has_room(self, size: int) -> bool:
        """May a frame of up to `size` bytes be appended? Waits a moment for a slow disk, not for a broken one."""
        if self._fits(size):
            return True
        if size > capacity(self._segment_size):
            return False
        self.sync_soon()
        with self._room:
            if not self._slow:
                self._slow = not self._room.wait_for(lambda: self._fits(size) or bool(self.trouble), ROOM_WAIT_S)
            return self._fits(size)

    def append(self, frame: bytes) -> int:
        """Write a sealed frame of commands; return the sequence that `synced` reaches when it may be acknowledged.

        `has_room` must have said yes. Never raises for the disk's sake: a frame that can't be written is kept for
        the next segment.
        """
        commands = span(frame)
        assert commands is not None, "this is no frame"
        assert self._appended + 1 == commands.first <= commands.last, f"{commands} after {self._appended}"
        with self._lock:
            self._appended = commands.last
            self._pending.append(_Pending(commands.first, commands.last, frame))
            self._pending_bytes += padded(len(frame))
            if not self._lost:
                try:
                    self._write(commands.first, frame)
                except OSError as error:
                    self._give_up(error)
            if self._interval_ms is not None and not self._lost:
                self._acknowledged = self._appended
        return self._appended

    def sync_soon(self) -> None:
        """Have the thread sync what is appended; `wake_fd` becomes readable when it has."""
        os.eventfd_write(self._work_fd, 1)

    def sync_now(self) -> bool:
        """Sync in the calling thread: is all that was appended on disk? If not, the thread repairs it."""
        with self._syncing:
            with self._lock:
                if self._lost or self._appended == self._durable:
                    return not self._lost
                target, files = self._appended, [*self._retired, self._file]
                names_changed, self._names_changed = self._names_changed, False
            try:
                for file in files:
                    file.sync()
                if names_changed:
                    sync_directory(self._directory)
            except OSError as error:
                with self._lock:
                    self._give_up(error)
                return False
            with self._lock:
                for file in files[:-1]:
                    self._retired.remove(file)
                    file.close()
                self._note_durable(target)
        return True

    def drop_before(self, sequence: int, keep_count: int = 1) -> list[Path]:
        """Delete the segments without a command after `sequence`, but leave at least `keep_count`."""
        return drop_before(self._directory, sequence, keep_count)

    def close(self) -> None:
        """Sync what was appended, if that is possible, and end the threads."""
        self.sync_now()
        self._closing = True
        os.eventfd_write(self._work_fd, 1)
        self._thread.join()
        if unused := self._next.close():
            unused.close()
            unused.path.unlink(missing_ok=True)
        for file in (*self._retired, self._file):
            file.close()
        for descriptor in (self.wake_fd, self._work_fd):
            os.close(descriptor)

    def _fits(self, size: int) -> bool:
        return (
            not self._lost
            and self._pending_bytes + padded(size) <= capacity(self._segment_size)
            and (self._file.fits(size) or self._next.ready is not None)
        )

    def _write(self, first_sequence: int, frame: bytes) -> None:
        if not self._file.fits(len(frame)):
            self._go_to_next(first_sequence)
        self._file.write(frame)

    def _go_to_next(self, first_sequence: int) -> None:
        """Take the prepared segment into use. The old one is closed when it is on disk."""
        file = self._next.ready
        assert file is not None, "append without has_room"
        file.publish(self._directory / segment_name(first_sequence))  # before the next one takes the name it had
        self._retired.append(self._file)
        self._file, self._names_changed = self._next.take(), True

    def _give_up(self, error: OSError) -> None:
        """Trust the current segment no more; the thread goes on in a new one. The lock is held."""
        self._lost = str(error)
        self._room.notify_all()
        os.eventfd_write(self._work_fd, 1)

    def _note_durable(self, sequence: int) -> None:
        """All up to `sequence` is on disk. The lock is held."""
        self._durable = sequence
        self._acknowledged = max(self._acknowledged, sequence)
        while self._pending and self._pending[0].last_sequence <= sequence:
            self._pending_bytes -= padded(len(self._pending.popleft().frame))
        self._slow = False
        self._room.notify_all()

    def _prepare(self) -> SegmentFile:
        return SegmentFile.prepare(self._directory / SPARE_NAME, self._segment_size, self._header, self._disk)

    def _notify_room(self) -> None:
        with self._room:
            self._slow = False
            self._room.notify_all()

    def _keep_syncing(self) -> None:
        """The sync thread."""
        poll = select.poll()
        poll.register(self._work_fd, select.POLLIN)
        while True:
            if poll.poll(RETRY_S * 1000 if self._lost else self._interval_ms):
                os.eventfd_read(self._work_fd)
            if self._closing:
                return
            before = self._durable
            if self._lost:
                self._repair()
            else:
                self.sync_now()
            if self._durable != before:
                os.eventfd_write(self.wake_fd, 1)

    def _repair(self) -> None:
        """Go on in a new segment that starts with everything that is not durable; on failure the journal stays lost."""
        with self._syncing:
            with self._lock:
                pending = list(self._pending)
            try:
                file = self._written_anew(pending)
            except OSError as error:
                with self._lock:
                    self._lost = str(error)
                return
            with self._lock:
                for old in (*self._retired, self._file):
                    old.close()
                self._retired.clear()
                self._file, self._names_changed, self._lost = file, False, ""
                if pending:
                    self._note_durable(pending[-1].last_sequence)
                self._write_late()

    def _written_anew(self, pending: list[_Pending]) -> SegmentFile:
        """A segment with these frames, durable, in the place of all that held one of them."""
        first_sequence = pending[0].first_sequence if pending else self._appended + 1
        size = sum(padded(len(each.frame)) for each in pending) + self._segment_size
        file = SegmentFile.prepare(self._directory / REPAIR_NAME, size, self._header, self._disk)
        try:
            for each in pending:
                file.write(each.frame)
            file.sync()
            file.publish(self._directory / segment_name(first_sequence))
            _unlink_after(self._directory, first_sequence)
            sync_directory(self._directory)
        except OSError:
            file.close()
            raise
        return file

    def _write_late(self) -> None:
        """Write what was appended while a repair went on. The lock is held."""
        try:
            for late in self._pending:
                self._write(late.first_sequence, late.frame)
        except OSError as error:
            self._give_up(error)
        if self._pending:
            os.eventfd_write(self._work_fd, 1)


def drop_before(directory: Path, sequence: int, keep_count: int = 1) -> list[Path]:
    """Delete the segments without a command after `sequence`, but leave at least `keep_count`; return the deleted."""
    files = segments(directory)
    covered = [file for file, after in pairwise(files) if first_of(after) <= sequence + 1]
    dropped = covered[: max(0, len(files) - keep_count)]
    for file in dropped:
        file.unlink()
    return dropped


def _continued(directory: Path, end: End, header: Header, segment_size: int, disk: Disk) -> SegmentFile:
    """The segment to go on in; everything readable is durable, everything torn is gone."""
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in (SPARE_NAME, REPAIR_NAME):
        (directory / leftover).unlink(missing_ok=True)
    _unlink_after(directory, first_of(end.file) if end.file else end.sequence)
    if end.file is not None and end.offset >= HEADER_SIZE:
        file = SegmentFile.reopen(end.file, end.offset, disk)
        file.clear(end.torn_bytes)
    else:
        file = SegmentFile.prepare(directory / REPAIR_NAME, segment_size, header, disk)
        file.publish(directory / segment_name(end.sequence + 1))
    for stretch in end.unproven:
        _write_again(stretch, disk)
    sync_directory(directory)
    return file


def _write_again(stretch: Stretch, disk: Disk) -> None:
    """Write frames over themselves and sync: a failed sync may have left them in memory only, marked as written."""
    file = SegmentFile.reopen(stretch.file, stretch.offset, disk)
    try:
        file.write(file.read(stretch.size))
        file.sync()
    finally:
        file.close()


def _unlink_after(directory: Path, sequence: int) -> None:
    for file in segments(directory):
        if first_of(file) > sequence:
            file.unlink()
