"""A gunicorn worker class: gevent and httptools, a greenlet for each connection.

    gunicorn -k gateways.worker.Worker ...

The application must be a `gateways.app.Gateway`: POST goes straight to its Rpc, the rest through WSGI.
"""

import gc
import os
import signal
import socket
import sys
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent import monkey
from gevent.event import Event
from gunicorn.workers.base import Worker as GunicornWorker

from conf import ready
from gateways import wsgi
from gateways.app import Gateway
from gateways.connection import Connection, Service
from gateways.heads import Heads
from gateways.requests import KnownHeads, Limits, Room

ACCEPTED_AT_ONCE_MAX = 64
SWEEP_INTERVAL_S = 0.1  # how exact deadlines are
NOTIFY_INTERVAL_S = 1.0
READY_POLL_S = 0.01
IDLE_SHARE = 16  # with no room left, one in so many idle connections is closed at each sweep
READABLE = 1  # libev's number
_PlainSocket = monkey.get_original("socket", "socket")


class Worker(GunicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """Accepts, oversees the deadlines of its connections, and stops in good order."""

    def init_process(self) -> None:
        # A thread of the parent must not be patched under its feet: only what runs here, after the fork, is.
        monkey.patch_all(ssl="ssl" not in sys.modules)
        gevent.get_hub().loop.reinit()
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        self._stopping = Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            gevent.signal_handler(number, self._stopping.set)

    def run(self) -> None:
        gateway: Gateway = self.wsgi
        self._hub = gevent.get_hub()
        self._connections: set[Connection] = set()
        self._connection_count_max = gateway.settings.http.connection_count_max
        self._service = _service(gateway, self.sockets[0].sock.getsockname())
        self._listeners = [(each.sock, self._listen(each.sock)) for each in self.sockets]
        timers = [
            self._every(SWEEP_INTERVAL_S, self._sweep),
            self._every(NOTIFY_INTERVAL_S, self._beat),
        ]
        self._beat()
        gc.collect()
        gc.freeze()  # what was imported lives as long as the worker: to look through it would hold up everybody
        telling = gevent.spawn(self._tell_ready, gateway)
        self._stopping.wait()
        telling.kill()
        self.alive = False
        self._drain(gateway.settings.http.drain_timeout_s)
        for timer in timers:
            timer.close()

    def _tell_ready(self, gateway: Gateway) -> None:
        """Tell the supervisor once the matcher answers: until then requests get 500, which is not being ready."""
        while not gateway.backends.health()["matcher"]:
            gevent.sleep(READY_POLL_S)
        ready.ready()

    def _every(self, interval_s: float, act: Any) -> Any:
        timer = self._hub.loop.timer(interval_s, interval_s)
        timer.start(act)
        return timer

    def _beat(self) -> None:
        self.notify()
        if os.getppid() != self.ppid:
            self.log.warning("the parent is gone")
            self._stopping.set()

    def _listen(self, listener: socket.socket) -> Any:
        listener.setblocking(False)
        watcher = self._hub.loop.io(listener.fileno(), READABLE)
        watcher.start(self._accept, listener, watcher)
        return watcher

    def _accept(self, listener: socket.socket, watcher: Any) -> None:
        at_once_max = ACCEPTED_AT_ONCE_MAX if self.cfg.workers == 1 else 1  # leave some to the others
        for _ in range(at_once_max):
            if len(self._connections) >= self._connection_count_max:
                watcher.stop()  # started again by the sweep
                return
            try:
                number, _ = listener._accept()  # type: ignore[attr-defined]  # accept() would make a gevent socket
            except BlockingIOError:
                return
            except OSError:  # perhaps no file descriptor is left: the sweep tries again
                watcher.stop()
                return
            self._open(_PlainSocket(listener.family, listener.type, listener.proto, fileno=number))

    def _open(self, accepted: socket.socket) -> None:
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted, self._service)
        self._connections.add(connection)
        connection.greenlet.rawlink(lambda _: self._connections.discard(connection))
        connection.greenlet.start()

    def _sweep(self) -> None:
        """End connections that are past their deadlines; when there is no room, those that are idle longest."""
        now = monotonic()
        for connection in [each for each in self._connections if each.deadline_s <= now]:
            connection.expire()
        if len(self._connections) >= self._connection_count_max:
            idle = sorted((each for each in self._connections if each.is_idle), key=lambda each: each.deadline_s)
            for connection in idle[: 1 + len(idle) // IDLE_SHARE]:
                connection.expire()
        elif not self._stopping.is_set():
            for listener, watcher in self._listeners:
                watcher.start(self._accept, listener, watcher)

    def _drain(self, timeout_s: float) -> None:
        """Accept no more, let begun requests end, then cut off what is left."""
        for listener, watcher in self._listeners:
            watcher.close()
            listener.close()
        for connection in list(self._connections):
            self._hub.loop.run_callback(connection.finish)
        end_s = monotonic() + timeout_s
        while self._connections and monotonic() < end_s:
            gevent.sleep(SWEEP_INTERVAL_S)
        if self._connections:
            self.log.warning("stopped with %d requests unanswered", len(self._connections))


def _service(gateway: Gateway, address: tuple[str, int]) -> Service:
    http = gateway.settings.http
    return Service(
        hub=gevent.get_hub(),
        rpc=gateway.backends.rpc.answer,
        web=partial(wsgi.answer, gateway, address),
        heads=Heads(),
        cors=gateway.cors,
        limits=Limits(body_max_size=http.body_max_size, header_max_size=http.header_max_size),
        known=KnownHeads(),
        room=Room(),
        request_timeout_s=http.request_timeout_s,
        keep_alive_s=http.keep_alive_s or inf,
    )
