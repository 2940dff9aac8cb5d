"""One client's socket: it receives, sends, keeps what the client does not take yet, and closes in good order.

There is no greenlet for a connection: the loop calls it when there is something to read or room to send, so an idle
one costs little memory. Sending never waits. What does not fit waits in whole frames, up to a limit: then the client
is too slow and its connection ends with a reason.
"""

import socket
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from math import inf
from time import monotonic
from typing import Any

from gevent.hub import Hub
from websockets.frames import CloseCode

from conf.settings import Ws
from gateways.ws.frames import Kind, Message, Piece, Terms, Wire
from gateways.ws.metrics import Metrics
from gateways.ws.session import Session
from gateways.ws.topics import Topic

RECEIVE_SIZE = 16 * 1024  # at once, so that a flood of small frames leaves the others their turn
SOCKET_BUFFER_SIZE = 128 * 1024  # of the system, to send from: it must not hide for long that a client is slow
DEAD_PEER_MS = 60_000  # after which the system gives up a client that confirms nothing
CLOSE_TIMEOUT_S = 5.0  # for the client's part of the closing handshake
PART_TIMEOUT_S = 1.0  # for the client to close after us, so that what was sent last arrives
COUNTED_SIZE = 1024  # bytes of a message for each of which it counts as one request more: to read them takes time
BURST_S = 10  # seconds' worth of requests may come at once
READABLE, WRITABLE = 1, 2  # libev's numbers
REAL_ADDRESS = "X-Real-IP"
TOO_MANY = 429
IPV6_BITS = 64


@dataclass(frozen=True, kw_only=True)
class Service:
    """What all connections of a process share."""

    hub: Hub
    settings: Ws
    terms: Terms
    metrics: Metrics
    admit: Callable[["Connection", str], bool]  # whether one more connection from this address is accepted
    take: Callable[["Connection", bytes], None]  # a message has come
    caught_up: Callable[["Connection"], None]  # what waited has gone
    end: Callable[["Connection"], None]  # nothing may be sent to it any more
    leave: Callable[["Connection"], None]  # it is closed


