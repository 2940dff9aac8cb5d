"""The client's end of a connection in the same loop as the server's: nothing here waits but for the loop."""

import socket
from collections.abc import Callable
from typing import Any

import gevent

from conf.settings import Ws
from gateways.ws.connection import Connection, Service
from gateways.ws.frames import Message
from gateways.ws.metrics import Metrics
from gateways.ws.server import terms_of
from tests.gateways.ws.making import nothing, session, wait
from tests.gateways.ws.raw_client import CLOSE, Frame, closing, first_frame, handshake

RECEIVE_SIZE = 1 << 20


class Peer:
    """A client without a thread: it reads when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        self.received = bytearray()
        self.is_over = False  # the server has sent its last byte

    def read(self, size: int = RECEIVE_SIZE) -> int:
        """Take what is here, up to a size; how much that was."""
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return 0
        except ConnectionError:
            data = b""
        self.is_over |= not data
        self.received += data
        return len(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def shake(self, *headers: str, more: bytes = b"") -> str:
        """Do the handshake; the status line of the answer."""
        self.send(handshake(*headers) + more)
        wait(lambda: (self.read(), b"\r\n\r\n" in self.received)[1])
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        self.received = bytearray(rest)
        return head.decode().partition("\r\n")[0]

    def frames(self) -> list[Frame]:
        """Take the whole frames that are here."""
        found = []
        while (whole := first_frame(self.received)) is not None:
            frame, size = whole
            del self.received[:size]
            found.append(frame)
        return found

    def wait_frames(self, count: int) -> list[Frame]:
        """So many, and there must be no more."""
        found: list[Frame] = []

        def look() -> bool:
            self.read()
            found.extend(self.frames())
            return len(found) >= count

        wait(look)
        assert len(found) == count, found
        return found

    def wait_over(self) -> list[Frame]:
        """All frames until the server has sent its last byte."""
        wait(lambda: (self.read(), self.is_over)[1])
        found = self.frames()
        assert not self.received
        return found

    def close(self) -> None:
        self.socket.close()


class Pair:
    """A connection and its client, which has said nothing yet."""

    def __init__(self, send_size: int = 0, **settings: Any) -> None:
        mine, others = socket.socketpair()
        mine.setblocking(False)
        if send_size:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_size)
        self.peer = Peer(others)
        self.metrics = Metrics()
        self.taken: list[bytes] = []
        self.events: list[str] = []  # what the others are told of it
        self.on_take: Callable[[], None] = nothing
        made = Ws(**settings)
        service = Service(
            hub=gevent.get_hub(),
            settings=made,
            terms=terms_of(made),
            metrics=self.metrics,
            admit=lambda *_: True,
            take=self._take,
            caught_up=lambda _: self.events.append("caught up"),
            end=lambda _: self.events.append("end"),
            leave=lambda _: self.events.append("leave"),
        )
        self.connection = Connection(mine, "10.0.0.1", service, session())

    def _take(self, connection: Connection, message: bytes) -> None:
        self.taken.append(message)
        self.on_take()

    def push(self, *texts: str) -> None:
        """Have messages sent."""
        for text in texts:
            self.connection.push(Message(text))
        self.connection.flush()

    def answer_close(self) -> None:
        """Do the client's part of the closing handshake, to the end."""
        self.peer.send(closing(1000))
        found = self.peer.wait_over()
        assert CLOSE not in [frame.opcode for frame in found]
        self.peer.close()
        wait(lambda: self.connection.is_closed)

    def counted(self, name: str, limit: str) -> float:
        """A counter of the metrics."""
        found = self.metrics._registry.get_sample_value(f"ws_{name}_total", {"limit": limit})
        assert found is not None
        return found

    def close(self) -> None:
        self.connection.drop()
        self.peer.close()
