"""A private nginx for a test, with the example configuration (conf/nginx.conf) in front of a private exchange.

    with nginx(tmp_path / "nginx", running.settings) as front:
        front.request("POST", "/", body)
        with front.connected() as client:
            client.call("server.ping")

Certificate, process id, logs, caches and what else it writes are in the folder; nothing of the machine's own nginx is
read or touched.
"""

import asyncio
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import pytest
from websockets.asyncio import client as asyncio_client
from websockets.sync.client import ClientConnection

from conf.settings import Settings
from supervisor.bench.mariadb import SEARCH_PATH
from tests.process.exchange import PATIENCE_S, POLL_S, REPLY_TIMEOUT_S, free_ports
from tests.process.ws_client import PLAIN, Client, raw_socket

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "conf/nginx.conf"
COMPOSED = ROOT / "docker/nginx.conf"
HOST = "127.0.0.1"
NAME = "trade.example.com"
STOP_TIMEOUT_S = 30.0
_CERTIFICATE = f"/etc/letsencrypt/live/{NAME}"

MAIN = """\
{user}daemon off;
master_process on;
worker_processes 2;
pid nginx.pid;
lock_file nginx.lock;
error_log error.log;
events {{
    worker_connections 256;
}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include tradepit.conf;
}}
"""


class _Turned:
    """What a Client needs of a connection, whose loop turns only as long as it is waited for.

    There is no second thread: that of `websockets.sync` reads while the first one writes, which an SSLSocket of Python
    3.11 does not stand. With TLS 1.3 one handshake of some hundred was never answered.
    """

    def __init__(self, runner: asyncio.Runner, socket: asyncio_client.ClientConnection) -> None:
        self._runner = runner
        self._socket = socket

    def send(self, text: str) -> None:
        self._runner.run(self._socket.send(text))

    def recv(self, timeout_s: float) -> str | bytes:
        """Raises TimeoutError."""
        return self._runner.run(asyncio.wait_for(self._socket.recv(), max(timeout_s, POLL_S)))


@dataclass(frozen=True)
class Reply:
    """What comes back of a request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Front:
    """A running one. `source` is the address that clients come from, in 127.0.0.0/8."""

    folder: Path
    port: int
    plain_port: int  # without TLS
    pid: int
    source: str = HOST

    def coming_from(self, source: str) -> "Front":
        """The same for clients from another address."""
        return replace(self, source=source)

    @property
    def bind(self) -> str:
        """Where it listens, with TLS."""
        return f"{HOST}:{self.port}"

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Of a client that trusts the certificate, and no other."""
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A request on a connection of its own, with TLS."""
        connection = http.client.HTTPSConnection(
            HOST, self.port, context=self.tls, source_address=(self.source, 0), timeout=REPLY_TIMEOUT_S
        )
        return _answer(connection, method, target, body, headers)

    def plain_request(self, method: str, target: str, body: bytes | None = None) -> Reply:
        """The same without TLS."""
        connection = http.client.HTTPConnection(
            HOST, self.plain_port, source_address=(self.source, 0), timeout=REPLY_TIMEOUT_S
        )
        return _answer(connection, method, target, body, None)

    @contextmanager
    def connected(self, headers: Mapping[str, str] | None = None) -> Iterator[Client]:
        """A WebSocket client, which is closed at the end. Raises InvalidStatus when it is refused."""
        with asyncio.Runner() as runner:
            socket = runner.run(self._connect(headers))
            try:
                yield Client(cast(ClientConnection, _Turned(runner, socket)))
            finally:
                runner.run(socket.close())

    async def _connect(self, headers: Mapping[str, str] | None) -> asyncio_client.ClientConnection:
        return await asyncio_client.connect(
            f"wss://{NAME}/ws",
            sock=raw_socket(self.bind, source=self.source),
            ssl=self.tls,
            additional_headers=headers,
            **PLAIN,
        )

    def log(self) -> str:
        """The end of what it has to say."""
        return _log(self.folder)


@contextmanager
def nginx(folder: Path, settings: Settings, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """Start one in `folder`, which is not there yet, and stop it at the end; `changes` are further ones of the example.

    Skips the test where nginx or openssl is not installed.
    """
    program = _program("nginx")
    folder.mkdir(parents=True)
    make_certificate(folder)
    port, plain_port = free_ports(2)
    places = {
        "listen 80;": f"listen {HOST}:{plain_port};",
        "listen 443 ssl ": f"listen {HOST}:{port} ssl ",
        "server 127.0.0.1:8080;": f"server {settings.http.bind};",
        "server 127.0.0.1:8090;": f"server {settings.ws.bind};",
        f"{_CERTIFICATE}/fullchain.pem": str(folder / "fullchain.pem"),
        f"{_CERTIFICATE}/privkey.pem": str(folder / "privkey.pem"),
        "/var/cache/tradepit": str(folder / "cache"),
    }
    (folder / "tradepit.conf").write_text(changed(EXAMPLE.read_text(), places | dict(changes or {})))
    with _serving(folder, program, port) as pid:
        yield Front(folder, port, plain_port, pid)


@contextmanager
def composed_nginx(folder: Path, settings: Settings) -> Iterator[Front]:
    """The same with docker/nginx.conf, the one of compose.yaml, which has no TLS: WebSockets are at `bind` then."""
    program = _program("nginx")
    folder.mkdir(parents=True)
    port, plain_port = free_ports(2)
    places = {
        "listen 8080;": f"listen {HOST}:{plain_port};",
        "listen 8090 ": f"listen {HOST}:{port} ",
        "server tradepit:8080;": f"server {settings.http.bind};",
        "server tradepit:8090;": f"server {settings.ws.bind};",
    }
    (folder / "tradepit.conf").write_text(changed(COMPOSED.read_text(), places))
    with _serving(folder, program, port) as pid:
        yield Front(folder, port, plain_port, pid)


@contextmanager
def _serving(folder: Path, program: str, port: int) -> Iterator[int]:
    """Start nginx with the tradepit.conf in `folder`, and stop it at the end; its pid."""
    user = "user root;\n" if os.geteuid() == 0 else ""  # its workers would be nobody, who may not enter the folder
    (folder / "nginx.conf").write_text(MAIN.format(user=user))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _await_ready(process, port, folder)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


def changed(text: str, changes: Mapping[str, str]) -> str:
    """The text with each of the changes, for which there must be one place."""
    for before, after in changes.items():
        assert text.count(before) == 1, f"{before!r} is there {text.count(before)} times"
        text = text.replace(before, after)
    return text


def make_certificate(folder: Path) -> None:
    """A key and a certificate for `NAME` that has signed itself: fullchain.pem, privkey.pem."""
    command = [
        *(_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:{HOST}"),
        *("-out", str(folder / "fullchain.pem"), "-keyout", str(folder / "privkey.pem")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr


def _program(name: str) -> str:
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _await_ready(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=REPLY_TIMEOUT_S).close()
        except ConnectionRefusedError:
            assert process.poll() is None, f"nginx does not start{_log(folder)}"
            assert time.monotonic() < deadline, f"nginx does not listen{_log(folder)}"
            time.sleep(POLL_S)
        else:
            return


def _answer(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
) -> Reply:
    try:
        connection.request(method, target, body, {"Host": NAME, **(headers or {})})
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def _log(folder: Path) -> str:
    names = ("output.log", "error.log", "access.log")
    paths = [folder / name for name in names if (folder / name).exists()]
    return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)
