"""The control socket against clients that do not keep to the rules."""

import signal
import socket
import time
from pathlib import Path

from supervisor import control
from tests.supervisor.test_act import Running, run


def connect(running: Running) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(control.socket_file(running.paths)))
    connection.settimeout(10)  # not before: who may not wait is refused while others wait
    return connection


def test_half_a_request_costs_nothing(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as running:
        running.wait_ready()
        with connect(running) as connection:
            connection.sendall(b'{"do": "status"}')
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""


def test_a_request_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as running:
        running.wait_ready()
        with connect(running) as connection:
            connection.sendall(b"[" * 4000 + b"\n")
            assert b"the request is not JSON" in connection.recv(1000)


def test_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as running:
        running.wait_ready()
        silent = [connect(running) for _ in range(40)]
        assert running.status()["a"]["state"] == "ready"
        for connection in silent:
            connection.close()


def test_two_hangups_are_not_impatience(tmp_path: Path) -> None:
    with run(tmp_path, "a=stubborn", stop_timeout_s=1.0) as running:
        running.wait_ready()
        begun = time.monotonic()
        running.process.send_signal(signal.SIGHUP)
        running.wait(lambda rows: rows["a"]["state"] == "stopping")
        running.process.send_signal(signal.SIGHUP)
        assert running.process.wait(30) == 0
        assert time.monotonic() - begun >= 1.0
