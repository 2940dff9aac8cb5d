"""From where the alertcenter takes alerts of others: UDP, TCP, the bus, and from processes of this exchange what the
disk has refused.

Everything that comes from outside is bounded: the length of a line, what is taken in a turn, alerts a second,
connections and their silence. What is not taken is counted, by the kernel too. Nobody ever gets an answer.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import zmq

from bus.endpoints import ENDPOINTS, LINGER_MS
from conf.alert_record import LINE_MAX_SIZE, Alert, parse, time_text
from persist import alert_wire

TAKEN_AT_ONCE_MAX = 1_000  # messages of one socket in a turn
DATAGRAM_MAX_SIZE = 65_535
RECEIVE_BUFFER_SIZE = 1 << 20
CONNECTIONS_MAX = 64
IDLE_TIMEOUT_S = 60.0
SO_MEMINFO = 55  # Linux; the ninth number counts datagrams that found the buffer full
MEMINFO = struct.Struct("9I")


class Bucket:
    """So many a second, and as many at once."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._left = float(rate)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether there is one more."""
        self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class Counts:
    """What was not taken, since somebody looked last."""

    dropped: int = 0  # alerts that came too fast
    ignored: int = 0  # what is no alert


class Source(Protocol):
    """A socket from which alerts come."""

    counts: Counts

    def take(self) -> list[Alert]:
        """What has come."""

    def close(self) -> None:
        """Close it."""


Now = Callable[[], float]  # a monotonic clock


class Datagrams:
    """The original's alerts by UDP. Raises OSError."""

    def __init__(self, bind: str, instance: str, rate: int, poller: zmq.Poller, now: Now = time.monotonic) -> None:
        self._instance = instance
        self._bucket = Bucket(rate, now())
        self._now = now
        self.counts = Counts()
        self._lost_count = 0
        self._poller = poller
        self.socket = socket.socket(_family(bind), socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_SIZE)
        try:
            self.socket.bind(_place(bind))
        except BaseException:
            self.socket.close()
            raise
        poller.register(self.socket, zmq.POLLIN)

    def take(self) -> list[Alert]:
        """What has come."""
        alerts: list[Alert] = []
        for _ in range(TAKEN_AT_ONCE_MAX):
            try:
                data, peer = self.socket.recvfrom(DATAGRAM_MAX_SIZE)
            except OSError:  # there is no more, or an ICMP message
                break
            parts = alert_wire.split(data, is_whole=True)
            self.counts.ignored += not parts.is_good or not data
            alerts += taken(parts.texts, self._bucket, self._now(), self.counts, self._instance, f"udp {peer[0]}")
        self._count_lost()
        return alerts

    def close(self) -> None:
        """Close it."""
        self._poller.unregister(self.socket)
        self.socket.close()

    def _count_lost(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            lost_count = MEMINFO.unpack(self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))[8]
            self.counts.dropped += (lost_count - self._lost_count) % (1 << 32)
            self._lost_count = lost_count


@dataclass
class _Connection:
    origin: str
    rest: bytes
    heard_at: float


