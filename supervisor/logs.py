"""The log files of the processes (conf.paths.Paths.log_file): NAME.log, and NAME.log.1, .2, ... that are older."""

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from conf.operations import Supervisor as Limits

TAIL_SIZE_MAX = 64 * 1024
FOLLOW_POLL_S = 0.2
HOUR_S, DAY_S = 3_600.0, 86_400.0


def tail(path: Path, line_count: int, start: int = 0) -> list[str]:
    """The last lines of a log, as far as they lie in its last TAIL_SIZE_MAX bytes and after offset `start`."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - TAIL_SIZE_MAX))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[-line_count:]


def tail_over_rotation(path: Path, line_count: int) -> list[str]:
    """The last lines of a log and, when it has too few, of the one that was rotated last."""
    lines = tail(path, line_count)
    missing_count = line_count - len(lines)
    return (tail(path.with_name(f"{path.name}.1"), missing_count) if missing_count else []) + lines


def follow(path: Path) -> Iterator[str]:
    """New text of a log as it comes, for ever, across rotation."""
    offset = size(path)
    while True:
        if size(path) < offset:
            offset = 0
        if size(path) > offset:
            with path.open("rb") as file:
                file.seek(offset)
                new = file.read(TAIL_SIZE_MAX)
            offset += len(new)
            yield new.decode(errors="replace")
        else:
            time.sleep(FOLLOW_POLL_S)


def size(path: Path) -> int:
    """How long a log is, in bytes; 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


class Rotation:
    """Which logs have become too large or too old; `turn` is one look at all of them. Times in seconds since 1970."""

    def __init__(self, now: float) -> None:
        self._begun_at = now

    def turn(self, paths: Iterable[Path], limits: Limits, now: float) -> None:
        """Rotate what is due, remove what has been kept long enough."""
        for path in paths:
            with suppress(OSError):  # a log that can't be rotated must not end the exchange
                is_old = 0 < limits.log_max_age_h * HOUR_S <= now - self._since(path)
                rotate(path, 1 if is_old else limits.log_max_size, limits.log_keep_count)
                kept_since = now - limits.log_keep_days * DAY_S if limits.log_keep_days else 0.0
                remove_older(path, kept_since, limits.log_keep_count)

    def _since(self, path: Path) -> float:
        """When a log began: with its last rotation, or, as far as this supervisor knows, with itself."""
        newest = path.with_name(f"{path.name}.1")
        return newest.stat().st_mtime if newest.exists() else self._begun_at


def remove_older(path: Path, time_s: float, keep_count: int) -> None:
    """Remove the older logs that were rotated before a time, or that are too many."""
    for older in path.parent.glob(f"{path.name}.*"):
        number = older.suffix[1:]
        if number.isdigit() and (int(number) > keep_count or older.stat().st_mtime < time_s):
            older.unlink(missing_ok=True)


def rotate(path: Path, max_size: int, keep_count: int) -> bool:
    """Move a log that has reached `max_size` bytes to NAME.log.1; return whether it had.

    Processes keep their log open, so the text is copied and the file emptied: what is written in between is lost.
    A disk that has no room for the copy, or a log that may not be emptied, leaves all as it was. Raises OSError.
    """
    if size(path) < max_size:
        return False
    copy = path.with_name(f"{path.name}.copy")
    with path.open("r+b") as file:  # first: a copy each turn of what can't be emptied would push out all older ones
        try:
            shutil.copyfile(path, copy)
        except OSError:
            copy.unlink(missing_ok=True)
            return False
        for number in range(keep_count - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        copy.replace(path.with_name(f"{path.name}.1"))
        file.truncate(0)
    return True


def append(path: Path, text: str) -> None:
    """Add a line to a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
