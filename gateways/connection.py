"""One client's connection: a greenlet that receives, answers and sends, and never waits without a deadline.

Requests are answered one after the other, so pipelined replies come in order. A request must be whole, and a reply
taken, within the request timeout; between requests a connection may be silent for the keep-alive time. Whoever
oversees connections throws `Expired` into those whose `deadline_s` has passed (gateways/worker.py).
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any

from gevent import Greenlet
from gevent.hub import Hub

from gateways.heads import CONTINUE, JSON, Cors, Heads
from gateways.requests import SILENTLY, Head, KnownHeads, Limits, Parser, Room
from gateways.turns import give_way

RECEIVE_SIZE = 64 * 1024
LINGER_S = 1.0  # after an error: how long a client may go on sending before its reply is cut off
LINGER_SIZE_MAX = 4 << 20
GIVE_WAY_COUNT = 8  # of a pipeline's requests, after so many another client's turn comes
READABLE, WRITABLE = 1, 2  # libev's numbers

RpcAnswer = Callable[[bytes], tuple[int, bytes]]
WebAnswer = Callable[[Head, bytes], tuple[int, bytes, bytes]]  # status, header lines, body


class Expired(Exception):
    """Thrown into a connection that took too long."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What all connections of a worker share."""

    hub: Hub
    rpc: RpcAnswer  # answers POST
    web: WebAnswer  # answers everything else
    heads: Heads
    cors: Cors
    limits: Limits
    known: KnownHeads
    room: Room
    request_timeout_s: float
    keep_alive_s: float  # inf is for ever


class Connection:
    """Serves one socket, which it owns and closes."""

    def __init__(self, sock: socket.socket, service: Service) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._service = service
        self._parser = Parser(service.limits, service.known, service.room)
        self._hub: Any = service.hub
        self._reading: Any = self._hub.loop.io(sock.fileno(), READABLE)
        self._is_watched = False
        self._is_receiving = False
        self._closes = False
        self._finishes = False
        self.deadline_s = inf
        self.greenlet = Greenlet(self._run)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request of which nothing has come yet."""
        return self._is_receiving and self._parser.is_between

    def finish(self) -> None:
        """Answer what has begun, then close."""
        self._finishes = True
        if self.is_idle:
            self.expire()

    def expire(self) -> None:
        """End it now. Called by the hub, while the greenlet waits for the client."""
        self._is_receiving = False
        self.deadline_s = inf
        self.greenlet.throw(Expired)

    def _run(self) -> None:
        try:
            self._serve()
        except (Expired, OSError):
            pass  # a client that went away or is too slow: nobody is left to be told
        finally:
            self._parser.close()
            self._reading.close()
            self._socket.close()

    def _serve(self) -> None:
        parser = self._parser
        begun_s = 0.0  # when the request that is not complete began
        while not (self._closes or (self._finishes and parser.is_between)):
            if parser.is_between:
                self.deadline_s = monotonic() + self._service.keep_alive_s
            else:
                self.deadline_s = begun_s + self._service.request_timeout_s
            data = self._receive()
            if not data:
                return
            begins = parser.is_between
            parser.feed(data)
            begins |= bool(parser.complete)
            while parser.complete and not self._closes:
                self._answer(*parser.complete.popleft())
                if len(parser.complete) % GIVE_WAY_COUNT == 1:
                    give_way()
            if parser.refused is not None and not self._closes:
                self._refuse(parser.refused)
            elif parser.expects_continue:
                parser.expects_continue = False
                self._send(CONTINUE)
            if begins:
                begun_s = monotonic()

    def _answer(self, head: Head, body: bytes) -> None:
        service = self._service
        if head.method == b"POST":
            status, text = service.rpc(body) if body else (400, b"")
            lines = JSON if text and head.speaks_json else b""
            if head.origin:
                lines += service.cors.lines(head.origin)
        else:
            status, lines, text = service.web(head, body)
        self._closes |= not head.keeps_alive
        self._send(service.heads.head(status, len(text), lines) + text)
        # As the original: what it refuses has no body. A page's 400 has one, and a proxy goes on using its connection.
        if status == 400 and not text:
            self._part()

    def _refuse(self, status: int) -> None:
        if status != SILENTLY:
            self._send(self._service.heads.head(status, 0))
        self._part()

    def _part(self) -> None:
        """Close so that the reply arrives: to close a socket with unread bytes would cut it off."""
        self._closes = True
        self._socket.shutdown(socket.SHUT_WR)
        end_s = monotonic() + LINGER_S
        size = 0
        while size < LINGER_SIZE_MAX:
            self.deadline_s = end_s  # each time, for what comes takes it back
            data = self._receive()
            if not data:
                return
            size += len(data)

    def _receive(self) -> bytes:
        """Wait for bytes; none is the end. Raises Expired, OSError."""
        while True:
            if not self._is_watched:
                self._is_watched = True
                self._reading.start(self._on_readable)
            self._is_receiving = True
            self._hub.switch()
            try:
                data = self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            self.deadline_s = inf
            return data

    def _on_readable(self) -> None:
        if self._is_receiving:
            self._is_receiving = False
            self.greenlet.switch()
        else:  # it came while another request is answered, where it waits: the watch costs nothing if left on
            self._is_watched = False
            self._reading.stop()

    def _send(self, data: bytes) -> None:
        """Send all. Raises Expired, OSError."""
        try:
            sent_size = self._socket.send(data)
        except BlockingIOError:
            sent_size = 0
        if sent_size < len(data):
            self._send_rest(memoryview(data)[sent_size:])

    def _send_rest(self, rest: memoryview) -> None:
        writing: Any = self._hub.loop.io(self._socket.fileno(), WRITABLE)
        self.deadline_s = monotonic() + self._service.request_timeout_s
        try:
            while rest:
                writing.start(self.greenlet.switch)
                self._hub.switch()
                writing.stop()
                rest = rest[self._socket.send(rest) :]
        finally:
            self.deadline_s = inf
            writing.stop()
            writing.close()
