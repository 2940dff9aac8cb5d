"""Accepting clients, counting them by address, overseeing their deadlines, and closing them all in good order."""

import socket
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from websockets.frames import CloseCode

from conf.settings import Ws
from gateways.ws import frames
from gateways.ws.connection import READABLE, Connection, Service, counted, plain, prepare
from gateways.ws.frames import Terms
from gateways.ws.metrics import Metrics
from gateways.ws.session import Session

BACKLOG = 2048  # connections that the kernel holds until they are accepted
ACCEPTED_AT_ONCE_MAX = 64
SWEEP_INTERVAL_S = 0.5  # how exact deadlines are
DRAIN_POLL_S = 0.02


def listen(bind: str) -> socket.socket:
    """A listener on an address that other processes listen on too; the kernel deals connections out."""
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def terms_of(settings: Ws) -> Terms:
    """What the settings ask of every client."""
    return Terms(
        message_max_size=settings.message_max_size,
        subprotocol=settings.subprotocol,
        origins=frames.origin_rules(settings.origins),
        extensions=[frames.deflating()] if settings.compression else [],
    )


class Server:
    """All connections of a process."""

    def __init__(
        self,
        settings: Ws,
        listener: socket.socket,
        metrics: Metrics,
        *,
        session: Callable[[], Session],
        take: Callable[[Connection, bytes], None],
        caught_up: Callable[[Connection], None],
        end: Callable[[Connection], None],
    ) -> None:
        """`session` makes one for a new client; the others are told of messages, of room, and of the end."""
        self._settings = settings
        self._listener = listener
        self._metrics = metrics
        self._session = session
        self._connections: dict[Connection, None] = {}
        self._counts: Counter[str] = Counter()  # of connections, by address
        self._shaking: dict[Connection, str] = {}  # before their handshake; the address of the socket
        self._shaking_counts: Counter[str] = Counter()  # of those, by that
        self._hub = gevent.get_hub()
        self._service = Service(
            hub=self._hub,
            settings=settings,
            terms=terms_of(settings),
            metrics=metrics,
            admit=self._admit,
            take=take,
            caught_up=caught_up,
            end=end,
            leave=self._leave,
        )
        self._accepting: Any = self._hub.loop.io(listener.fileno(), READABLE)
        self._is_accepting = self._is_stopping = False
        self._sweeping: Any = self._hub.loop.timer(SWEEP_INTERVAL_S, SWEEP_INTERVAL_S)

    def start(self) -> None:
        """Accept from now on."""
        self._accept_again()
        self._sweeping.start(self._sweep)

    def stop(self, timeout_s: float) -> None:
        """Accept no more, tell all clients to go, and cut off those that have not gone in time."""
        self._is_stopping = True
        self._accepting.close()
        self._listener.close()
        for connection in list(self._connections):
            if connection.wire.is_open:
                connection.close(CloseCode.GOING_AWAY, "the server stops; connect again")
            else:
                connection.drop()
        end_s = monotonic() + timeout_s
        while self._connections and monotonic() < end_s:
            gevent.sleep(DRAIN_POLL_S)
        self._sweeping.close()
        for connection in list(self._connections):
            connection.drop()

    def _accept_again(self) -> None:
        if not self._is_accepting and not self._is_stopping:
            self._is_accepting = True
            self._accepting.start(self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE_MAX):
            if len(self._connections) >= self._settings.connection_count_max:
                self._metrics.full.inc()
                self._pause()
                return
            try:
                accepted, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # perhaps no file descriptor is left
                self._pause()
                return
            try:
                prepare(accepted)
            except OSError:  # it has gone already
                accepted.close()
                continue
            peer = plain(str(address[0]))
            place = "" if peer in self._settings.proxies else counted(peer)
            if place and self._shaking_counts[place] >= self._settings.connection_per_address_max:
                self._metrics.addresses_refused.inc()
                accepted.close()
                continue
            connection = Connection(accepted, peer, self._service, self._session())
            self._connections[connection] = None
            self._shaking[connection] = place
            self._shaking_counts[place] += 1
            self._metrics.connections.inc()

    def _pause(self) -> None:
        """Accept no more until the next sweep."""
        self._is_accepting = False
        self._accepting.stop()

    def _end_shaking(self, connection: Connection) -> None:
        place = self._shaking.pop(connection, None)
        if place is not None:
            self._shaking_counts[place] -= 1
            if not self._shaking_counts[place]:
                del self._shaking_counts[place]

    def _admit(self, connection: Connection, address: str) -> bool:
        self._end_shaking(connection)
        if address:
            if self._counts[address] >= self._settings.connection_per_address_max:
                self._metrics.addresses_refused.inc()
                return False
            self._counts[address] += 1
            connection.address = address
        self._metrics.handshakes.inc()
        return True

    def _leave(self, connection: Connection) -> None:
        del self._connections[connection]
        self._end_shaking(connection)
        self._metrics.connections.dec()
        if connection.address:
            self._counts[connection.address] -= 1
            if not self._counts[connection.address]:
                del self._counts[connection.address]

    def _sweep(self) -> None:
        now_s = monotonic()
        for connection in list(self._connections):
            connection.guard(connection.sweep, now_s)
        self._accept_again()
