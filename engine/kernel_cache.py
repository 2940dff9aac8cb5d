"""Keeping the machine code of old sources from piling up: each state of the sources has a folder of its own.

Not in engine/kernel.py, whose every change makes all kernels be compiled anew.
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numba

PATTERN = "kernels-*"
KEEP_COUNT = 8  # source trees and switches that one machine uses by turns
UNUSED_S = 3600.0  # a younger one may be being filled


def tidy() -> None:
    """Mark the folder in use as the newest, and remove old ones."""
    with suppress(OSError):  # it is not needed for anything
        os.utime(numba.config.CACHE_DIR)
        remove_old(Path(numba.config.CACHE_DIR).parent, time.time())


def remove_old(root: Path, now: float) -> None:
    """Remove all folders but the newest ones and those used within the last hour. Raises OSError."""
    used = {path: path.stat().st_mtime for path in root.glob(PATTERN)}
    for path in sorted(used, key=lambda path: used[path], reverse=True)[KEEP_COUNT:]:
        if now - used[path] > UNUSED_S:
            shutil.rmtree(path, ignore_errors=True)
