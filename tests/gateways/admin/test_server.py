"""The sockets of the admin port, with answers made for the test: limits, slow and silent clients."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from gateways.admin.server import FULL, LINE_SIZE_MAX, Server, listen

PATIENCE_S = 60.0
PART = b"x" * 65_536
MUCH_PART_COUNT = 10_000
KERNEL_SIZE_MAX = 64 << 20  # what sockets of both ends can hold, by far


class Answers:
    """Echoes a line; `much` is answered with more than any buffer holds; counts the parts that were made."""

    def __init__(self) -> None:
        self.part_count = 0

    def __call__(self, line: bytes) -> Iterator[bytes]:
        for _ in range(MUCH_PART_COUNT if line == b"much\n" else 0):
            self.part_count += 1
            yield PART
        yield b""
        yield line


class Serving:
    """A server at work, and connections to it."""

    def __init__(self, answers: Answers, address: tuple[str, int]) -> None:
        self.answers = answers
        self._address = address
        self._open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        self._open.append(socket.create_connection(self._address, timeout=PATIENCE_S))
        return self._open[-1]

    def close(self) -> None:
        for connection in self._open:
            connection.close()


@contextmanager
def serving(
    *, connection_count_max: int = 32, idle_timeout_s: float = PATIENCE_S, send_timeout_s: float = PATIENCE_S
) -> Iterator[Serving]:
    """A server in a loop of its own thread."""
    answers = Answers()
    server = Server(
        answers,
        connection_count_max=connection_count_max,
        idle_timeout_s=idle_timeout_s,
        send_timeout_s=send_timeout_s,
    )
    listener, loop, stopping = listen("127.0.0.1:0"), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        await server.start(listener)
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    made = Serving(answers, listener.getsockname())
    thread.start()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
        made.close()


def read_line(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = client.recv(1)
        assert part, line
        line += part
    return line


def answered(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return read_line(client)


def rest(client: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    received = b""
    with suppress(ConnectionResetError):  # it had not read all that was sent
        while part := client.recv(1 << 16):
            received += part
    return received


def test_a_connection_stays_open_for_more_lines() -> None:
    with serving() as server:
        client = server.connect()
        for line in (b"one\n", b"\xff\0\n", b"\n"):
            assert answered(client, line) == line
        client.sendall(b"two\nthree\n")
        assert [read_line(client) for _ in range(2)] == [b"two\n", b"three\n"]


def test_a_second_answer_does_not_wait_for_the_first_to_be_acknowledged() -> None:
    """Which the other end's kernel does after 40 ms, where nothing goes the other way."""
    with serving() as server:
        client, taken_s = server.connect(), []
        for _ in range(20):
            began_s, received = time.monotonic(), b""
            client.sendall(b"one\ntwo\nthree\n")
            while not received.endswith(b"three\n"):
                received += client.recv(100)
            taken_s.append(time.monotonic() - began_s)
        assert min(taken_s[10:]) < 0.03


def test_whoever_ends_his_side_gets_his_answers() -> None:
    with serving() as server:
        client = server.connect()
        client.sendall(b"one\ntwo\nrest without an end")
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == b"one\ntwo\n"


@pytest.mark.parametrize("size", [LINE_SIZE_MAX, 1])
def test_the_longest_and_the_shortest_line_are_answered(size: int) -> None:
    with serving() as server:
        line = b"x" * (size - 1) + b"\n"
        assert answered(server.connect(), line) == line


@pytest.mark.parametrize("data", [b"x" * LINE_SIZE_MAX + b"\n", b"x" * 10_000_000])
def test_a_longer_line_ends_the_connection(data: bytes) -> None:
    with serving() as server:
        client = server.connect()
        with suppress(ConnectionError):
            client.sendall(data)
        assert rest(client) == b""
        assert answered(server.connect(), b"still there\n") == b"still there\n"


def test_a_silent_client_is_let_go() -> None:
    with serving(idle_timeout_s=0.1) as server:
        silent, halting = server.connect(), server.connect()
        halting.sendall(b"half a line")
        assert rest(silent) == rest(halting) == b""


def test_a_client_that_does_not_read_costs_a_buffer_and_is_let_go() -> None:
    with serving(send_timeout_s=0.5) as server:
        stuck, other = server.connect(), server.connect()
        stuck.sendall(b"much\n")
        assert answered(other, b"not held up\n") == b"not held up\n"
        made, last_made = -1, 0
        while made != last_made:  # until nothing more is made for it
            made = last_made
            time.sleep(1.0)
            last_made = server.answers.part_count
        assert 0 < last_made * len(PART) < KERNEL_SIZE_MAX
        assert len(rest(stuck)) < KERNEL_SIZE_MAX


def test_a_slow_reader_gets_all_of_it() -> None:
    with serving() as server:
        slow = server.connect()
        slow.sendall(b"much\n")
        size = MUCH_PART_COUNT * len(PART) + len(b"much\n")
        while size:
            size -= len(slow.recv(min(size, 1 << 20)))
        assert answered(slow, b"next\n") == b"next\n"


def test_too_many_connections_are_told_so_and_the_first_are_served() -> None:
    with serving(connection_count_max=3) as server:
        first = [server.connect() for _ in range(3)]
        assert [answered(client, b"here\n") for client in first] == [b"here\n"] * 3
        assert [rest(server.connect()) for _ in range(20)] == [FULL] * 20
        first.pop().close()
        deadline = time.monotonic() + PATIENCE_S
        while rest_or_line(server.connect()) != b"room\n":
            assert time.monotonic() < deadline
        assert [answered(client, b"here\n") for client in first] == [b"here\n"] * 2


def rest_or_line(client: socket.socket) -> bytes:
    with suppress(ConnectionError):
        return answered(client, b"room\n")
    return b""
