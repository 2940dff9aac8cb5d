"""Starting, watching, restarting and stopping a whole exchange, with the command that its users have."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from supervisor import lock
from tests.process.exchange import PIT, START_TIMEOUT_S, Running, exchange, write_conf

PATIENCE_S = 60.0
NAMES = ("alertcenter", "matcher", "recorder", "history-0", "market", "http", "ws-0")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One exchange for the tests that leave it as it was."""
    with exchange(tmp_path_factory.mktemp("lifecycle")) as running:
        yield running


def deposit(running: Running, amount: str, business_id: int) -> None:
    running.call("balance.update", 1, "BTC", "deposit", business_id, amount, {})


def available(running: Running) -> str:
    return str(running.call("balance.query", 1, "BTC")["BTC"]["available"])


def answers(running: Running) -> bool:
    """Whether the exchange answers a query that only the matcher's state can answer."""
    try:
        return running.ask("market.list")["error"] is None
    except (OSError, AssertionError):
        return False


def wait_until_back(running: Running, name: str, old_pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        row = running.status()[name]
        if row["pid"] not in (0, old_pid) and row["state"] == "ready" and answers(running):
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} is not back{running.logs()}")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def test_up_returns_when_requests_are_answered(running: Running) -> None:
    assert answers(running)
    rows = running.status()
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(NAMES, "ready")
    assert all(row["restart_count"] == 0 and row["memory_size"] > 0 for row in rows.values())


def test_status_is_a_table_for_people_and_json_for_tools(running: Running) -> None:
    text = running.pit("status").stdout
    assert f'exchange "{running.settings.instance}" is up' in text
    assert all(word in text for word in (*NAMES, "ready", "MiB", "behind"))
    facts = json.loads(running.pit("status", "--json").stdout)
    assert facts["instance"] == running.settings.instance
    assert facts["data_dir"] == str(running.settings.data_dir)
    deposit(running, "1", 1)
    assert json.loads(running.pit("status", "--json").stdout)["sequence"] == facts["sequence"] + 1


def test_the_same_folder_twice_is_refused(running: Running) -> None:
    done = running.pit("up", "--detach", check=False)
    assert done.returncode == 1
    assert "an exchange already runs in" in done.stderr
    assert answers(running)


def test_the_same_instance_elsewhere_is_refused(running: Running, tmp_path: Path) -> None:
    other = Running(write_conf(tmp_path, instance=running.settings.instance))
    done = other.pit("up", "--detach", check=False)
    assert done.returncode == 1
    assert "already runs on this machine with another data folder" in done.stderr
    assert answers(running)


def test_another_exchange_runs_beside_it(running: Running, tmp_path: Path) -> None:
    with exchange(tmp_path) as other:
        deposit(running, "1", 101)
        deposit(other, "2", 101)
        assert available(other) == "2"
    assert answers(running)


def test_a_used_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        conf_file = write_conf(tmp_path, http={"bind": f"127.0.0.1:{taken.getsockname()[1]}"})
        done = Running(conf_file).pit("up", "--detach", check=False)
    assert done.returncode == 1
    assert "http.bind: 127.0.0.1:" in done.stderr
    assert "Address already in use" in done.stderr


@pytest.mark.parametrize("name", ["matcher", "http"])
def test_a_killed_process_comes_back(running: Running, name: str) -> None:
    before = available(running)
    pid = running.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_until_back(running, name, pid)
    assert available(running) == before


@pytest.mark.parametrize("name", ["matcher", "http"])
def test_restart_returns_when_it_is_ready_again(running: Running, name: str) -> None:
    pid, count = running.pid(name), running.status()[name]["restart_count"]
    running.pit("restart", name)
    row = running.status()[name]
    assert (row["state"], row["restart_count"]) == ("ready", count + 1)
    assert row["pid"] != pid
    assert answers(running)


def test_restart_of_nobody_is_refused(running: Running) -> None:
    done = running.pit("restart", "nobody", check=False)
    assert done.returncode == 1
    assert f"there is no process nobody; there are {', '.join(NAMES)}" in done.stderr


def test_logs_and_snapshot(running: Running) -> None:
    assert "the exchange is up" in running.pit("logs", "supervisor", "-n", "1000").stdout
    assert Path(running.pit("snapshot").stdout.strip()).exists()


def test_state_survives_a_stop_and_a_lost_shared_memory(tmp_path: Path) -> None:
    with exchange(tmp_path) as first:
        deposit(first, "1.5", 1)
        settings = first.settings
        processes = family(json.loads(first.pit("status", "--json").stdout)["pid"])
        first.pit("down")
        assert not any(lives(process) for process in processes)
        first.pit("up", "--detach")
        assert available(first) == "1.5"
        pid = first.pid("matcher")
        Path(f"/dev/shm{settings.paths.state_name}").unlink()
        os.kill(pid, signal.SIGKILL)
        wait_until_back(first, "matcher", pid)
        assert available(first) == "1.5"
        assert first.ask("balance.update", 1, "BTC", "deposit", 1, "1.5", {})["error"]["message"] == "repeat update"


def test_an_exchange_that_nobody_has_used_stops_in_order_too(tmp_path: Path) -> None:
    with exchange(tmp_path):
        pass  # leaving it checks


def test_interrupt_in_the_foreground_ends_everything(tmp_path: Path) -> None:
    running = Running(write_conf(tmp_path))
    command = [*PIT, "up", "--conf", str(running.conf_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "curl -s" not in said and (line := process.stdout.readline()):
                said += line
            assert f"http://{running.settings.http.bind}" in said, said
            deposit(running, "3", 1)
            processes = family(process.pid)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=START_TIMEOUT_S)[0]
            assert process.returncode == 0, said
        finally:
            process.kill()
    assert not any(lives(process) for process in processes)
    assert not Path(f"/dev/shm{running.settings.paths.state_name}").exists()
    assert not lock.is_held(running.settings.paths)
    assert not list(running.settings.paths.sockets_dir.iterdir())
    running.pit("up", "--detach")
    assert available(running) == "3"
    running.pit("down")


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    running = Running(write_conf(tmp_path))
    journal_dir = running.settings.paths.journal_dir
    journal_dir.parent.mkdir(parents=True)
    journal_dir.touch()  # a file where a folder must be
    done = running.pit("up", "--detach", check=False)
    assert done.returncode == 1
    assert str(journal_dir) in done.stderr
    assert not lock.is_held(running.settings.paths)
    shutil.rmtree(tmp_path)
