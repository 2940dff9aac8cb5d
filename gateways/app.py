"""The falcon application: JSON-RPC by POST on any path, and the pages that GET serves (gateways/pages.py).

It works under every WSGI server. Ours (gateways/worker.py) answers POST without it, for speed.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import falcon
import gevent

from bus.endpoints import place
from bus.methods import Backend
from engine.reader import Reader
from gateways.heads import Cors
from gateways.link import Link, NotConnected, TimedOut
from gateways.pages import pages
from gateways.rpc import Rpc
from gateways.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conf.settings import Settings

PREFLIGHT_AGE_S = 86_400  # how long a browser may remember what it may do


class Backends:
    """What a gateway has of the processes behind it: links and a reader of the matcher's memory, and what is over them:
    an Rpc for POST, pages for GET."""

    def __init__(self, settings: Settings) -> None:
        self.link = Link(place(settings, "commands"))
        others = {
            Backend.HISTORY: Link(*(place(settings, "history", index) for index in range(settings.history.processes))),
            Backend.MARKET: Link(place(settings, "market")),
        }
        state = State(Reader(settings.paths.state_name), self.link)
        self.rpc = Rpc(state, self.link, others, depth_cache_ms=settings.http.depth_cache_ms)
        self.pages = pages(settings, state, others[Backend.MARKET], self.health)

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
        self._app = falcon.App()
        self._app.add_sink(self._answer, prefix="")  # not "/": a target may be "*" or a whole URL

    @property
    def backends(self) -> Backends:
        """This thread's connections: sockets and gevent's hub belong to one thread."""
        hub = gevent.get_hub()
        backends = self._backends.get(hub)
        if backends is None:
            backends = self._backends[hub] = Backends(self.settings)
        return backends

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        reply: Iterable[bytes] = self._app(environ, start_response)
        return reply

    def _answer(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        self._allow_origin(req, resp)
        page = self.backends.pages.get(req.path) if req.method == "GET" else None
        if req.method == "POST":
            self._rpc(req, resp)
        elif page is not None:
            status, resp.data = page(req.query_string)
            resp.status = falcon.code_to_http_status(status)
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
