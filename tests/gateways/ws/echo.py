"""A server on the gateway's own sockets and frames that sends every message back: what other people's clients test.

    python -m tests.gateways.ws.echo [--compression]

It listens on a free port of this machine, writes the port to standard output, and serves until SIGTERM or SIGINT.
The gateway treats text and binary messages alike; this server keeps them apart, as an echo must.
"""

import logging
import signal
import sys
from collections import deque

import gevent
from gevent.event import Event
from websockets.frames import Frame, Opcode

from conf.settings import Ws
from gateways.ws import connection
from gateways.ws.connection import Connection
from gateways.ws.frames import Kind, Message, Piece, Terms, Wire
from gateways.ws.metrics import Metrics
from gateways.ws.server import Server, listen
from gateways.ws.session import Rules, Session

BIND = "127.0.0.1:0"
COMPRESSION = "--compression"
MESSAGE_MAX_SIZE = 1 << 26
DRAIN_TIMEOUT_S = 1.0
NO_RULES = Rules(depth_limits=frozenset(), depth_intervals=frozenset(), subscription_count_max=0)


class EchoWire(Wire):
    """Also keeps which kind each message is."""

    __slots__ = ("kinds",)

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.kinds: deque[Kind] = deque()  # of the messages that have come, until they are sent back

    def _add(self, frame: Frame) -> list[Piece]:
        pieces = super()._add(frame)
        self.kinds += [piece.kind for piece in pieces]
        return pieces


class BinaryMessage(Message):
    """What the gateway never sends."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        super().__init__("")
        self._data = data

    def frame(self, wire: Wire) -> bytes:
        """The frame as this client takes it."""
        extensions = [] if wire.deflates is None else [wire.deflates]
        return Frame(Opcode.BINARY, self._data).serialize(mask=False, extensions=extensions)


def send_back(client: Connection, data: bytes) -> None:
    """Push the message that has come."""
    assert isinstance(client.wire, EchoWire)
    is_text = client.wire.kinds.popleft() is Kind.TEXT
    client.push(Message(data.decode()) if is_text else BinaryMessage(data))


def main(compression: bool) -> None:
    """Serve until told to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    settings = Ws(
        compression=compression,
        message_max_size=MESSAGE_MAX_SIZE,
        request_rate_max=1_000_000,
        ping_interval_s=0,
        send_buffer_max_size=1 << 30,
    )
    listener = listen(BIND)
    connection.Wire = EchoWire  # type: ignore[attr-defined]
    server = Server(
        settings,
        listener,
        Metrics(),
        session=lambda: Session(NO_RULES),
        take=send_back,
        caught_up=lambda _: None,
        end=lambda _: None,
    )
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopping.set)
    server.start()
    print(listener.getsockname()[1], flush=True)
    stopping.wait()
    server.stop(DRAIN_TIMEOUT_S)


if __name__ == "__main__":
    main(COMPRESSION in sys.argv[1:])
