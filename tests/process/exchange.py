"""A private exchange for a test: its own instance, folder and ports; `pit up --detach` starts it, `pit down` ends it.

with exchange(tmp_path) as running:
    running.call("balance.update", 1, "BTC", "deposit", 1, "10", {})
"""

import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus import positions
from bus.client import Client
from bus.endpoints import address
from bus.eventlog import Reader
from conf.settings import CPU_ANY, SEGMENT_SIZE_LEAST, Settings, load
from supervisor import lock
from supervisor.bench.private import free_port

PIT = (sys.executable, "-m", "supervisor.cli")
START_TIMEOUT_S = 120  # kernels may have to be compiled
REPLY_TIMEOUT_S = 60
PATIENCE_S = 60  # for what takes a moment on an idle machine
POLL_S = 0.01
_numbers = itertools.count(1)

Answer = dict[str, Any]


@dataclass(frozen=True)
class Running:
    """An exchange that a test has started."""

    conf_file: Path

    @property
    def settings(self) -> Settings:
        return load(self.conf_file)

    def pit(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a `pit` command for this exchange."""
        command = [*PIT, *arguments, "--conf", str(self.conf_file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        assert not check or done.returncode == 0, f"pit {' '.join(arguments)}: {done.stdout}{done.stderr}{self.logs()}"
        return done

    def status(self) -> dict[str, Answer]:
        """The rows of `pit status --json`, by name of the process."""
        rows = json.loads(self.pit("status", "--json", check=False).stdout)["processes"]
        return {row["name"]: row for row in rows}

    def pid(self, name: str) -> int:
        return int(self.status()[name]["pid"])

    def post(self, body: bytes) -> tuple[int, bytes]:
        """POST bytes on a connection of their own; the status and the body of the reply."""
        connection = http.client.HTTPConnection(self.settings.http.bind, timeout=REPLY_TIMEOUT_S)
        try:
            connection.request("POST", "/", body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def ask(self, method: str, *params: object) -> Answer:
        """Call a method; the whole reply."""
        status, body = self.post(json.dumps({"id": 1, "method": method, "params": params}).encode())
        assert body, f"{method}: an empty body with status {status}"
        reply: Answer = json.loads(body)
        return reply

    def call(self, method: str, *params: object) -> Any:
        """Call a method that must succeed; its result."""
        reply = self.ask(method, *params)
        assert reply["error"] is None, f"{method}{params}: {reply}{self.logs()}"
        return reply["result"]

    def alerts(self) -> str:
        """All alerts so far, one JSON line each."""
        path = self.settings.paths.alerts_file
        return path.read_text() if path.exists() else ""

    def wait_stored(self, *names: str) -> int:
        """Wait until these consumers have stored the events of all that was answered; the last one's number."""
        with self.client() as client:
            client.ping(PATIENCE_S * 1000)  # answered in a later turn than the one that told of those events
        paths = self.settings.paths
        number = Reader(paths.events_dir).durable_number
        deadline = time.monotonic() + PATIENCE_S
        while any((stored := positions.told(paths.positions_dir)).get(name, -1) < number for name in names):
            assert time.monotonic() < deadline, f"{stored} of {number} events are stored{self.logs()}"
            time.sleep(POLL_S)
        return number

    def client(self) -> Client:
        """A client of its bus."""
        settings = self.settings
        return Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))

    def logs(self) -> str:
        """The end of every log, for a test that has failed."""
        files = sorted(self.settings.paths.logs_dir.glob("*.log"))
        return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files)


def free_ports(count: int) -> list[int]:
    """Different ports of this machine that nobody listens on."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def write_conf(folder: Path, **sections: Any) -> Path:
    """A configuration file in `folder` for an exchange that meets no other, with `sections` over it.

    A section is a table of settings, `instance` a text; `listing` becomes the markets file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (listing := sections.pop("listing", None)) is not None:
        (folder / "markets.json").write_text(json.dumps(listing))
    instance = sections.pop("instance", f"test-{os.getpid()}-{next(_numbers)}")
    http_port, ws_port = free_ports(2)
    document: dict[str, dict[str, Any]] = {
        "http": {"bind": f"127.0.0.1:{http_port}"},
        "ws": {"bind": f"127.0.0.1:{ws_port}"},
        "admin": {"bind": ""},
        "matcher": {"cpu": CPU_ANY},
        "journal": {"segment_size": SEGMENT_SIZE_LEAST},
        "events": {"segment_size": SEGMENT_SIZE_LEAST},
        "alert": {"bind": ""},
    }
    lines = [f'instance = "{instance}"']
    for name in document | sections:
        values = document.get(name, {}) | sections.get(name, {})
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path = folder / "exchange.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def exchange(folder: Path, **sections: Any) -> Iterator[Running]:
    """Start an exchange in `folder` (`write_conf`) and stop it at the end; no process of it may be left then."""
    running = Running(write_conf(folder, **sections))
    running.pit("up", "--detach")
    try:
        yield running
    finally:
        if lock.is_held(running.settings.paths):
            running.pit("down")
        assert not lock.is_held(running.settings.paths), running.logs()
        assert "did not stop in order" not in running.alerts(), running.logs()
