"""What an operator does with a running exchange: new settings, a new supervisor, processes of their own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from supervisor import lock
from tests.process.exchange import PIT, START_TIMEOUT_S, Running, exchange, write_conf

PATIENCE_S = 60.0
CYCLES = 3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One exchange for all tests here."""
    with exchange(tmp_path_factory.mktemp("operations"), http={"keep_alive_s": 60}) as running:
        yield running


def change(running: Running, before: str, after: str) -> None:
    text = running.conf_file.read_text()
    assert before in text
    running.conf_file.write_text(text.replace(before, after))


def wait_until(what: Callable[[], bool], running: Running) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, running.logs()
        time.sleep(0.02)


def pids(running: Running) -> dict[str, int]:
    return {name: int(row["pid"]) for name, row in running.status().items()}


def test_reload_says_what_needs_a_restart_and_does_it_when_told(running: Running) -> None:
    assert running.pit("reload").stdout == ""
    before = pids(running)
    change(running, "keep_alive_s = 60", "keep_alive_s = 61")
    done = running.pit("reload", check=False)
    assert done.returncode == 1
    assert "http: http.keep_alive_s changed; needs a restart" in done.stdout
    assert running.status()["http"]["changed_settings"] == ["http.keep_alive_s"]
    assert "settings have changed since these began: http" in running.pit("status").stdout
    assert pids(running) == before
    assert "restarting" in running.pit("reload", "--restart").stdout
    after = pids(running)
    assert {name for name in after if after[name] != before[name]} == {"http"}
    change(running, "keep_alive_s = 61", "keep_alive_s = 60")
    running.pit("reload", "--restart")
    assert running.pit("reload").stdout == ""


def test_reload_starts_and_ends_processes_that_are_more_or_fewer(running: Running) -> None:
    change(running, "[ws]\n", "[ws]\nworkers = 2\n")
    assert running.pit("reload").stdout == "ws-1: begins\n"
    wait_until(lambda: running.status()["ws-1"]["state"] == "ready", running)
    pid = pids(running)["ws-1"]
    change(running, "[ws]\nworkers = 2\n", "[ws]\n")
    assert running.pit("reload").stdout == "ws-1: ends\n"
    wait_until(lambda: "ws-1" not in running.status(), running)
    assert not psutil.pid_exists(pid)
    assert "ws-1" not in running.alerts()


def test_settings_that_are_wrong_change_nothing(running: Running) -> None:
    before = pids(running)
    change(running, "keep_alive_s = 60", "keep_alive_s = -1")
    try:
        for command in (("restart", "http"), ("reload",), ("restart", "supervisor")):
            done = running.pit(*command, check=False)
            assert done.returncode != 0
            assert "http.keep_alive_s: a number from 0 to 86400 is needed, not -1" in done.stderr
    finally:
        change(running, "keep_alive_s = -1", "keep_alive_s = 60")
    assert pids(running) == before


def test_the_supervisor_starts_anew_again_and_again_while_the_exchange_runs(running: Running) -> None:
    before, supervisor_pid = pids(running), lock.holder_pid(running.settings.paths)
    open_count = psutil.Process(supervisor_pid).num_fds()
    for number in range(CYCLES):
        running.pit("restart", "supervisor")
        assert running.call("balance.update", 1, "BTC", "again", number, "1", {}) == {"status": "success"}
    assert pids(running) == before
    assert lock.holder_pid(running.settings.paths) == supervisor_pid
    assert psutil.Process(supervisor_pid).num_fds() <= open_count + 1
    for name in ("matcher", "http"):  # it still is the one who brings them back
        os.kill(before[name], signal.SIGKILL)
        wait_until(lambda name=name: pids(running)[name] not in (0, before[name]), running)  # type: ignore[misc]
    wait_until(lambda: all(row["state"] == "ready" for row in running.status().values()), running)
    assert running.call("balance.query", 1, "BTC")["BTC"]["available"] == str(CYCLES)


