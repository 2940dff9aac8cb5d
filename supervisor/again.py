"""The supervisor starts anew, as whatever program is installed now, while the exchange runs on.

It becomes the new program by `exec`: the same process, so its children stay its children. What it has to know goes
along as JSON in a file in memory; locks, the control socket and the children's pipes go along as open files. Until
the new program has imported everything (about a second), a process that dies is not started again.

`pit restart supervisor` first imports and compiles all of the new program itself: one that can't be used is refused.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from supervisor.become import HANDLED_SIGNALS

FORM = 1  # of what is handed over


class Handover(NamedTuple):
    """What one run of the supervisor leaves to the next."""

    conf_file: Path | None
    data_dir: Path
    is_on_terminal: bool
    is_up: bool
    begun_at: float
    run_number: int
    listener_fd: int
    lock_file_fd: int
    lock_name_fd: int
    charges: list[dict[str, Any]]

    @property
    def listener(self) -> socket.socket:
        """The control socket."""
        return socket.socket(fileno=self.listener_fd)


def start_again(handover: Handover) -> NoReturn:
    """Become the program anew. Raises OSError."""
    document = handover._asdict() | {
        "form": FORM,
        "conf_file": handover.conf_file and str(handover.conf_file),
        "data_dir": str(handover.data_dir),
    }
    fd = os.memfd_create("tradepit-handover", 0)
    os.write(fd, json.dumps(document).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    told = [charge["told_fd"] for charge in handover.charges if charge["told_fd"] >= 0]
    kept = (fd, handover.listener_fd, handover.lock_file_fd, handover.lock_name_fd, *told)
    # A signal meanwhile would find the new program without handlers, and end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    for each in kept:
        os.set_inheritable(each, True)
    sys.stdout.flush()
    sys.stderr.flush()
    # The same places for packages as now: `-m` would look into the current folder first, whoever writes there.
    code = f"import sys; sys.path[:] = {sys.path!r}; from supervisor.up import go_on; go_on({fd})"
    try:
        os.execv(sys.executable, (sys.executable, "-P", "-c", code))
    except OSError:
        for each in kept:
            os.set_inheritable(each, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        os.close(fd)
        raise


def taken_over(fd: int) -> Handover:
    """What the run before has left in `fd`; every open file that came along is this process's only from now on."""
    with os.fdopen(fd) as file:
        document = json.load(file)
    assert document.pop("form") == FORM, "the run before was of another version: `pit down`, `pit up`"
    document["conf_file"] = document["conf_file"] and Path(document["conf_file"])
    document["data_dir"] = Path(document["data_dir"])
    handover = Handover(**document)
    told = [charge["told_fd"] for charge in handover.charges if charge["told_fd"] >= 0]
    for each in (handover.listener_fd, handover.lock_file_fd, handover.lock_name_fd, *told):
        os.set_inheritable(each, False)
    return handover