class Connection:
    """Serves one socket, which it owns and closes. It is a gateways.ws.publisher.Follower."""

    __slots__ = (
        "_allowance",
        "_allowed_s",
        "_backlog",
        "_backlog_size",
        "_is_parting",
        "_pinged_s",
        "_progress_s",
        "_reading",
        "_service",
        "_socket",
        "_writing",
        "address",
        "deadline_s",
        "heard_s",
        "held",
        "is_closed",
        "is_ended",
        "out",
        "peer",
        "requests",
        "session",
        "takes_plain",
        "wire",
    )

    def __init__(self, sock: socket.socket, peer: str, service: Service, session: Session) -> None:
        now_s = monotonic()
        self.peer = plain(peer)
        self.address = ""  # that counts, when it does
        self.session = session
        self.wire = Wire(service.terms)
        self.held: dict[Topic, None] = {}
        self.requests: deque[bytes] | None = None  # that wait while one before them is answered
        self.deadline_s = now_s + service.settings.handshake_timeout_s
        self.heard_s = self._pinged_s = self._progress_s = self._allowed_s = now_s
        self.is_closed = False
        self.is_ended = False  # the last frame that may be sent is among those in `out`, or was
        self.out: list[bytes] = []  # frames that the next `flush` sends
        self.takes_plain = True  # frames as they are, not compressed
        self._allowance = float(BURST_S * service.settings.request_rate_max)
        self._service = service
        self._socket = sock
        self._backlog: deque[bytes] = deque()  # the first one may have been sent in part
        self._backlog_size = 0
        self._is_parting = False
        self._writing: Any = None
        self._reading: Any = service.hub.loop.io(sock.fileno(), READABLE)
        self._reading.start(self.guard, self._on_readable)

    @property
    def is_behind(self) -> bool:
        """Whether something waits for the client to read."""
        return bool(self._backlog)

    @property
    def backlog_size(self) -> int:
        """Bytes that wait."""
        return self._backlog_size

    def push(self, message: Message) -> None:
        """Have a message sent with the next `flush`; nothing may follow a close frame."""
        if not self.is_ended:
            self.out.append(message.frame(self.wire))

    def flush(self) -> None:
        """Send what is in `out`, as far as the client takes it."""
        out = self.out
        if not out or self.is_closed:
            return
        sent_size = 0
        if not self._backlog:
            data = out[0] if len(out) == 1 else b"".join(out)
            try:
                sent_size = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.drop()
                return
            if sent_size == len(data):
                out.clear()
                return
        self.out = []
        self._keep(_rest(out, sent_size))

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; what was pushed goes first."""
        if not self.wire.is_open:
            return
        self.wire.close(code, reason)
        self.deadline_s = monotonic() + CLOSE_TIMEOUT_S
        self._send_own()

    def drop(self) -> None:
        """Close at once."""
        if self.is_closed:
            return
        self._end()
        self.is_closed = True
        self._reading.close()
        if self._writing is not None:
            self._writing.close()
        self._socket.close()
        self._backlog.clear()
        self._backlog_size = 0
        self.out = []
        self._service.leave(self)

    @property
    def is_hasty(self) -> bool:
        """Whether the client sends more than it may."""
        return self._allowance < 0

    def _may(self, count: int) -> bool:
        """Take so many frames from what is allowed; whether it was not so much too much that this is the end."""
        now_s = monotonic()
        rate = self._service.settings.request_rate_max
        allowed = self._allowance + (now_s - self._allowed_s) * rate
        self._allowed_s = now_s
        self._allowance = min(allowed, BURST_S * rate) - count
        if self._allowance >= -BURST_S * rate:
            return True
        if self.wire.is_open:
            self._service.metrics.rate_closed.inc()
            self.close(CloseCode.POLICY_VIOLATION, "too many requests")
        return False

    def guard(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do something of this connection. A mistake of ours in it ends this one only, and is told in the log."""
        try:
            act(*arguments)
        except Exception:
            traceback.print_exc()
            self.drop()

    def sweep(self, now_s: float) -> None:
        """See that the client is neither late nor silent."""
        settings, metrics = self._service.settings, self._service.metrics
        if now_s >= self.deadline_s:
            if self.wire.is_shaking:
                metrics.handshake_closed.inc()
            self.drop()
        elif self._backlog and now_s - self._progress_s >= settings.slow_timeout_s:
            metrics.slow_closed.inc()
            self.drop()
        elif not self.wire.is_open:
            return
        elif now_s - self.heard_s >= settings.idle_timeout_s:
            metrics.idle_closed.inc()
            self.close(CloseCode.GOING_AWAY, "nothing was heard for too long")
        elif settings.ping_interval_s and now_s - max(self.heard_s, self._pinged_s) >= settings.ping_interval_s:
            self._pinged_s = now_s
            if not self._backlog:
                self.wire.ping()
                self._send_own()

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        if not data:
            self.drop()
            return
        if self._is_parting:
            return
        self.heard_s = monotonic()
        wire = self.wire
        frame_count = wire.frame_count
        pieces = wire.receive(data)
        if wire.request is not None:
            pieces = self._shake()
        if wire.fail_code == CloseCode.MESSAGE_TOO_BIG and not self.is_ended:
            self._service.metrics.size_closed.inc()
        for data, kind in pieces:
            if self.is_ended:  # by one of them, which was too much
                break
            if kind is Kind.OWN:
                self.out.append(data)
            elif self._may(1 + len(data) // COUNTED_SIZE):
                frame_count += 1
                self._service.take(self, data)
        self._may(max(0, wire.frame_count - frame_count))  # for those that are no whole message
        if not self.is_closed:
            self._send_own()

    def _shake(self) -> list[Piece]:
        """Answer the handshake; the answer, and what came with it."""
        request = self.wire.request
        assert request is not None
        address = self.peer
        if self.peer in self._service.settings.proxies:
            address = next(iter(request.headers.get_all(REAL_ADDRESS)), "")
        address = counted(address)
        if not self._service.admit(self, address):
            self.wire.reject(TOO_MANY, "There are too many connections from this address.\n")
            return []
        pieces = self.wire.accept()
        if self.wire.is_open:
            self.deadline_s = inf
            self.takes_plain = self.wire.deflates is None
        elif self.wire.is_of_strange_origin:
            self._service.metrics.origins_refused.inc()
        return pieces

    def _send_own(self) -> None:
        """Send what the protocol wants to send, after what was pushed before."""
        own = self.wire.to_send()
        if own:
            self.out.append(own)
        if not self.wire.is_open and not self.wire.is_shaking:
            self._end()
        self.flush()
        if self.wire.is_ended and not self._backlog:
            self._part()

    def _end(self) -> None:
        """From now on nothing is pushed."""
        if not self.is_ended:
            self.is_ended = True
            self._service.end(self)

    def _keep(self, frames: list[bytes]) -> None:
        """Let frames wait until the client reads."""
        if not self._backlog:
            self._progress_s = monotonic()
            if self._writing is None:
                self._writing = self._service.hub.loop.io(self._socket.fileno(), WRITABLE)
            self._writing.start(self.guard, self._on_writable)
        self._backlog.extend(frames)
        self._backlog_size += sum(map(len, frames))
        waiting_size = self._backlog_size - len(self._backlog[0])  # one large answer may take its time
        if waiting_size > self._service.settings.send_buffer_max_size and self.wire.is_open:
            self._give_up()

    def _give_up(self) -> None:
        """Leave out what waits, all but the frame that has begun, and say why."""
        self._service.metrics.buffer_closed.inc()
        first = self._backlog[0]
        self._backlog.clear()
        self._backlog.append(first)
        self._backlog_size = len(first)
        self.close(CloseCode.POLICY_VIOLATION, "messages are not read quickly enough")
        self.deadline_s = monotonic() + self._service.settings.slow_timeout_s  # the system's buffers come first

    def _on_writable(self) -> None:
        data = self._backlog[0] if len(self._backlog) == 1 else b"".join(self._backlog)
        try:
            sent_size = self._socket.send(data)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        self._progress_s = monotonic()
        if sent_size < len(data):
            self._backlog = deque(_rest(self._backlog, sent_size))
            self._backlog_size = len(data) - sent_size
            return
        self._backlog.clear()
        self._backlog_size = 0
        self._writing.stop()
        self.flush()
        if self.wire.is_ended:
            self._part()
        else:
            self._service.caught_up(self)

    def _part(self) -> None:
        """Close so that what was sent arrives: to close a socket with unread bytes would cut it off."""
        if self._is_parting or self.is_closed:
            return
        self._is_parting = True
        self.deadline_s = monotonic() + PART_TIMEOUT_S
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop()


def plain(address: str) -> str:
    """The same address; one of IPv4 as such, which a listener for both writes as one of IPv6."""
    try:
        mapped = IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


def counted(address: str) -> str:
    """What connections of an address are counted by: of IPv6 the network, for every household has one to itself."""
    address = plain(address)
    try:
        return str(IPv6Network((address, IPV6_BITS), strict=False))
    except ValueError:
        return address


def prepare(sock: socket.socket) -> None:
    """Set the options of an accepted socket."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_SIZE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)


def _rest(frames: Any, sent_size: int) -> list[bytes]:
    """What is left of frames of which so many bytes have been sent."""
    left: list[bytes] = []
    for frame in frames:
        if sent_size >= len(frame):
            sent_size -= len(frame)
        else:
            left.append(frame[sent_size:])
            sent_size = 0
    return left
