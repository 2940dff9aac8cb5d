"""What the gateway is compared with: the smallest server on gevent-websocket that sends a message to all its clients.

It sends whatever comes through its pipe. A greenlet for each client waits for what the client says, as that library's
handlers do; everything is sent with `WebSocket.send`.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from supervisor.bench.private import free_port
from supervisor.bench.ws_clients import allow_open_files
from supervisor.bench.ws_crowd import Server

HOST = "127.0.0.1"
BACKLOG = 2048
STOP_TIMEOUT_S = 10.0

Broadcast = Callable[[str, int], None]  # have a text sent to all clients, so many times


@contextmanager
def running() -> Iterator[tuple[Server, Broadcast]]:
    """Run it meanwhile."""
    context = multiprocessing.get_context("spawn")  # it shall not hold what this process has imported
    pipe, theirs = context.Pipe()
    port = free_port()
    process = context.Process(target=_main, args=(theirs, port), daemon=True)
    process.start()
    theirs.close()
    try:
        pipe.recv()  # it listens
        assert process.pid is not None
        yield Server(HOST, port, process.pid), lambda text, count: pipe.send((text, count))
    finally:
        pipe.close()
        process.join(STOP_TIMEOUT_S)


def _main(pipe: "Connection[Any, Any]", port: int) -> None:
    """The process."""
    import gevent.socket
    from gevent.pywsgi import WSGIServer
    from geventwebsocket.handler import WebSocketHandler

    allow_open_files()
    clients: dict[Any, None] = {}

    def serve(environ: dict[str, Any], _: Any) -> Iterable[bytes]:
        client = environ["wsgi.websocket"]
        clients[client] = None
        try:
            while client.receive() is not None:
                pass
        finally:
            del clients[client]
        return []

    server = WSGIServer((HOST, port), serve, handler_class=WebSocketHandler, log=None, error_log=None, backlog=BACKLOG)
    server.start()
    pipe.send(None)
    while True:
        gevent.socket.wait_read(pipe.fileno())
        try:
            text, count = pipe.recv()
        except EOFError:
            return
        for _ in range(count):
            for client in list(clients):
                client.send(text)
