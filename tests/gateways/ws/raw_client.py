"""A WebSocket client that can also send what no client should, and the server that it talks to.

It shares no code with the gateway or the `websockets` package: frames are built bit by bit, sent in pieces of any size,
and what comes back is taken apart again here.

    with echoing() as server, Client(server.port) as client:
        client.send(frame(TEXT, b"hel", fin=False) + frame(CONTINUATION, b"lo"), chop_size=1)
        client.receive()  # Frame(TEXT, b"hello")
"""

import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple, Self

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0b100
MASK = bytes.fromhex("37fa213d")  # that of the examples in RFC 6455, 5.7
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
PATIENCE_S = 60.0  # for what takes a moment: a loaded machine may stall for seconds
TAIL = b"\x00\x00\xff\xff"  # that permessage-deflate leaves out (RFC 7692, 7.2.1)
RECEIVE_SIZE = 1 << 16
HEAD_END = b"\r\n\r\n"
ROOT = Path(__file__).parents[3]
HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
)


class Frame(NamedTuple):
    """What the server sends. Its payload is as it was before compression."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of a close frame; 0 if it has none."""
        return int.from_bytes(self.payload[:2], "big")


def handshake(*headers: str) -> bytes:
    """A good one, with these headers more."""
    return (HANDSHAKE + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    size_bits: int | None = None,
) -> bytes:
    """A frame as it is sent. `size_bits` are those of its size: 7, 16 or 64, by default as few as can hold it."""
    size = len(payload)
    if size_bits is None:
        size_bits = 7 if size < 126 else 16 if size < 1 << 16 else 64
    first = fin << 7 | rsv << 4 | opcode
    masked = 0 if mask is None else 0x80
    match size_bits:
        case 7:
            head = struct.pack("!BB", first, masked | size)
        case 16:
            head = struct.pack("!BBH", first, masked | 126, size)
        case _:
            head = struct.pack("!BBQ", first, masked | 127, size)
    return head + payload if mask is None else head + mask + mask_of(payload, mask)


def mask_of(payload: bytes, mask: bytes) -> bytes:
    """The payload with the mask put on, or taken off."""
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


def fragments(opcode: int, payload: bytes, size: int, rsv: int = 0) -> list[bytes]:
    """A message in frames of so many bytes; `rsv` is that of the first one."""
    starts = range(0, len(payload), size) or range(1)
    return [
        frame(
            CONTINUATION if start else opcode,
            payload[start : start + size],
            fin=start + size >= len(payload),
            rsv=0 if start else rsv,
        )
        for start in starts
    ]


def closing(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def deflated(payload: bytes, window_bits: int = 15) -> bytes:
    """A payload compressed on its own (RFC 7692, 7.2.1)."""
    deflate = zlib.compressobj(wbits=-window_bits)
    return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflated(payload: bytes, window_bits: int = 15) -> bytes:
    """The opposite."""
    return zlib.decompressobj(wbits=-window_bits).decompress(payload + TAIL)


def first_frame(data: bytearray, inflates: bool = False, window_bits: int = 15) -> tuple[Frame, int] | None:
    """The server's frame that data begins with, and its bytes; None as long as it is not whole."""
    if len(data) < 2:
        return None
    first, second = data[:2]
    assert first & 0x80, "the server does not send fragments"
    assert not second & 0x80, "the server does not mask"
    size, start = second, 2
    if second >= 126:
        start = 4 if second == 126 else 10
        size = int.from_bytes(data[2:start], "big")
        assert len(data) < start or size >= (126 if second == 126 else 1 << 16), "a size has the shortest form"
    if len(data) < start + size:
        return None
    rsv, opcode, payload = first >> 4 & 7, first & 0xF, bytes(data[start : start + size])
    if rsv:
        assert (rsv, inflates, opcode in (TEXT, BINARY)) == (RSV1, True, True), "a reserved bit means compression"
        payload = inflated(payload, window_bits)
    return Frame(opcode, payload), start + size


class Client:
    """A connection of which the handshake is done. A wait that is too long raises TimeoutError."""

    def __init__(self, port: int, *headers: str) -> None:
        self._received = bytearray()
        self._socket = connected(port)
        self._socket.sendall(handshake(*headers))
        status, *lines = self._take_head().decode().split("\r\n")
        assert status == "HTTP/1.1 101 Switching Protocols", status
        self.headers = dict(line.lower().split(": ", 1) for line in lines)
        assert self.headers["sec-websocket-accept"] == ACCEPT.lower()
        agreed = self.headers.get("sec-websocket-extensions", "")
        self.inflates = agreed.startswith("permessage-deflate")
        found = re.search(r"server_max_window_bits=(\d+)", agreed)
        self.window_bits = int(found[1]) if found else 15  # of what the server sends

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes, chop_size: int = 0) -> None:
        """Send bytes, in pieces of a size if it is not 0; what the server does not want any more is let go."""
        try:
            for start in range(0, len(data), chop_size or len(data) or 1):
                self._socket.sendall(data[start : start + chop_size] if chop_size else data)
        except ConnectionError:
            pass  # it has closed: what it has sent before is here to be read

    def receive(self) -> Frame | None:
        """The next frame, or None when the server has closed the connection."""
        while (found := first_frame(self._received, self.inflates, self.window_bits)) is None:
            if not self._read():
                assert not self._received, f"the connection ends within a frame: {self._received[:100]!r}"
                return None
        found_frame, size = found
        del self._received[:size]
        return found_frame

    def receive_all(self) -> list[Frame]:
        """All frames until the server closes the connection."""
        return list(iter(self.receive, None))

    def _take_head(self) -> bytes:
        while (end := self._received.find(HEAD_END)) < 0:
            assert self._read(), "the server closes instead of answering the handshake"
        head = bytes(self._received[:end])
        del self._received[: end + len(HEAD_END)]
        return head

    def _read(self) -> bool:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except ConnectionResetError:  # it has closed, but this client went on to send
            return False
        self._received += data
        return bool(data)


def connected(port: int) -> socket.socket:
    """A connection without a word."""
    made = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Server(NamedTuple):
    """tests.gateways.ws.echo in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def echoing(*options: str) -> Iterator[Server]:
    """One that runs as long as the block, ends well when it is told to, and has nothing to complain about."""
    command = [sys.executable, "-m", "tests.gateways.ws.echo", *options]
    with TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        try:
            assert process.stdout is not None
            with process.stdout:
                yield Server(int(process.stdout.readline()), process)
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
            errors.seek(0)
            told = errors.read().decode()
        assert told == "", told[-3000:]
