"""One exchange per data folder and per instance name.

Two locks, both held by open files that children inherit: they last as long as any process of the exchange, so a
second exchange can't begin while an orphan of the first still writes.

    data_dir/lock                    flock; holds the supervisor's pid, and when it began, as text
    @tradepit-INSTANCE               an abstract unix socket: the name of the shared memory is taken

Without a supervisor (`pit run`), processes share the lock of the folder, and each holds one of its name beside it:
data_dir/lock-NAME.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from conf.paths import Paths

POLL_S = 0.02
ZOMBIE = "Z"  # of a process that has ended, but that nobody has waited for
DYING_S = 0.5  # a holder that was just killed is still there for a moment


class InUse(Exception):
    """The data folder or the instance name belongs to an exchange that runs: the text says which and what to do."""


@dataclass(frozen=True)
class Held:
    """The two locks; they are given back when this process and all its children have ended or closed them."""

    file_fd: int
    name: socket.socket

    def release(self) -> None:
        os.close(self.file_fd)
        self.name.close()


def take(paths: Paths, *, wait_s: float = 0.0) -> Held:
    """Take both locks. Raises InUse; `wait_s` is how long processes may need that a dead supervisor has left."""
    file_fd = os.open(paths.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock_file(paths, file_fd, wait_s)
        name = take_name(paths.instance)
    except BaseException:
        os.close(file_fd)
        raise
    os.ftruncate(file_fd, 0)
    os.pwrite(file_fd, f"{os.getpid()} {_began(os.getpid())}\n".encode(), 0)
    return Held(file_fd, name)


def take_part(paths: Paths, name: str) -> tuple[int, int]:
    """Take the lock of one process, and a share in the folder's; two open files hold them. Raises InUse."""
    share_fd = os.open(paths.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
    name_fd = os.open(paths.lock_file.with_name(f"{paths.lock_file.name}-{name}"), os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + DYING_S
    while not (is_shared := _try_lock(share_fd, fcntl.LOCK_SH)) and time.monotonic() < deadline:
        time.sleep(POLL_S)  # somebody may just be looking whether it is held
    if not is_shared:
        why = (
            f"an exchange already runs in {paths.data_dir}; `pit down` ends it, `pit restart {name}` starts {name} anew"
        )
    elif not _try_lock(name_fd):
        why = f"{name} already runs in {paths.data_dir}"
    else:
        return share_fd, name_fd
    os.close(share_fd)
    os.close(name_fd)
    raise InUse(why)


def holder_pid(paths: Paths) -> int:
    """The pid of the supervisor that has taken the data folder; 0 when none lives."""
    try:
        pid, began = (int(word) for word in paths.lock_file.read_text().split())
    except (OSError, ValueError):
        return 0
    return pid if _began(pid) == began and is_held(paths) else 0


def is_held(paths: Paths) -> bool:
    """Whether any process of an exchange lives in this data folder."""
    try:
        fd = os.open(paths.lock_file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(fd)
    finally:
        os.close(fd)


def wait_free(paths: Paths, timeout_s: float) -> bool:
    """Wait until no process of the exchange lives; return whether that came true."""
    deadline = time.monotonic() + timeout_s
    while is_held(paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _lock_file(paths: Paths, fd: int, wait_s: float) -> None:
    dead_at = time.monotonic() + DYING_S
    deadline = max(time.monotonic() + wait_s, dead_at)
    while not _try_lock(fd):
        now, pid = time.monotonic(), holder_pid(paths)
        if pid and now > dead_at:
            raise InUse(
                f"an exchange already runs in {paths.data_dir} (supervisor pid {pid}); "
                f"`pit down` ends it, `--data` or `data_dir` names another folder"
            )
        if now > deadline:
            raise InUse(f"processes of an exchange whose supervisor is gone still use {paths.data_dir}; end them first")
        time.sleep(POLL_S)


def _try_lock(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        return True
    return False


def _began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None when it has ended. A number may be used again."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == ZOMBIE else int(rest[18])


def take_name(instance: str) -> socket.socket:
    """Take the name of an instance on this machine, as long as the socket is open. Raises InUse."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name.bind(f"\0tradepit-{instance}")
    except OSError as error:
        name.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise InUse(
            f'an exchange named "{instance}" already runs on this machine with another data folder; '
            "give this one another name with the setting `instance`"
        ) from None
    return name
