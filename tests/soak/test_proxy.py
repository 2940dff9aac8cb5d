"""The proxy passes on what comes both ways, and its connections can be cut."""

import contextlib
import socket
import threading

import pytest

from tests.soak.disturb.proxy import HOST, Proxy

TIMEOUT_S = 30.0


def echo(listener: socket.socket) -> None:
    """Send everybody back what he sends, in a thread each, until the listener is closed."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    found = b""
    while len(found) < len(data) and (part := connection.recv(1 << 16)):
        found += part
    return found


def test_connections_are_passed_on_until_they_are_cut() -> None:
    with socket.create_server((HOST, 0)) as listener, Proxy() as proxy:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        proxy.target_port = listener.getsockname()[1]
        place = (HOST, proxy.port)
        with (
            socket.create_connection(place, TIMEOUT_S) as one,
            socket.create_connection(place, TIMEOUT_S) as other,
        ):
            assert ask(one, b"x" * 100_000) == b"x" * 100_000
            assert ask(other, b"hello") == b"hello"
            proxy.cut(0.0)
            assert proxy.cut_count == 2
            for connection in (one, other):
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""
        with socket.create_connection(place, TIMEOUT_S) as again:
            assert ask(again, b"hello") == b"hello"


def test_whom_nobody_serves_is_disconnected() -> None:
    with socket.create_server((HOST, 0)) as listener:
        unused_port = listener.getsockname()[1]
    with Proxy() as proxy:
        proxy.target_port = unused_port
        with socket.create_connection((HOST, proxy.port), TIMEOUT_S) as connection:
            try:
                assert connection.recv(1) == b""
            except ConnectionError as error:
                pytest.fail(f"it is not closed in order: {error}")
