"""A WebSocket client for tests of whole processes, somebody who says who it is, and trade to be told of.

with gateway(tmp_path) as running, connected(running) as client:
    client.call("deals.subscribe", "BTCUSD")
    client.wait(lambda: len(client.told) > 3)
"""

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from websockets.sync.client import ClientConnection, connect

from tests.process.exchange import PATIENCE_S, REPLY_TIMEOUT_S, Answer, Running, exchange
from tests.process.load import Load
from tests.process.test_kill import ASSETS
from tests.process.test_market import Varied

LOOK_S = 0.02
RECEIVE_SIZE = 1 << 16
PLAIN: dict[str, Any] = {"compression": None, "proxy": None, "ping_interval": None, "max_queue": None, "max_size": None}
TEXT, CLOSE, PING = 1, 8, 9  # opcodes
FIN = 0x80
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Told(NamedTuple):
    """A notification."""

    method: str
    params: list[Any]


class Client:
    """One connection; `told` are the notifications so far, in order. Raises ConnectionClosed when it ends."""

    def __init__(self, socket: ClientConnection) -> None:
        self.told: list[Told] = []
        self.socket = socket
        self._last_id = 0

    def ask(self, method: str, *params: Any) -> Answer:
        """Send a request and wait for its whole reply; what is told before it is kept."""
        self._last_id += 1
        self.socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while (reply := self._receive(deadline - time.monotonic())) is None or reply["id"] != self._last_id:
            assert time.monotonic() < deadline, f"{method} is not answered"
        return reply

    def call(self, method: str, *params: Any) -> Any:
        """Send a request that must succeed; its result."""
        reply = self.ask(method, *params)
        assert reply["error"] is None, f"{method}{params}: {reply}"
        return reply["result"]

    def login(self, user_id: int) -> None:
        """Become this user."""
        self.call("server.auth", f"user-{user_id}", "web")

    def look(self, timeout_s: float = 0.0) -> None:
        """Take the notifications that have come, or the first that comes in time."""
        while self._receive(timeout_s) is not None:
            timeout_s = 0.0

    def wait(self, is_there: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Take notifications until it is there."""
        deadline = time.monotonic() + patience_s
        while not is_there():
            assert time.monotonic() < deadline, f"told {len(self.told)}, in the end {self.told[-3:]}"
            self.look(LOOK_S)

    def of(self, method: str) -> list[list[Any]]:
        """The params of all notifications of a kind."""
        return [told.params for told in self.told if told.method == method]

    def _receive(self, timeout_s: float) -> Answer | None:
        """The next message; a notification is kept, too."""
        try:
            message: Answer = json.loads(self.socket.recv(max(0.0, timeout_s)))
        except TimeoutError:
            return None
        if message["id"] is None and "method" in message:
            self.told.append(Told(message["method"], message["params"]))
        return message


@contextmanager
def connected(running: Running, **options: Any) -> Iterator[Client]:
    """A client of the gateway, which is closed at the end."""
    with connect(f"ws://{running.settings.ws.bind}/", **(PLAIN | options)) as socket:
        yield Client(socket)


class RawClient:
    """A client that costs no thread: a plain socket, frames by hand. It reads when it is told to."""

    def __init__(self, bind: str, *headers: str, receive_buffer_size: int = 0, source: str = "127.0.0.1") -> None:
        """Connect and shake hands."""
        self.socket = raw_socket(bind, receive_buffer_size, source)
        self.received = b""
        self.is_closed = False  # by the server
        self.socket.sendall(handshake(*headers))
        while b"\r\n\r\n" not in self.received and not self.is_closed:
            self._read()
        self.response, _, self.received = self.received.partition(b"\r\n\r\n")

    def send(self, method: str, *params: Any, request_id: int = 1) -> None:
        """Send a request."""
        self.socket.sendall(frame(json.dumps({"id": request_id, "method": method, "params": params}).encode()))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each frame that is here, without waiting for more."""
        self.socket.setblocking(False)
        try:
            while not self.is_closed:
                self._read()
        except BlockingIOError:
            pass
        self.socket.settimeout(REPLY_TIMEOUT_S)
        while (found := first_frame(self.received)) is not None:
            opcode, payload, size = found
            self.received = self.received[size:]
            yield opcode, payload

    def wait_frames(self, is_last: Callable[[int, bytes], bool]) -> list[tuple[int, bytes]]:
        """All frames up to one that is the last, or the end of the connection."""
        found: list[tuple[int, bytes]] = []
        deadline = time.monotonic() + PATIENCE_S
        while not (found and is_last(*found[-1])):
            was_closed = self.is_closed
            new = [*self.frames()]
            for each in new:
                found.append(each)
                if is_last(*each):
                    break
            if was_closed and not new:
                break
            assert time.monotonic() < deadline, f"the last of {len(found)} frames is {found[-1:]}"
            time.sleep(0 if new else LOOK_S)
        return found

    def close(self) -> None:
        self.socket.close()

    def _read(self) -> None:
        try:
            data = self.socket.recv(RECEIVE_SIZE)
        except ConnectionError:
            data = b""
        self.is_closed = not data
        self.received += data


def raw_socket(bind: str, receive_buffer_size: int = 0, source: str = "127.0.0.1") -> socket.socket:
    """A connection to an address, without a word."""
    host, _, port = bind.rpartition(":")
    made = socket.socket()
    if receive_buffer_size:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_size)  # before it connects
    made.settimeout(REPLY_TIMEOUT_S)
    made.bind((source, 0))
    made.connect((host, int(port)))
    return made


