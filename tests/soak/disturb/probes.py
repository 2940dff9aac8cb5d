"""Whether a process of the exchange is back: whether it answers, if it does that, and what its supervisor says."""

import http.client
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bus.client import NoAnswer
from supervisor import control
from supervisor.control import NotRunning
from tests.process.exchange import Running

PING_MS = 20
ANSWER_TIMEOUT_S = 0.25  # what was asked of the dead one is not waited for
PID_TIMEOUT_S, POLL_S = 30.0, 0.05
SOME_ORDER_ID = 1
MARKET = "BTCUSD"

Row = dict[str, Any]
Probe = Callable[[], bool]


def rows(running: Running) -> dict[str, Row]:
    """The supervisor's row of each process; none while it does not answer."""
    try:
        answer = control.ask(running.settings.paths, {"do": "status"})
    except NotRunning:
        return {}
    return {row["name"]: row for row in answer["processes"]}


def pid_of(running: Running, name: str) -> int:
    """Of a process that runs. Raises TimeoutError."""
    deadline_s = time.monotonic() + PID_TIMEOUT_S
    while (row := rows(running).get(name)) is None or not row["pid"]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{name} does not run")
        time.sleep(POLL_S)
    return int(row["pid"])


def is_ready(running: Running, name: str, but_pid: int) -> bool:
    """Whether the supervisor calls it ready, and it is not the one from before."""
    row = rows(running).get(name)
    return row is not None and row["state"] == "ready" and row["pid"] != but_pid


def probe_of(running: Running, name: str, but_pid: int) -> Probe:
    """How to see whether a process is back."""
    bind = running.settings.http.bind
    if name == "matcher":
        return lambda: pings(running)
    if name == "http":
        return lambda: answers(bind, "market.list")
    if name == "market":
        return lambda: answers(bind, "market.last", MARKET)
    if name == "history-0" and running.settings.history.processes == 1:
        return lambda: answers(bind, "order.finished_detail", SOME_ORDER_ID)
    return lambda: is_ready(running, name, but_pid)


def pings(running: Running) -> bool:
    """Whether the matcher answers on the bus."""
    with running.client() as client, suppress(NoAnswer):
        client.ping(PING_MS)
        return True
    return False


def answers(bind: str, method: str, *params: Any) -> bool:
    """Whether a question over HTTP, past nginx, has an answer that is no error."""
    connection = http.client.HTTPConnection(bind, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("POST", "/", json.dumps({"id": 1, "method": method, "params": params}))
        reply = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return bool(reply["error"] is None)
