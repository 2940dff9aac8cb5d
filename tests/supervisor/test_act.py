"""The supervisor over real processes: stand-ins that are ready, die, hang, or do not want to end."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.paths import Paths
from supervisor import control, lock

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_S = 30.0  # on a busy machine, too
_numbers = itertools.count(1)


class Running:
    """A supervisor over stand-ins, in a process of its own."""

    def __init__(self, paths: Paths, process: "subprocess.Popen[str]") -> None:
        self.paths = paths
        self.process = process

    def status(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in control.ask(self.paths, {"do": "status"})["processes"]}

    def wait(self, what: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(control.NotRunning):
                if what(rows := self.status()):
                    return rows
            time.sleep(0.01)
        raise AssertionError(f"it did not come to that; it said:\n{self.stop()}")

    def wait_ready(self) -> dict[str, dict[str, Any]]:
        return self.wait(lambda rows: all(row["state"] == "ready" for row in rows.values()))

    def wait_restarted(self, count: int) -> None:
        self.wait(lambda rows: all(row["restart_count"] >= count for row in rows.values()))

    def stop(self, number: int = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=PATIENCE_S)[0]


def lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def run(data_dir: Path, *rows: str, special: dict[str, Any] | None = None, **limits: float | str) -> Iterator[Running]:
    """Run the supervisor over `rows` of run_table.py; `limits` are of [supervisor], `special` of [process.NAME]."""
    instance = f"test-{os.getpid()}-{next(_numbers)}"
    command = [
        sys.executable,
        str(HERE / "run_table.py"),
        str(data_dir),
        instance,
        json.dumps({"supervisor": limits, "process": special or {}}),
        *rows,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    with process:
        try:
            yield Running(Paths(data_dir, instance), process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            process.kill()
    assert lock.wait_free(Paths(data_dir, instance), PATIENCE_S), "a process was left behind"


def test_starts_in_order_and_stops_in_reverse(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady", "b=steady:a") as running:
        running.wait_ready()
        said = running.stop(signal.SIGINT)
    order = [
        said.index(words) for words in ("a: ready", "b: started", "b: ready", "b: ended", "a: stopping", "a: ended")
    ]
    assert order == sorted(order)
    assert running.process.returncode == 0
    assert (tmp_path / "logs" / "a.log").read_text() == "steady begins\nsteady ends\n"
    assert not control.socket_file(running.paths).exists()
    assert not running.paths.alerts_file.exists()


def test_each_steps_back_for_the_others_as_its_row_says(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with run(tmp_path, "a=steady", "b=steady:a:3", "c=numbered::1:7") as running:
        rows = running.wait_ready()
        found = {name: os.getpriority(os.PRIO_PROCESS, row["pid"]) - own for name, row in rows.items()}
        assert found == {"a": 0, "b": 3, "c": 1}
    assert (tmp_path / "logs" / "c.log").read_text() == "number 7\n"


def test_a_process_that_is_killed_is_back_at_once(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as running:
        pid = running.wait_ready()["a"]["pid"]
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        rows = running.wait(lambda rows: rows["a"]["pid"] not in (0, pid) and rows["a"]["state"] == "ready")
        assert time.monotonic() - killed_at < 1.0
        assert rows["a"]["restart_count"] == 1
        assert "a ended: killed by SIGKILL; it is started again" in running.paths.alerts_file.read_text()


def test_all_processes_may_die_in_the_same_moment_again_and_again(tmp_path: Path) -> None:
    names = "abcdefgh"
    with run(tmp_path, *(f"{name}=steady" for name in names), restart_count_max=1000) as running:
        for round_number in range(4):
            for row in running.wait_ready().values():
                os.kill(row["pid"], signal.SIGKILL)
            running.wait_restarted(round_number + 1)


def test_workers_do_not_outlive_their_master(tmp_path: Path) -> None:
    with run(tmp_path, "a=with_worker") as running:
        pid = running.wait_ready()["a"]["pid"]
        (worker,) = psutil.Process(pid).children()
        os.kill(pid, signal.SIGKILL)
        running.wait(lambda rows: rows["a"]["pid"] not in (0, pid))
        deadline = time.monotonic() + PATIENCE_S
        while lives(worker.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_failed_start_ends_everything_with_the_reason(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady", "b=failing:a") as running:
        said = running.process.communicate(timeout=PATIENCE_S)[0]
    assert running.process.returncode == 1
    assert "FAILED b ended while the exchange was starting: exit code 7." in said
    assert "the disk is made of cheese" in said
    assert "a: ended" in said
    assert "the exchange could not be started: b ended: exit code 7" in running.paths.alerts_file.read_text()


def test_a_process_that_always_fails_is_given_up_and_a_restart_tries_again(tmp_path: Path) -> None:
    with run(tmp_path, "a=crashing_once_up", restart_count_max=2) as running:
        running.wait_ready()
        (tmp_path / "spoiled").touch()
        assert running.wait(lambda rows: rows["a"]["state"] == "failed")["a"]["restart_count"] == 2
        assert "it stays down" in running.paths.alerts_file.read_text()
        (tmp_path / "spoiled").unlink()
        control.ask(running.paths, {"do": "restart", "name": "a"})
        running.wait_ready()


def test_a_process_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    with run(tmp_path, "a=hanging", heartbeat_timeout_s=2) as running:
        pid = running.wait_ready()["a"]["pid"]
        running.wait(lambda rows: rows["a"]["pid"] not in (0, pid))
        assert "no heartbeat for 2 s" in running.paths.alerts_file.read_text()


def test_a_process_that_will_not_end_is_killed(tmp_path: Path) -> None:
    with run(tmp_path, "a=stubborn", stop_timeout_s=0.3) as running:
        running.wait_ready()
        assert "it has not ended 0.3 s after SIGTERM" in running.stop()
        assert "a did not stop in order: killed by SIGKILL" in running.paths.alerts_file.read_text()


def test_a_second_interrupt_ends_the_patience(tmp_path: Path) -> None:
    with run(tmp_path, "a=stubborn", stop_timeout_s=60) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        begun_at = time.monotonic()
        running.stop(signal.SIGINT)
        assert time.monotonic() - begun_at < PATIENCE_S / 2


def test_processes_do_not_outlive_a_killed_supervisor_and_the_next_one_waits_for_them(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as first:
        pid = first.wait_ready()["a"]["pid"]
        first.process.kill()
        first.process.wait()
        with run(tmp_path, "a=steady") as second:
            assert second.wait_ready()["a"]["pid"] != pid
            assert not lives(pid)


def test_the_same_data_folder_twice_is_refused(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as first:
        first.wait_ready()
        with pytest.raises(lock.InUse, match=rf"already runs in .* \(supervisor pid {first.process.pid}\)"):
            lock.take(first.paths)
        assert lock.holder_pid(first.paths) == first.process.pid


def test_the_same_instance_in_another_folder_is_refused(tmp_path: Path) -> None:
    with run(tmp_path / "one", "a=steady") as first:
        first.wait_ready()
        other = Paths(tmp_path / "two", first.paths.instance)
        other.make()
        with pytest.raises(lock.InUse, match="already runs on this machine with another data folder"):
            lock.take(other)
        assert not lock.is_held(other)


def test_the_control_socket_answers_nonsense_politely(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as running:
        running.wait_ready()
        for request in ({"do": "dance"}, {"do": "restart", "name": "zz"}, {"do": "restart"}, {}):
            with pytest.raises(control.Refused):
                control.ask(running.paths, request)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(control.socket_file(running.paths)))
        connection.sendall(b"x" * 100_000)
        assert running.status()["a"]["state"] == "ready"
        connection.close()


def test_nobody_answers_where_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(control.NotRunning):
        control.ask(Paths(tmp_path, "none"), {"do": "status"})


def test_the_warm_parent_has_no_threads() -> None:
    code = (
        "from conf.settings import Settings; from supervisor import act, table;"
        "act.warm(table.processes(Settings())); act.settle()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_a_machine_without_room_for_another_process_is_a_failure_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKS_FAIL", "2")
    with run(tmp_path, "a=crashing_once_up", restart_count_max=9) as running:
        running.wait_ready()
        (tmp_path / "spoiled").touch()
        running.wait(lambda rows: rows["a"]["pid"] == 0)
        (tmp_path / "spoiled").unlink()
        running.wait_ready()
        assert "a ended: it could not be forked, [Errno 11]" in running.paths.alerts_file.read_text()


def test_the_exchange_starts_without_what_may_be_missing_and_goes_on_trying_it(tmp_path: Path) -> None:
    (tmp_path / "spoiled").touch()
    with run(tmp_path, "spare=crashing_once_up", "a=steady") as running:
        running.wait(lambda rows: rows["a"]["state"] == "ready" and rows["spare"]["restart_count"] >= 1)
        assert "spare ended: exit code 9" in running.paths.alerts_file.read_text()
        (tmp_path / "spoiled").unlink()
        running.wait_ready()