class Streams:
    """The original's alerts by TCP. A connection that brings anything else is closed. Raises OSError."""

    def __init__(self, bind: str, instance: str, rate: int, poller: zmq.Poller, now: Now = time.monotonic) -> None:
        self._instance = instance
        self._bucket = Bucket(rate, now())
        self._now = now
        self.counts = Counts()
        self._poller = poller
        self._connections: dict[socket.socket, _Connection] = {}
        self.socket = socket.create_server(_place(bind), family=_family(bind), backlog=CONNECTIONS_MAX)
        self.socket.setblocking(False)
        poller.register(self.socket, zmq.POLLIN)

    def take(self) -> list[Alert]:
        """What has come."""
        alerts = [alert for stream in list(self._connections) for alert in self._receive(stream)]
        self._accept()
        return alerts

    def close(self) -> None:
        """Close it, and all connections."""
        for stream in list(self._connections):
            self._end(stream)
        self._poller.unregister(self.socket)
        self.socket.close()

    def _accept(self) -> None:
        for _ in range(CONNECTIONS_MAX):
            try:
                stream, peer = self.socket.accept()
            except OSError:
                return
            if len(self._connections) >= CONNECTIONS_MAX:
                stream.close()
                self.counts.ignored += 1
                continue
            stream.setblocking(False)
            self._connections[stream] = _Connection(f"tcp {peer[0]}", b"", self._now())
            self._poller.register(stream, zmq.POLLIN)

    def _receive(self, stream: socket.socket) -> list[Alert]:
        connection, now = self._connections[stream], self._now()
        try:
            data = stream.recv(DATAGRAM_MAX_SIZE)
        except BlockingIOError:
            if now - connection.heard_at > IDLE_TIMEOUT_S:
                self._end(stream)
            return []
        except OSError:
            self._end(stream)
            return []
        parts = alert_wire.split(connection.rest + data, is_whole=not data)
        connection.rest, connection.heard_at = parts.rest, now
        self.counts.ignored += not parts.is_good
        if not data or not parts.is_good:
            self._end(stream)
        return taken(parts.texts, self._bucket, now, self.counts, self._instance, connection.origin)

    def _end(self, stream: socket.socket) -> None:
        del self._connections[stream]
        self._poller.unregister(stream)
        stream.close()


class Peers:
    """Alerts of processes on the bus (bus/alerts.py). Raises zmq.ZMQError."""

    def __init__(
        self, address: str, rate: int, poller: zmq.Poller, context: "zmq.Context[Any]", now: Now = time.monotonic
    ) -> None:
        self._bucket = Bucket(rate, now())
        self._now = now
        self.counts = Counts()
        self._poller = poller
        self.socket: Any = context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        self.socket.setsockopt(zmq.MAXMSGSIZE, LINE_MAX_SIZE)
        self.socket.set_hwm(ENDPOINTS["alerts"].high_water_count)
        try:
            self.socket.bind(address)
        except BaseException:
            self.socket.close()
            raise
        poller.register(self.socket, zmq.POLLIN)

    def take(self) -> list[Alert]:
        """What has come."""
        alerts: list[Alert] = []
        for _ in range(TAKEN_AT_ONCE_MAX):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            alert = parse(parts[0]) if len(parts) == 1 else None
            if alert is None:
                self.counts.ignored += 1
            elif not self._bucket.take(self._now()):
                self.counts.dropped += 1
            else:
                alerts.append(replace(alert, origin="bus", is_told=False, dropped_count=0))
        return alerts

    def close(self) -> None:
        """Close it."""
        self._poller.unregister(self.socket)
        self.socket.close()


class Refused:
    """Lines that the disk refused, from processes of this exchange (conf/alert.py). Raises OSError."""

    def __init__(self, path: Path, poller: zmq.Poller) -> None:
        self.counts = Counts()
        self._path = path
        self._poller = poller
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind(str(path))
        except BaseException:
            self.socket.close()
            raise
        poller.register(self.socket, zmq.POLLIN)

    def take(self) -> list[Alert]:
        """What has come."""
        alerts: list[Alert] = []
        for _ in range(TAKEN_AT_ONCE_MAX):
            try:
                alert = parse(self.socket.recv(LINE_MAX_SIZE))
            except OSError:
                break
            if alert is not None:
                alerts.append(alert)
        return alerts

    def close(self) -> None:
        """Close it, and remove its file."""
        self._poller.unregister(self.socket)
        self.socket.close()
        self._path.unlink(missing_ok=True)


def taken(texts: list[bytes], bucket: Bucket, now: float, counts: Counts, instance: str, origin: str) -> list[Alert]:
    """The alerts that texts of the original's protocol are, as many as may come now."""
    alerts = []
    for text in texts:
        if bucket.take(now):
            alerts.append(alert_wire.parse(text, time_text(time.time()), instance, origin))
        else:
            counts.dropped += 1
    return alerts


def _place(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def _family(bind: str) -> socket.AddressFamily:
    return socket.AF_INET6 if bind.startswith("[") else socket.AF_INET
