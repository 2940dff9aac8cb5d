"""The supervisor starts anew, as whatever program is installed now, while the exchange runs on.

It becomes the new program by `exec`: the same process, so its children stay its children. What it has to know goes
along as JSON in a file in memory; locks, the control socket and the children's pipes go along as open files. Until
the new program has imported everything (about a second), a process that dies is not started again.

`pit restart supervisor` first has a process of its own import and compile all of the new program, with the supervisor's
interpreter: one that can't be used is refused.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

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
        """The control socket, once more: `listener_fd` stays open for another try, until the exchange is taken over."""
        return socket.socket(fileno=os.dup(self.listener_fd))


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
    # Signals are blocked since supervisor/main.py looked for the last time, until the new program has handlers.
    for each in kept:
        os.set_inheritable(each, True)
    sys.stdout.flush()
    sys.stderr.flush()
    command = with_program(sys.executable, sys.path, f"from supervisor.up import go_on; go_on({fd})")
    try:
        os.execv(sys.executable, command)
    except OSError:
        for each in kept:
            os.set_inheritable(each, False)
        os.close(fd)
        raise


def with_program(executable: str, path: list[str], code: str) -> list[str]:
    """The command that runs `code` as the supervisor's interpreter would, with packages from the same places.

    `-m` would look into the current folder first, whoever writes there.
    """
    return [executable, "-P", "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


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
