"""alerts.jsonl and its predecessors, as a queue: who follows it gets each line once, over renaming and restarts.

    alerts.jsonl.2  alerts.jsonl.1  alerts.jsonl         the oldest first; lines are added to the last
                          ^ a follower: (mark, offset)

A file is known by its `mark`, which is made of its first line: that has a time and survives renaming, a copy of the
folder, a reused inode. Who writes holds a lock for a moment (conf/alert.py); a follower leaves a file behind when it
has a successor and nobody holds it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Self

from conf.alert_record import LINE_MAX_SIZE, Alert, parse

READ_SIZE = 2 * LINE_MAX_SIZE
FIRST_LINE_SIZE = 4_096  # so much of it makes the mark
POSITION_SIZE = 128  # bytes of a stored position: always as many, so that it is rewritten in place on a full disk too
CLOCK_SLACK_S = 2.0
UNKNOWN_MARK = "?"  # no file has it
LAST_LINES_MAX_SIZE = 64 << 20  # so much of a file's end is looked at for its last lines
OLD_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class Position(NamedTuple):
    """How far a follower is."""

    mark: str = ""  # "": before the first line of the first file
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.mark}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` has made. Raises ValueError."""
        mark, _, offset = text.partition(":")
        return cls(mark, int(offset))


START = Position()


class Stored(NamedTuple):
    """What is kept of a way by which alerts leave."""

    position: Position
    sent_at: float  # when something left last, in seconds since 1970; 0: never
    name: str  # of this follower, for stores of others


