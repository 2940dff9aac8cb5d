"""A TCP proxy on this machine whose connections can be cut: what a broken network does to those who keep them open."""

import socket
import threading
import time
from contextlib import suppress
from typing import Self

HOST = "127.0.0.1"
SIZE = 1 << 16
CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.1


class Proxy:
    """Passes on whatever comes, to `target_port`; threads of its own do it."""

    def __init__(self) -> None:
        self.target_port = 0
        self.cut_count = 0  # connections that were cut
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(POLL_S)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._closed_until_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="soak-proxy")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """The same, with the host."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._listener.close()
        self.cut(0.0)

    def cut(self, seconds: float) -> None:
        """Break all connections, and take none for some seconds; return when it takes them again."""
        self._closed_until_s = time.monotonic() + seconds
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self.cut_count += 1
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)

    def _accept(self) -> None:
        while not self._is_over.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        client.settimeout(None)
        try:
            if time.monotonic() < self._closed_until_s:
                raise ConnectionRefusedError
            server = socket.create_connection((HOST, self.target_port), CONNECT_TIMEOUT_S)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        for source, target in (pair, pair[::-1]):
            threading.Thread(target=self._pass_on, args=(source, target, pair), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(OSError):
            while data := source.recv(SIZE):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._pairs.discard(pair)
        source.close()
