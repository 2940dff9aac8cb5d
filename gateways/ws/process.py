"""A `ws` process: WebSocket clients on one side, the exchange on the other, one gevent loop between.

    events ──► Pump ──► orders, balances ─────────────────────────────► Connection
                 └────► Publisher ◄── depth from shared memory             │  ▲
                            ▲    ◄── state, k-lines from market            │  │
                            └────────────── Desk ◄── Session ◄── requests ─┘  └── replies

Nothing here is patched by gevent: sockets are watched by the loop, and the one thing that blocks, asking who a client
is, does so in threads.
"""

import gc
import logging
import signal
import sys
import time
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from bus.endpoints import place
from bus.methods import Backend
from conf import ready
from conf.alert import alert
from conf.settings import Settings, Ws
from engine.reader import Reader
from gateways.link import Link, NotConnected, TimedOut
from gateways.rpc import Rpc
from gateways.state import State
from gateways.ws.auth import Verifier
from gateways.ws.desk import Desk
from gateways.ws.events import Pump
from gateways.ws.feeds import Source
from gateways.ws.metrics import Metrics
from gateways.ws.publisher import Publisher
from gateways.ws.resume import Resumer
from gateways.ws.server import Server, listen
from gateways.ws.session import Rules, Session, number
from gateways.ws.stream import stream_of

READY_POLL_S = 0.01
PATIENCE_S = 10.0  # until requests are answered without events, if these come from Kafka, which is away
BEAT_INTERVAL_S = 0.5


class Gateway:
    """All parts of a process, put together."""

    def __init__(self, settings: Settings, index: int) -> None:
        """Raises OSError when the address can't be listened on."""
        ws = settings.ws
        self._tell = partial(alert, settings.paths, f"ws-{index}")
        self._settings = settings
        self._index = index
        self.metrics = Metrics()
        self._link = Link(place(settings, "commands"))
        market = Link(place(settings, "market"))
        history = Link(*(place(settings, "history", each) for each in range(settings.history.processes)))
        state = State(Reader(settings.paths.state_name), self._link)
        rpc = Rpc(state, self._link, {Backend.HISTORY: history, Backend.MARKET: market})
        source = Source(state, market.call_known, time.time, time.monotonic, ws.kline_interval_ms / 1000)
        self._publisher = Publisher(ws, source, self.metrics)
        stream = stream_of(settings, self._tell)
        self._pump = Pump(settings, stream, state, self._publisher, self.metrics, self._tell)
        self._verifier = Verifier(ws.auth_url, ws.sign_url, ws.auth_timeout_s, self._tell)
        resumer = Resumer(state, self._publisher, self.metrics, stream.past, ws.replay_event_max)
        desk = Desk(rpc, self._publisher, self._verifier, resumer, self.metrics, cache_s=ws.query_cache_ms / 1000)
        self._server = Server(
            ws,
            listen(ws.bind),
            self.metrics,
            session=partial(Session, rules_of(ws)),
            take=desk.take,
            caught_up=self._publisher.catch_up,
            end=self._publisher.forget,
        )

    def run(self) -> None:
        """Serve until told to stop."""
        stopping = Event()
        for told in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(told, stopping.set)
        self._pump.await_begin(PATIENCE_S, stopping)
        self._publisher.start()
        self._pump.start()
        self._server.start()
        metrics_server = self._serve_metrics()
        telling = gevent.spawn(self._tell_ready)
        gc.collect()
        gc.freeze()  # what was imported lives as long as the process: to look through it would hold up everybody
        while not stopping.wait(BEAT_INTERVAL_S):
            self._publisher.check()
            self._pump.check()
            ready.beat()
        telling.kill()
        if metrics_server is not None:
            metrics_server.stop()
        self._server.stop(self._settings.ws.drain_timeout_s)
        self._pump.stop()
        self._publisher.stop()
        self._verifier.close()

    def _tell_ready(self) -> None:
        """Tell the supervisor once the matcher answers."""
        while True:
            try:
                self._link.ping()
                break
            except (NotConnected, TimedOut):
                gevent.sleep(READY_POLL_S)
        ready.ready()

    def _serve_metrics(self) -> Any:
        bind = self._settings.ws.metrics_bind
        if not bind:
            return None
        host, _, port = bind.rpartition(":")
        server = WSGIServer((host.strip("[]"), int(port) + self._index), self.metrics.application, log=None)
        server.start()
        return server


def rules_of(settings: Ws) -> Rules:
    """What the settings allow to subscribe to."""
    return Rules(
        depth_limits=frozenset(settings.depth_limits),
        depth_intervals=frozenset(merge for merge in map(number, settings.depth_merges) if merge is not None),
        subscription_count_max=settings.subscription_count_max,
    )


def main(settings: Settings, index: int) -> int:
    """Serve until told to stop; the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    Gateway(settings, index).run()
    return 0
