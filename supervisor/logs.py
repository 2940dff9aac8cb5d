"""The log files of the processes: data_dir/logs/NAME.log, and NAME.log.1, .2, ... that are older."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from conf.paths import Paths

TAIL_SIZE_MAX = 64 * 1024
FOLLOW_POLL_S = 0.2


def log_file(paths: Paths, name: str) -> Path:
    """Where the output of process `name` goes."""
    return paths.logs_dir / f"{name}.log"


def names(paths: Paths) -> list[str]:
    """The processes that have a log."""
    return sorted(path.stem for path in paths.logs_dir.glob("*.log"))


def tail(path: Path, line_count: int, start: int = 0) -> list[str]:
    """The last lines of a log, as far as they lie in its last TAIL_SIZE_MAX bytes and after offset `start`."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - TAIL_SIZE_MAX))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[-line_count:]


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


def rotate(path: Path, max_size: int, keep_count: int) -> bool:
    """Move a log that has reached `max_size` bytes to NAME.log.1; return whether it had.

    Processes keep their log open, so the text is copied and the file emptied: what is written in between is lost.
    A disk that has no room for the copy leaves all as it was.
    """
    if size(path) < max_size:
        return False
    copy = path.with_name(f"{path.name}.copy")
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
    with path.open("r+b") as file:
        file.truncate(0)
    return True


def append(path: Path, text: str) -> None:
    """Add a line to a log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
