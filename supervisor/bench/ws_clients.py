"""Many WebSocket clients in a process that does nothing but read, and counts what it has read.

It shares two CPUs with the server that is measured, so it costs as little as it can: one epoll, edge-triggered, one
buffer, no protocol but the headers of frames. All connections are sent the same, so the deals in a frame are counted
on the first one only. What is looked up by file descriptor stands in lists: that is quickest.
"""

import contextlib
import resource
import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from supervisor.bench import ws_frames

BUFFER_SIZE = 256 * 1024
SHAKING_MAX = 200  # at once
EVENTS_MAX = 8192
TCP_INFO = socket.IPPROTO_TCP, socket.TCP_INFO, 256  # what getsockopt is asked for
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close without a TIME_WAIT, so that ports do not run out
TIMEOUT_S = 30.0
QUIET_S = 0.2  # without a frame: nothing more comes
DEAL = b'"price"'  # once in each
DONE, LOST, DELIVERED = "done", "lost", "delivered"  # what is told: the answer, why there is none, deals so far


class Lost(Exception):
    """A connection ended, was refused, or said something that is not expected."""


class Clients:
    """All connections; does what is asked through the pipe.

    connect: count        open more              seconds
    say: requests         on all connections
    begin: timed_count    count from zero
    settle                until nothing comes
    end                   stop counting          what was counted
    """

    def __init__(self, pipe: "Connection[Any, Any]", host: str, port: int) -> None:
        self._pipe = pipe
        self._address = (host, port)
        self._epoll = select.epoll()
        self._epoll.register(pipe.fileno(), select.EPOLLIN)
        self._sockets: list[socket.socket] = []
        self._first_fd = -1
        self._receive: list[Callable[[bytearray], int]] = []  # by file descriptor
        self._places: list[int] = []  # among all connections, likewise
        self._counts: list[int] = []  # of frames, likewise
        self._rests: dict[int, bytes] = {}  # of frames that have come in part
        self._buffer = bytearray(BUFFER_SIZE)
        self._begin(0)
        self._is_telling = False

    def run(self) -> None:
        """Until the pipe is closed."""
        while True:
            if not self._turn(-1):
                continue
            try:
                what = self._pipe.recv()
            except EOFError:
                return
            self._pipe.send((DONE, self._do(*what)))

    def _do(self, what: str, *values: Any) -> Any:
        match what:
            case "connect":
                return self._connect(*values)
            case "say":
                return self._say(*values)
            case "begin":
                return self._begin(*values)
            case "settle":
                return self._settle()
            case _:
                return self._end()

    def _connect(self, count: int) -> float:
        """Open so many; the seconds that this took until all handshakes were answered."""
        begin_s = time.perf_counter()
        for start in range(0, count, SHAKING_MAX):
            for connection in [self._open() for _ in range(min(SHAKING_MAX, count - start))]:
                self._shake(connection)
        return time.perf_counter() - begin_s

    def _say(self, requests: Sequence[bytes]) -> None:
        """Send requests on all connections, and read until all have succeeded."""
        for connection in self._sockets:
            connection.send(b"".join(requests))
        count = len(self._sockets) * len(requests)
        deadline_s = time.monotonic() + TIMEOUT_S
        while count and time.monotonic() < deadline_s:
            count -= self._read_successes()
        if count:
            raise Lost(f"{count} requests were not answered in {TIMEOUT_S:g} s")

    def _read_successes(self) -> int:
        """Read what comes within a moment; how many requests have succeeded."""
        count = 0
        for fd, _ in self._epoll.poll(QUIET_S, EVENTS_MAX):
            if fd == self._pipe.fileno():
                continue
            data = self._rests.pop(fd, b"")
            while size := self._receive_some(fd):
                data += self._buffer[:size]
            _, rest = ws_frames.walk(data, len(data))
            if data.find(ws_frames.REFUSED, 0, rest) >= 0:
                raise Lost(f"a request was refused: {data[:rest]!r}")
            count += data.count(ws_frames.SUCCESS, 0, rest)
            if rest < len(data):
                self._rests[fd] = data[rest:]
        return count

    def _open(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=TIMEOUT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.send(ws_frames.HANDSHAKE)
        return connection

    def _shake(self, connection: socket.socket) -> None:
        answer = b""
        while ws_frames.HANDSHAKE_END not in answer:
            answer += (data := connection.recv(4096))
            if not data or not answer.startswith(ws_frames.ACCEPTED[: len(answer)]):
                raise Lost(f"the handshake was answered with {answer!r}")
        connection.setblocking(False)
        fd = connection.fileno()
        while len(self._receive) <= fd:
            self._receive.append(connection.recv_into)
            self._places.append(0)
            self._counts.append(0)
        self._receive[fd] = connection.recv_into
        self._places[fd] = len(self._sockets)
        if not self._sockets:
            self._first_fd = fd
        self._sockets.append(connection)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def _receive_some(self, fd: int) -> int:
        """Bytes that have come; 0: no more at the moment."""
        try:
            size = self._receive[fd](self._buffer)
        except BlockingIOError:
            return 0
        if not size:
            raise Lost("the server closed a connection")
        return size

    def _begin(self, timed_count: int) -> None:
        """Count from zero; note the time of each of so many frames on each connection, or else tell how far it is."""
        self._counts = [0] * len(self._counts)
        self._frame_count = self._size = self._delivered_count = 0
        self._deals = [0]  # that have come with so many frames, on the first connection
        self._is_timed = timed_count > 0
        self._is_telling = not self._is_timed
        self._times = array("q", bytes(8 * timed_count * len(self._sockets)))
        self._segment_count = self._segments()

    def _end(self) -> tuple[int, int, int, list[int], bytes]:
        """What a Seen is made from."""
        self._is_telling = False
        least = min((self._counts[each.fileno()] for each in self._sockets), default=0)
        if least * len(self._sockets) != self._frame_count:
            raise Lost(f"of {self._frame_count} frames on {len(self._sockets)} connections one got {least} only")
        return self._frame_count, self._size, self._segments() - self._segment_count, self._deals, self._times.tobytes()

    def _segments(self) -> int:
        return sum(ws_frames.segment_count(each.getsockopt(*TCP_INFO)) for each in self._sockets)

    def _settle(self) -> None:
        """Read until nothing more comes."""
        size = -1
        while size != self._size:
            size = self._size
            self._turn(QUIET_S)

    def _turn(self, timeout_s: float) -> bool:
        """Read what has come on all connections, tell how many deals every one of them has; whether more is asked."""
        receive, buffer, counts, rests = self._receive, self._buffer, self._counts, self._rests
        first_fd, pipe_fd, is_timed = self._first_fd, self._pipe.fileno(), self._is_timed
        frame_count = all_size = 0
        is_asked = False
        for fd, _ in self._epoll.poll(timeout_s, EVENTS_MAX):
            if fd == pipe_fd:
                is_asked = True
                continue
            try:
                size = receive[fd](buffer)
            except BlockingIOError:
                continue
            if size == 4 + (buffer[2] << 8) + buffer[3] and buffer[1] == 126 and fd not in rests and fd != first_fd:
                count = 1  # nearly always when each frame is sent alone
            else:
                count, size = self._take(fd, size)
            if is_timed:
                self._note(fd, count)
            counts[fd] += count
            frame_count += count
            all_size += size
        if all_size:
            self._frame_count += frame_count
            self._size += all_size
            if self._is_telling:
                self._tell()
        return is_asked

    def _take(self, fd: int, size: int) -> tuple[int, int]:
        """The frames and bytes in the buffer, and what comes after a full buffer."""
        frame_count = all_size = 0
        while size:
            all_size += size
            before = self._rests.pop(fd, b"")
            data = before + self._buffer[:size] if before else self._buffer
            end = len(before) + size
            count, rest = ws_frames.walk(data, end)
            frame_count += count
            if rest < end:
                self._rests[fd] = bytes(data[rest:end])
            if fd == self._first_fd:
                self._count_deals(data, rest)
            if size < BUFFER_SIZE:
                return frame_count, all_size
            size = self._receive_some(fd)
        if not all_size:
            raise Lost("the server closed a connection")
        return frame_count, all_size

    def _count_deals(self, frames: bytes | bytearray, size: int) -> None:
        start = 0
        while start < size:
            end = ws_frames.end_of_frame(frames, start, size)
            self._deals.append(self._deals[-1] + frames.count(DEAL, start, end))
            start = end

    def _note(self, fd: int, count: int) -> None:
        now_ns = time.monotonic_ns()
        for number in range(self._counts[fd], self._counts[fd] + count):
            self._times[number * len(self._sockets) + self._places[fd]] = now_ns

    def _tell(self) -> None:
        whole_count = self._frame_count // len(self._sockets)
        delivered_count = self._deals[min(whole_count, len(self._deals) - 1)]
        if delivered_count > self._delivered_count:
            self._delivered_count = delivered_count
            self._pipe.send((DELIVERED, delivered_count))


def allow_open_files() -> int:
    """Let this process have as many open files as it may; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main(pipe: "Connection[Any, Any]", host: str, port: int) -> None:
    """The process."""
    allow_open_files()
    try:
        Clients(pipe, host, port).run()
    except (Lost, OSError) as error:
        with contextlib.suppress(OSError):  # whoever might read it has gone
            pipe.send((LOST, str(error)))
