"""The falcon application: JSON-RPC by POST on any path, and the pages that are for people and machines to look at.

It works under every WSGI server. Ours (gateways/worker.py) answers POST without it, for speed.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import falcon
import gevent
import orjson

from bus.endpoints import address
from bus.methods import Backend
from engine.reader import Reader
from gateways import openrpc
from gateways.heads import Cors
from gateways.link import Link, NotConnected, TimedOut
from gateways.rpc import Rpc
from gateways.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conf.settings import Settings

PREFLIGHT_AGE_S = 86_400  # how long a browser may remember what it may do


class Backends:
    """What a gateway has of the processes behind it: links, a reader of the matcher's memory, and an Rpc over them."""

    def __init__(self, settings: Settings) -> None:
        place = partial(address, settings.bus.bind, settings.paths.sockets_dir)
        self.link = Link(place("commands"))
        others = {
            Backend.HISTORY: Link(*(place("history", index) for index in range(settings.history.processes))),
            Backend.MARKET: Link(place("market")),
        }
        state = State(Reader(settings.paths.state_name), self.link)
        self.rpc = Rpc(state, self.link, others, depth_cache_ms=settings.http.depth_cache_ms)

    def health(self) -> dict[str, Any]:
        """Whether it answers, and how far it is."""
        try:
            sequence = self.link.ping().total
        except (NotConnected, TimedOut):
            return {"status": "unavailable", "matcher": False, "sequence": None}
        return {"status": "ok", "matcher": True, "sequence": sequence}


class Gateway:
    """The WSGI application. It connects to what is behind it once in each thread that serves, on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cors = Cors(settings.http.cors_origins)
        self._backends: weakref.WeakKeyDictionary[Any, Backends] = weakref.WeakKeyDictionary()
        self._pages = falcon.App()
        self._pages.add_sink(self._answer, prefix="")  # not "/": a target may be "*" or a whole URL
        self._gets = {"/health": self._health, "/openrpc.json": self._openrpc}

    @property
    def backends(self) -> Backends:
        """This thread's connections: sockets and gevent's hub belong to one thread."""
        hub = gevent.get_hub()
        backends = self._backends.get(hub)
        if backends is None:
            backends = self._backends[hub] = Backends(self.settings)
        return backends

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        pages: Iterable[bytes] = self._pages(environ, start_response)
        return pages

    def _answer(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        self._allow_origin(req, resp)
        page = self._gets.get(req.path) if req.method == "GET" else None
        if req.method == "POST":
            self._rpc(req, resp)
        elif page is not None:
            page(resp)
        elif req.method == "OPTIONS" and resp.get_header("Access-Control-Allow-Origin"):
            resp.status = falcon.HTTP_204
            resp.set_header("Access-Control-Allow-Methods", "POST, GET")
            resp.set_header("Access-Control-Allow-Headers", "Content-Type")
            resp.set_header("Access-Control-Max-Age", str(PREFLIGHT_AGE_S))
        else:
            resp.status = falcon.HTTP_400

    def _allow_origin(self, request: falcon.Request, response: falcon.Response) -> None:
        origin = request.get_header("Origin")
        if origin is not None and self.cors.allows(origin):
            response.set_header("Access-Control-Allow-Origin", origin)
            response.set_header("Vary", "Origin")

    def _rpc(self, request: falcon.Request, response: falcon.Response) -> None:
        size = request.content_length or 0
        if size > self.settings.http.body_max_size:
            response.status = falcon.HTTP_413
            return
        body = request.bounded_stream.read(size)
        status, response.data = self.backends.rpc.answer(body) if body else (400, b"")
        response.status = falcon.code_to_http_status(status)

    def _health(self, response: falcon.Response) -> None:
        health = self.backends.health()
        response.status = falcon.HTTP_200 if health["matcher"] else falcon.HTTP_503
        response.data = orjson.dumps(health)

    def _openrpc(self, response: falcon.Response) -> None:
        response.data = openrpc.document()
