"""The decorator of every compiled function, and where the machine code is kept.

Numba's own cache looks only at the file that holds a kernel, so a changed constant in another file would leave old
machine code running. Here the folder's name is a digest of every source that a kernel can see and of the
switches that change what is compiled; a new digest is a new folder.

Not for logic: kernels live beside what they work on.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

ROOT = Path(__file__).resolve().parent.parent
SEEN_BY_KERNELS = ("bus/codes.py", "bus/messages.py", "engine/kernel.py", "engine/schema.py")
MARK = b"from engine.kernel import"  # a file with kernels
COMPILED = not numba.config.DISABLE_JIT

_F = TypeVar("_F", bound=Callable[..., Any])


def cache_folder() -> Path:
    """The folder of this source tree's machine code: under TRADEPIT_CACHE_DIR, XDG_CACHE_HOME, ~/.cache or /tmp."""
    digest = hashlib.sha256(f"{ROOT} {numba.__version__} boundscheck={numba.config.BOUNDSCHECK}".encode())
    sources = [ROOT / name for name in SEEN_BY_KERNELS]
    sources += [path for path in sorted(ROOT.glob("engine/*.py")) if MARK in path.read_bytes()]
    for path in sources:
        digest.update(path.read_bytes())
    return _cache_root() / f"kernels-{digest.hexdigest()[:16]}"


def _cache_root() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    for folder in (os.environ.get("TRADEPIT_CACHE_DIR"), home / "tradepit"):
        if folder is None:
            continue
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return Path(folder)
    return Path(tempfile.gettempdir()) / f"tradepit-kernels-{os.getuid()}"


numba.config.CACHE_DIR = str(cache_folder())


_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",  # division as in C; no kernel divides by zero: precisions are checked
    "_nrt": False,  # no kernel makes an array, so none counts references
}


KERNELS: list[str] = []  # names of all that are compiled, for a progress display


def kernel(function: _F) -> _F:
    """A function that other kernels call. It becomes part of them: passing a State on would cost more than it does."""
    KERNELS.append(function.__name__)
    compiled: _F = numba.njit(**_OPTIONS, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled


def entry(function: _F) -> _F:
    """A kernel that Python calls: compiled with all that it calls on first use, and kept."""
    KERNELS.append(function.__name__)
    compiled: _F = numba.njit(**_OPTIONS, cache=True, no_cfunc_wrapper=True)(function)
    return compiled
