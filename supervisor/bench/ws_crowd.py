"""A crowd of WebSocket clients, from outside: the process is supervisor/bench/ws_clients.py."""

import contextlib
import multiprocessing
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from supervisor.bench import ws_clients
from supervisor.bench.ws_clients import DELIVERED, DONE, LOST, TIMEOUT_S, Lost


class Server(NamedTuple):
    """Where it listens, and its process."""

    host: str
    port: int
    pid: int


class Seen(NamedTuple):
    """What each connection of a crowd has received since `begin`, the same on all."""

    frame_count: int  # on all together
    size: int  # likewise: bytes, with headers
    segment_count: int  # likewise: that the server sent, with data
    deals: NDArray[np.int64]  # in each frame
    times_ns: NDArray[np.int64]  # of time.monotonic_ns: when a frame came, by its number and the connection's

    @property
    def frame_size(self) -> float:
        """Bytes of a frame, with its header."""
        return self.size / max(1, self.frame_count)

    @property
    def frames_a_send(self) -> float:
        """How many frames left the server together."""
        return self.frame_count / max(1, self.segment_count)


class Crowd:
    """Clients of one server."""

    def __init__(self, server: Server) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take other threads' locks along
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=ws_clients.main, args=(theirs, server.host, server.port), daemon=True)
        self._process.start()
        theirs.close()
        self.server = server
        self.count = 0
        self._delivered_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(TIMEOUT_S)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def connect(self, count: int) -> float:
        """Open so many more connections; the seconds until all handshakes were answered. Raises Lost."""
        seconds: float = self._ask("connect", count)
        self.count += count
        return seconds

    def say(self, *requests: bytes) -> None:
        """Send requests on all connections, and wait until all have succeeded. Raises Lost."""
        self._ask("say", requests)

    def begin(self, timed_count: int = 0) -> None:
        """Count from zero. With `timed_count`, note when each of so many frames comes, and do not `wait` meanwhile."""
        self._ask("begin", timed_count)
        self._delivered_count = 0

    def wait(self, deal_count: int) -> int:
        """Wait until each connection has received so many deals; how many they have. Raises Lost."""
        while self._delivered_count < deal_count:
            if not self._pipe.poll(TIMEOUT_S):
                raise Lost(f"nothing was received for {TIMEOUT_S:g} s")
            self._told()
        return self._delivered_count

    def settle(self) -> None:
        """Wait until nothing more comes."""
        self._ask("settle")

    def end(self) -> Seen:
        """What was received. Raises Lost."""
        frame_count, size, segment_count, deals, times = self._ask("end")
        times_ns = np.frombuffer(times, "i8").reshape(-1, max(1, self.count))
        return Seen(frame_count, size, segment_count, np.diff(deals), times_ns)

    def _ask(self, *what: Any) -> Any:
        with contextlib.suppress(BrokenPipeError):  # why it ended has been told
            self._pipe.send(what)
        while True:
            kind, value = self._told()
            if kind == DONE:
                return value

    def _told(self) -> tuple[str, Any]:
        """The next thing that is told. Raises Lost."""
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise Lost("the process with the clients has ended") from None
        if kind == LOST:
            raise Lost(value)
        if kind == DELIVERED:
            self._delivered_count = value
        return kind, value