class PositionFile:
    """Where a position is kept. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Stored | None:
        """What was saved last; None when nothing was."""
        try:
            changed_at, text = self._path.stat().st_mtime, self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            position, sent_at, name = json.loads(text)
            return Stored(Position.parse(str(position)), float(sent_at), str(name))
        except (ValueError, TypeError):  # a machine that lost power may leave it empty
            return Stored(Position(UNKNOWN_MARK), changed_at, "")

    def save(self, stored: Stored) -> None:
        """Keep it, until something else is saved."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([str(stored.position), stored.sent_at, stored.name])
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(fd, text.ljust(POSITION_SIZE - 1).encode() + b"\n", 0)
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Keep nothing: the next follower begins at the end."""
        self._path.unlink(missing_ok=True)


class AlertFiles:
    """The files of one exchange; several threads may follow them, one may rotate them."""

    def __init__(self, path: Path, keep_count: int = 1) -> None:
        """`keep_count`: how many old files are left by `rotate`."""
        self.path = path
        self._keep_count = keep_count
        self.lock = Lock()  # while files are renamed, and while one is tried for writers

    def all(self) -> list[Path]:
        """The files that there are, the oldest first."""
        old = [self._old(number) for number in self._numbers()]
        return [*old, self.path] if self.path.exists() else old

    def end(self) -> Position:
        """Behind the last line that there is. Raises OSError."""
        with self.lock:
            for path in reversed(self.all()):
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    if mark := mark_of(file.fileno()):
                        return Position(mark, os.fstat(file.fileno()).st_size)
        return Position()

    def oldest_to_go(self) -> str:
        """The mark of the file that the next rotation removes; "" for none. Raises OSError."""
        with self.lock, contextlib.suppress(FileNotFoundError), self._old(self._keep_count).open("rb") as file:
            return mark_of(file.fileno())
        return ""

    def rotate(self) -> None:
        """Rename the file, and those before it; the oldest goes. Raises OSError."""
        with self.lock:
            for number in self._numbers():
                if number < self._keep_count:
                    self._old(number).replace(self._old(number + 1))
                elif number > self._keep_count:  # fewer are kept than before
                    self._old(number).unlink(missing_ok=True)
            self.path.replace(self._old(1))

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _numbers(self) -> list[int]:
        """Of the old files, the oldest first."""
        ends = (path.name.rpartition(".")[2] for path in self.path.parent.glob(f"{self.path.name}.*"))
        return sorted((int(end) for end in ends if OLD_NUMBER.fullmatch(end)), reverse=True)


class Follower:
    """Reads the files line by line. `position` is behind what `read` gave last. Raises OSError."""

    def __init__(self, files: AlertFiles, position: Position, saved_at: float = 0.0) -> None:
        """`saved_at`: when that was the position, in seconds since 1970, for the case that its file is gone."""
        self._files = files
        self._fd = -1
        self._passed: set[str] = set()  # the marks of files that are older than this one
        self.unreadable_count = 0  # lines that are no alerts, so far
        self.seek(position, saved_at)

    def seek(self, position: Position, saved_at: float = 0.0) -> None:
        """Go on from there."""
        self._leave()
        self._passed = set()
        self._wanted = position
        self._saved_at = saved_at
        self.position = position

    def close(self) -> None:
        """Close the file."""
        self._leave()

    def needs(self, mark: str) -> bool:
        """Whether a file is still to be read, or this moment read."""
        return self._fd >= 0 and mark not in self._passed

    def read(self, count_max: int) -> list[Alert]:
        """Some alerts that follow; none: there are no more at the moment."""
        while self._fd >= 0 or self._find():
            if lines := self._lines(count_max):
                alerts = [alert for alert in map(self._parsed, lines) if alert is not None and not alert.is_told]
                if alerts:
                    return alerts
            elif not self._go_on():
                break
        return []

    def _parsed(self, line: bytes) -> Alert | None:
        alert = parse(line)
        self.unreadable_count += alert is None and bool(line.strip())
        return alert

    def _lines(self, count_max: int) -> list[bytes]:
        """Whole lines from the position on, which moves behind them."""
        mark = mark_of(self._fd)
        if mark != self.position.mark or os.fstat(self._fd).st_size < self.position.offset:
            self.position = Position(mark)  # somebody has emptied it
        data = os.pread(self._fd, READ_SIZE, self.position.offset)
        if len(data) == READ_SIZE and b"\n" not in data:  # no line of ours is so long
            self.position = Position(mark, self.position.offset + READ_SIZE)
            self.unreadable_count += 1
            return [b""]
        *lines, _ = data.split(b"\n")
        lines = lines[:count_max]
        self.position = Position(mark, self.position.offset + sum(len(line) + 1 for line in lines))
        return lines

    def _go_on(self) -> bool:
        """Leave the file for the next one if nothing can be added to it any more; return whether more may be there."""
        with self._files.lock:
            after = [path for path in self._files.all() if not self._is_this(path)]
            if not any(mark and mark not in self._passed for mark in map(_mark_at, after)) or not _is_free(self._fd):
                return False
        if os.fstat(self._fd).st_size > self.position.offset and not self._is_cut_off():
            return True  # somebody has just finished
        self._passed.add(self.position.mark)
        self._leave()
        return True

    def _is_cut_off(self) -> bool:
        """Whether what is left is the begin of a line, which nobody will end."""
        return b"\n" not in os.pread(self._fd, READ_SIZE, self.position.offset)

    def _find(self) -> bool:
        """Open the file that is next; return whether there is one."""
        with self._files.lock:
            found = [(path, mark) for path in self._files.all() if (mark := _mark_at(path))]
            marks = [mark for _, mark in found]
            self._passed &= set(marks)
            if self._wanted.mark in marks:
                self._passed = set(marks[: marks.index(self._wanted.mark)])
            elif self._wanted.mark:  # it is gone: then what was written since
                self._passed = {mark for path, mark in found if _changed_at(path) < self._saved_at - CLOCK_SLACK_S}
            for path, mark in found:
                if mark not in self._passed:
                    self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    self.position = self._wanted if self._wanted.mark == mark else Position(mark)
                    self._wanted = Position()
                    return True
        return False

    def _is_this(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._fd), path.stat())
        return False

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def mark_of(fd: int) -> str:
    """By what a file is known; "" as long as it has no line."""
    data = os.pread(fd, FIRST_LINE_SIZE, 0)
    first, end, _ = data.lstrip().partition(b"\n")  # blank lines would make files alike
    if not first or (not end and len(data) < FIRST_LINE_SIZE):
        return ""
    return hashlib.blake2b(first, digest_size=8).hexdigest()


def last_alerts(files: AlertFiles, count: int) -> list[Alert]:
    """The last so many alerts that are in the files. Raises OSError."""
    found: list[Alert] = []
    for path in reversed(files.all()):
        found = [*_alerts_in(path, count - len(found)), *found]
        if len(found) == count:
            break
    return found


def _alerts_in(path: Path, count: int) -> list[Alert]:
    with contextlib.suppress(FileNotFoundError):
        kept = [alert for line in _last_lines(path, count) if (alert := parse(line)) is not None]
        return kept[-count:]
    return []


def _last_lines(path: Path, count: int) -> list[bytes]:
    """The lines of a file's end that hold at least so many, if it has them."""
    with path.open("rb") as file:
        start = file.seek(0, os.SEEK_END)
        least = max(0, start - LAST_LINES_MAX_SIZE)
        parts: list[bytes] = []
        end_count = 0
        while start > least and end_count <= count:
            size = min(start, READ_SIZE)
            start = file.seek(start - size)
            parts.append(file.read(size))
            end_count += parts[-1].count(b"\n")
    lines = b"".join(reversed(parts)).splitlines()
    return lines if not start else lines[1:]


def _mark_at(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return mark_of(file.fileno())
    return ""


def _changed_at(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _is_free(fd: int) -> bool:
    """Whether nobody who writes holds it. Who comes later finds that it has lost its name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
