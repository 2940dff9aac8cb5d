"""Doing what the plan says: fork, signal, reap. The one module of the supervisor that touches processes.

The supervisor is the warm parent: it has imported everything and loaded the compiled kernels, so a forked child is at
work in milliseconds where a fresh interpreter takes half a second. That holds only while the supervisor has no
threads and no ZeroMQ context: neither survives a fork.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import NamedTuple

from conf.settings import Settings
from supervisor.become import HANDLED_SIGNALS, become
from supervisor.table import Wanted


class Child(NamedTuple):
    """A process that was forked, and the pipe in which it says that it is ready and alive."""

    pid: int
    told_fd: int


class Ended(NamedTuple):
    """A process that is gone, and how."""

    pid: int
    how: str
    is_orderly: bool


def warm(table: Sequence[Wanted]) -> None:
    """Import what the processes run, so that children have it from their first moment."""
    # BLAS would start its threads when numpy is imported, in a process that is going to fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for wanted in table:
        importlib.import_module(wanted.module)


def settle() -> None:
    """Get ready to fork, after everything has been imported and compiled."""
    thread_count = len(list(Path("/proc/self/task").iterdir()))
    assert thread_count == 1, f"a process with {thread_count} threads can't be forked"
    gc.collect()
    gc.freeze()  # the collector of a child would touch, and so copy, every page that it shares with the others


def start(wanted: Wanted, settings: Settings, close_others: Callable[[], None]) -> Child:
    """Fork a process in a session of its own; `close_others` closes, in the child, what belongs to the supervisor.

    Raises OSError when the machine has no room for another process.
    """
    told_fd, tell_fd = os.pipe()
    os.set_blocking(told_fd, False)
    os.set_blocking(tell_fd, False)
    parent_pid = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal between the fork and `become` would run the supervisor's handlers in the child.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.close(told_fd)
        os.close(tell_fd)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        os.close(tell_fd)
        return Child(pid, told_fd)
    code = 1
    try:
        os.close(told_fd)
        close_others()
        become(wanted, settings, parent_pid, tell_fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        arguments = (settings,) if wanted.index is None else (settings, wanted.index)
        code = importlib.import_module(wanted.module).main(*arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def terminate(pid: int) -> None:
    """Ask a process to end; it tells the ones that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """End a process and everything in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def reap(ours: Container[int]) -> list[Ended]:
    """The processes of `ours` that have ended since the last call. As process 1 of a container it gets others', too."""
    ended: list[Ended] = []
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return ended
        if found is None:
            return ended
        # Workers that outlive their master would keep its port. As long as the master is not waited for, its process
        # group can't be anybody else's.
        if found.si_pid in ours:
            kill(found.si_pid)
            ended.append(_describe(found))
        os.waitpid(found.si_pid, 0)


def _describe(found: os.waitid_result) -> Ended:
    if found.si_code == os.CLD_EXITED:
        return Ended(found.si_pid, f"exit code {found.si_status}", is_orderly=found.si_status == 0)
    return Ended(found.si_pid, f"killed by {signal.Signals(found.si_status).name}", is_orderly=False)