def test_a_hung_process_is_found_by_the_next_run_too(tmp_path: Path) -> None:
    with exchange(tmp_path, supervisor={"heartbeat_timeout_s": 2}) as running:
        pid = pids(running)["recorder"]
        os.kill(pid, signal.SIGSTOP)
        running.pit("restart", "supervisor")
        wait_until(lambda: pids(running)["recorder"] not in (0, pid), running)
        assert "recorder was killed: no heartbeat for 2 s" in running.alerts()


def test_after_a_killed_supervisor_up_starts_everything_again(tmp_path: Path) -> None:
    with exchange(tmp_path) as running:
        running.call("balance.update", 1, "BTC", "kill", 1, "7", {})
        before = pids(running)
        os.kill(lock.holder_pid(running.settings.paths), signal.SIGKILL)
        running.pit("up", "--detach")
        assert not set(before.values()) & set(pids(running).values())
        assert running.call("balance.query", 1, "BTC")["BTC"]["available"] == "7"


def test_systemd_is_told_when_all_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(START_TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        running = Running(write_conf(tmp_path))
        with subprocess.Popen([*PIT, "up", "--conf", str(running.conf_file)], stdout=subprocess.DEVNULL) as process:
            told = b""
            while b"READY=1" not in told:
                told += systemd.recv(1024) + b"\n"
            assert running.call("market.list")
            running.pit("restart", "supervisor")
            while told.count(b"WATCHDOG=1") < 3:
                told += systemd.recv(1024) + b"\n"
            process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in told:
                told += systemd.recv(1024) + b"\n"
            assert process.wait(START_TIMEOUT_S) == 0


def test_a_process_has_its_log_and_its_settings_in_a_folder_of_its_own(tmp_path: Path) -> None:
    conf = tmp_path / "apart" / "http" / "conf" / "config.toml"
    conf.parent.mkdir(parents=True)
    conf.write_text("[process.http]\nfile_limit = 777\n")
    with exchange(tmp_path, supervisor={"processes_dir": "apart"}) as running:
        (limit,) = re.findall(r"Max open files\s+(\d+)", Path(f"/proc/{pids(running)['http']}/limits").read_text())
        assert limit == "777"
        assert (tmp_path / "apart" / "matcher" / "log" / "matcher.log").read_text()
        assert "matcher ready" in running.pit("logs", "matcher").stdout
        conf.write_text("[process.http]\nfile_limit = 778\n")
        assert "http: process.http.file_limit changed" in running.pit("reload", check=False).stdout
        conf.write_text('data_dir = "x"\n')
        assert "all processes must agree on it" in running.pit("restart", "http", check=False).stderr
        os.kill(pids(running)["http"], signal.SIGKILL)  # it comes back with what was good
        wait_until(lambda: running.status()["http"]["state"] == "ready", running)


def test_processes_run_alone_and_exclude_a_supervisor(tmp_path: Path) -> None:
    running = Running(write_conf(tmp_path))
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(alone(running, name)) for name in ("matcher", "http")]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError, AssertionError):
                assert running.ask("balance.update", 1, "BTC", "alone", 1, "3", {})["error"] is None
                break
            assert time.monotonic() < deadline
            assert all(each.poll() is None for each in started)
            time.sleep(0.05)
        for command, why in (
            (("up", "--detach"), "still use"),
            (("run", "matcher"), "matcher already runs in"),
            (("run", "nobody"), "there is no process nobody"),
        ):
            done = running.pit(*command, check=False)
            assert done.returncode == 1
            assert why in done.stderr
    assert [each.returncode for each in started] == [0, 0]
    running.pit("up", "--detach")
    assert "an exchange already runs in" in running.pit("run", "http", check=False).stderr
    assert running.call("balance.query", 1, "BTC")["BTC"]["available"] == "3"
    running.pit("down")


@contextlib.contextmanager
def alone(running: Running, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "supervisor.cli", "run", name, "--conf", str(running.conf_file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)
