"""What systemd is told, over a socket as its own."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_states_are_lines(systemd: socket.socket) -> None:
    notify.tell(READY=1, STATUS="8 processes are ready")
    assert systemd.recv(1024) == b"READY=1\nSTATUS=8 processes are ready"


def test_an_abstract_socket_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0tradepit-notify-{os.getpid()}")
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@tradepit-notify-{os.getpid()}")
        notify.tell(STOPPING=1)
        assert listener.recv(1024) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "nonsense", "/gone/socket"])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.tell(READY=1)


def test_the_watchdog_beats_three_times_in_its_time(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    watchdog = notify.Watchdog()
    for now in range(100, 130):
        watchdog.turn(float(now))
    systemd.setblocking(False)
    count = 0
    while True:
        try:
            assert systemd.recv(1024) == b"WATCHDOG=1"
        except BlockingIOError:
            break
        count += 1
    assert count == 3


def test_the_watchdog_of_another_process_is_not_ours(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    notify.Watchdog().turn(1e9)
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1024)
