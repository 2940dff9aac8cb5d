"""How a process tells its supervisor that it is ready, and later that its loop still turns.

Both are one byte into a pipe whose number is in the environment; started by hand, without a supervisor, a process
tells nobody. Call them from the loop that does the work, never from a thread that would outlive it.
"""

import contextlib
import os
import time

READY_FD = "TRADEPIT_READY_FD"
READY = b"r"
BEAT = b"b"
BEAT_INTERVAL_S = 1.0

_last_beat = -BEAT_INTERVAL_S


def ready() -> None:
    """Say that this process now answers requests."""
    _tell(READY)


def beat() -> None:
    """Say that the loop turns; more calls than one in BEAT_INTERVAL_S cost a look at the clock only."""
    global _last_beat
    now = time.monotonic()
    if now - _last_beat >= BEAT_INTERVAL_S:
        _last_beat = now
        _tell(BEAT)


def _tell(word: bytes) -> None:
    number = os.environ.get(READY_FD)
    if number is None:
        return
    # The pipe does not block: a supervisor that is stopped or gone must not hold up who tells it.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(int(number), word)
