"""A way to a server that can be cut at a word: a proxy between a writer and its database."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

POLL_S = 0.05
CHUNK_SIZE = 1 << 16


class Proxy:
    """Passes bytes on until it sees a word from the client, and cuts the connection then."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL_S)
        self.port = int(self._listener.getsockname()[1])
        self._word: bytes | None = None
        self._is_answered = False
        self._is_over = False
        self._thread = threading.Thread(target=self._serve)

    def cut_at(self, word: bytes, *, when_answered: bool) -> None:
        """Cut the next connection that sends it: before the server gets it, or when it has answered."""
        self._word, self._is_answered = word, when_answered

    @property
    def has_cut(self) -> bool:
        return self._word is None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over = True
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
                self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while not self._is_over:
            for source in select.select([client, server], [], [], POLL_S)[0]:
                data = source.recv(CHUNK_SIZE)
                if not data:
                    return
                if source is client and self._word is not None and self._word in data:
                    if self._is_answered:
                        server.sendall(data)
                        server.recv(CHUNK_SIZE)
                    self._word = None
                    return
                (server if source is client else client).sendall(data)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """To a port of this machine. One connection at a time."""
    running = Proxy(port)
    running.start()
    try:
        yield running
    finally:
        running.stop()
