"""The supervisor's control socket: one line of JSON each way, on a unix socket that only its user can open.

    {"do": "status"}                      -> {"ok": true, ...}
    {"do": "restart", "name": "http"}     -> {"ok": true} or {"ok": false, "why": "..."}
    {"do": "stop"} {"do": "snapshot"} {"do": "reload"} {"do": "again", ...}

Here are the two ends; what a request does is told in supervisor/desk.py.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.paths import Paths

REQUEST_SIZE_MAX = 4096
TIMEOUT_S = 5.0
POLL_S = 0.02
BACKLOG = 16

Document = dict[str, Any]


class NotRunning(Exception):
    """Nobody answers at the control socket."""


class Refused(Exception):
    """The supervisor answered no: the text says why."""


def socket_file(paths: Paths) -> Path:
    """Where the socket is."""
    return paths.sockets_dir / "control.sock"


def listen(paths: Paths) -> socket.socket:
    """Open the socket; the caller holds the lock of the data folder, so one that is there is a dead one."""
    place = socket_file(paths)
    place.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(place))
    place.chmod(0o600)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def serve(connection: socket.socket, received: bytes, answer: Callable[[Document], Document]) -> bytes | None:
    """Take what a readable connection has sent: return all of its request that is there, None when it is done with."""
    try:
        new = connection.recv(REQUEST_SIZE_MAX)
    except BlockingIOError:
        return received
    except OSError:
        return None
    received += new
    if not new or len(received) > REQUEST_SIZE_MAX:  # at its end a connection is readable for ever
        return None
    if not received.endswith(b"\n"):
        return received
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(_answer(received, answer)).encode() + b"\n")
    return None


def ask(paths: Paths, request: Document, *, timeout_s: float = TIMEOUT_S) -> Document:
    """Send a request to the supervisor and return its answer. Raises NotRunning, Refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            _connect(connection, socket_file(paths), time.monotonic() + timeout_s)
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = connection.makefile("rb").readline()
            reply: Document = json.loads(received)
        except (OSError, ValueError) as error:
            raise NotRunning(f"no exchange answers in {paths.data_dir}; `pit up` starts one") from error
    if not reply["ok"]:
        raise Refused(reply["why"])
    return reply


def _connect(connection: socket.socket, place: Path, deadline: float) -> None:
    """Connect, waiting while too many others do. Raises OSError."""
    while True:
        try:
            connection.connect(os.fspath(place))
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def _answer(received: bytes, answer: Callable[[Document], Document]) -> Document:
    try:
        request = json.loads(received)
    except (ValueError, RecursionError) as error:
        return {"ok": False, "why": f"the request is not JSON: {error}"}
    if not isinstance(request, dict):
        return {"ok": False, "why": "the request is not an object"}
    try:
        return {"ok": True} | answer(request)
    except Refused as error:
        return {"ok": False, "why": str(error)}
