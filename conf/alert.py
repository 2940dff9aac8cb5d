"""Alerts: what an operator must know, as one JSON line in data_dir/alerts.jsonl and one line on stderr.

The file is the queue from which the alertcenter (persist/alertcenter.py) takes alerts to wherever they go: nothing is
sent from here, and none is lost while the alertcenter is down. When the disk refuses, the alertcenter is handed the
line itself, if it is there.

The same text of the same process is written once in REPEAT_S, so that a fault that shows up with every request
does not flood.
"""

import fcntl
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from conf.alert_record import TEXT_MAX, Alert, bounded, packed, printable, time_text
from conf.paths import Paths

REPEAT_S = 60.0
REMEMBERED_MAX = 1_000
RENAMED_MAX = 100  # how often the file may be another one just when it is to be written

_last_times: dict[tuple[str, str], float] = {}


def alert(paths: Paths, process: str, text: str, *, now: float | None = None, level: int = 1) -> bool:
    """Write an alert; return whether it was (False: the same one was there less than REPEAT_S ago).

    `now` is in seconds since 1970; `level` says whose place is told: 1 that of the caller, 2 its caller's. A disk that
    refuses is reported on stderr, if that takes it: an alert never ends a process.
    """
    now = time.time() if now is None else now
    text = bounded(text, TEXT_MAX)
    if now - _last_times.get((process, text), -REPEAT_S) < REPEAT_S:
        return False
    if len(_last_times) >= REMEMBERED_MAX:
        _last_times.clear()
    _last_times[process, text] = now
    say(f"ALERT {process}: {printable(text)}")
    where = place(sys._getframe(level))
    line = packed(Alert(time=time_text(now), instance=paths.instance, process=process, text=text, where=where))
    try:
        append(paths.alerts_file, line)
    except OSError as error:
        is_taken = _hand_over(paths.alert_socket, line)
        hope = "the alertcenter has it" if is_taken else "nobody has it"
        say(f"ALERT {process}: this alert could not be written to {paths.alerts_file}, {hope}: {error}")
    return True


def append(path: Path, lines: bytes) -> None:
    """Add whole lines to the file of that name. Raises OSError.

    A file that is full is renamed. Who follows it goes on to the next one when nobody holds this one any more; who
    holds it and finds its name gone takes the new one. So no line is lost between the two, and nobody waits.
    """
    for _ in range(RENAMED_MAX):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if _hold(fd) and _is_named(fd, path):
                _write(fd, lines)
                return
        finally:
            os.close(fd)
    raise OSError(f"{path} is renamed again and again")


def say(text: str) -> None:
    """Write a line on stderr, which may be a log on a full disk: then it is lost."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def place(frame: FrameType) -> str:
    """As the original writes it: file:line(function)."""
    name = "/".join(Path(frame.f_code.co_filename).parts[-2:])
    return f"{name}:{frame.f_lineno}({frame.f_code.co_name})"


def _hold(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _write(fd: int, lines: bytes) -> None:
    """In one piece, so that those of others don't come between; a line that a full disk has cut off is ended first."""
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        lines = b"\n" + lines
    if (written := os.write(fd, lines)) < len(lines):
        raise OSError(f"only {written} of {len(lines)} bytes were taken")


def _hand_over(place: Path, line: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as direct:
        direct.setblocking(False)
        try:
            direct.sendto(line, str(place))
        except OSError:
            return False
    return True
