"""How far each consumer of the event log is, for the matcher, which keeps what they still need, and for `pit status`.

One small file for each in `data_dir/positions`. It is a hint: what counts is the position that a consumer stores in
one transaction with what it made of the events. It may lag behind that, never run ahead.
"""

import os
from pathlib import Path

_WIDTH = 20  # digits: always as many bytes, so that a file is rewritten in place


class Position:
    """A consumer's own file. Raises OSError."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def tell(self, number: int) -> None:
        """All events up to `number` are stored."""
        os.pwrite(self._descriptor, f"{number:0{_WIDTH}d}".encode(), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def told(directory: Path) -> dict[str, int]:
    """The last event that each consumer has stored, by the consumer's name."""
    if not directory.is_dir():
        return {}
    found = {}
    for path in sorted(directory.iterdir()):
        text = path.read_bytes()
        if len(text) == _WIDTH and text.isdigit():  # else it is this moment being made
            found[path.name] = int(text)
    return found