def handshake(*headers: str) -> bytes:
    """A good one, with some headers more."""
    lines = (
        "GET / HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def frame(payload: bytes, first_byte: int = FIN | TEXT, *, is_masked: bool = True) -> bytes:
    """A client's frame; its mask is zero, so the payload is what it was."""
    size, bit, mask = len(payload), 0x80 if is_masked else 0, bytes(4) if is_masked else b""
    if size < 126:
        head = bytes((first_byte, bit | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first_byte, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first_byte, bit | 127, size)
    return head + mask + payload


def first_frame(data: bytes) -> tuple[int, bytes, int] | None:
    """Opcode, payload and whole size of a server's frame that data begins with, None as long as it is not whole."""
    if len(data) < 2:
        return None
    size, start = data[1] & 0x7F, 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    end = start + size
    return None if len(data) < end else (data[0] & 0x0F, data[start:end], end)


class Authority(BaseHTTPRequestHandler):
    """Somebody who knows that the token `user-N` is of user N, and no other."""

    def do_GET(self) -> None:
        found = re.fullmatch(r"user-(\d+)", self.headers.get("Authorization", ""))
        user = {"code": 0, "message": None, "data": {"user_id": int(found[1])}} if found else None
        body = json.dumps(user or {"code": 3, "message": "token refused", "data": None}).encode()
        self.send_response(http.client.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def authority() -> Iterator[str]:
    """The address of one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Authority) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/auth"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def gateway(folder: Path, **sections: Any) -> Iterator[Running]:
    """An exchange in which `user-N` is the token of user N; nothing is answered from caches."""
    with authority() as url:
        ws = {"auth_url": url, "sign_url": url, "query_cache_ms": 0, "auth_timeout_s": 30, **sections.pop("ws", {})}
        http_section = {"depth_cache_ms": 0, **sections.pop("http", {})}
        with exchange(folder, ws=ws, http=http_section, **sections) as running:
            yield running


@contextmanager
def trading(running: Running, seed: int) -> Iterator[Load]:
    """Trade in a thread as long as the block runs; then all of it is answered."""
    load, is_over = Varied(seed), threading.Event()
    with running.client() as client:
        load.fund(client, ASSETS)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with running.client() as client:
                load.run(client, is_over.is_set)
                load.settle(client)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield load
    finally:
        is_over.set()
        thread.join()
    assert not failed, failed


def metrics(running: Running, index: int = 0) -> dict[str, float]:
    """The samples of the Prometheus page of a process, by name and labels as they are written."""
    host, _, port = running.settings.ws.metrics_bind.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port) + index, timeout=REPLY_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
