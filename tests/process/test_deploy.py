"""A deployed exchange, operated by its scripts alone, as cron calls them: without an environment, from elsewhere."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import psutil
import pytest

from engine import kernel
from supervisor import lock
from tests.process.exchange import PATIENCE_S, PIT, POLL_S, REPLY_TIMEOUT_S, START_TIMEOUT_S, Running, write_conf
from tests.process.test_lifecycle import NAMES

# Kernels are compiled already (scripts/test); a deployed exchange has a cache of its own, which would be empty.
CACHE = {"TRADEPIT_CACHE_DIR": str(Path(kernel.cache_folder()).parent)}
assert Path(numba.config.CACHE_DIR).parent == Path(CACHE["TRADEPIT_CACHE_DIR"])


@dataclass(frozen=True)
class Deployed:
    """A folder that `pit deploy` has made."""

    directory: Path

    @property
    def running(self) -> Running:
        return Running(self.directory / "tradepit.toml")

    def script(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Call a script as cron does."""
        command = [str(self.directory / name), *arguments]
        return subprocess.run(
            command,
            env=CACHE,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )

    def done(self, name: str, *arguments: str) -> str:
        """Call a script that must succeed; what it says."""
        done = self.script(name, *arguments)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def pids(self) -> dict[str, int]:
        """Of the processes, and of the supervisor."""
        facts = json.loads(self.script("bin/pit", "status", "--json").stdout)
        return {row["name"]: row["pid"] for row in facts["processes"]} | {"supervisor": facts["pid"]}

    def logs(self) -> str:
        files = sorted(self.directory.glob("*/log/*.log"))
        return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """In a folder with a space in its name. A process that ends by itself stays down at once."""
    with laid_out(tmp_path_factory.mktemp("deploy"), supervisor={"restart_count_max": 0}) as place:
        yield place


@contextmanager
def laid_out(folder: Path, **sections: Any) -> Iterator[Deployed]:
    """An exchange of its own, which is stopped at the end if it runs."""
    place = Deployed(folder / "my exchange")
    command = [*PIT, "deploy", str(place.directory), "--conf", str(write_conf(folder, **sections))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        yield place
    finally:
        if lock.is_held(place.running.settings.paths):
            place.done("shell/stop.sh")


@pytest.fixture
def started(deployed: Deployed) -> Deployed:
    """It runs."""
    if not lock.is_held(deployed.running.settings.paths):
        deployed.done("shell/start.sh")
    return deployed


@pytest.fixture
def stopped(deployed: Deployed) -> Deployed:
    """It does not run, because an operator wants that."""
    if lock.is_held(deployed.running.settings.paths):
        deployed.done("shell/stop.sh")
    return deployed


def market_name(deployed: Deployed) -> str:
    return str(deployed.running.call("market.list")[0]["name"])


def exchange_name(deployed: Deployed) -> str:
    """The one that charts show: a setting of the http process."""
    connection = http.client.HTTPConnection(deployed.running.settings.http.bind, timeout=REPLY_TIMEOUT_S)
    try:
        connection.request("GET", f"/udf/symbols?symbol={market_name(deployed)}")
        return str(json.loads(connection.getresponse().read())["exchange"])
    finally:
        connection.close()


def test_it_runs_and_each_process_writes_its_own_log(started: Deployed) -> None:
    assert market_name(started)
    assert set(started.pids()) == {*NAMES, "supervisor"}
    for name in (*NAMES, "supervisor"):
        assert (started.directory / name / "log" / f"{name}.log").exists(), name
    assert "the exchange is up" in (started.directory / "supervisor/log/supervisor.log").read_text()
    assert "the settings are good" in started.done("bin/pit", "check-conf")


def test_check_alive_has_nothing_to_say_when_all_is_well(started: Deployed) -> None:
    for name in ("shell", "matcher/shell", "ws-0/shell"):
        done = started.script(f"{name}/check_alive.sh")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


def test_restart_of_one_process_leaves_the_others_alone(started: Deployed) -> None:
    before = started.pids()
    started.done("matcher/shell/restart.sh")
    after = started.pids()
    assert {name for name in before if before[name] != after[name]} == {"matcher"}
    started.done("supervisor/shell/restart.sh")
    assert started.pids() == after  # it begins anew as the same process


def test_settings_of_one_process_are_for_it_alone(started: Deployed) -> None:
    own = {name: started.directory / name / "conf/config.toml" for name in ("http", "matcher")}
    before = {name: path.read_text() for name, path in own.items()}
    own["http"].write_text(before["http"] + '[http]\nexchange_name = "ours"\n[process.http]\nfile_limit = 5000\n')
    own["matcher"].write_text(before["matcher"] + '[http]\nexchange_name = "theirs"\n')
    try:
        for name in own:
            started.done(f"{name}/shell/restart.sh")
        assert exchange_name(started) == "ours"
        limits = {name: psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0] for name, pid in started.pids().items()}
        assert {name for name, limit in limits.items() if limit == 5000} == {"http"}
    finally:
        for name, path in own.items():
            path.write_text(before[name])
    assert "http: " in started.script("bin/pit", "reload").stdout  # which says that it needs a restart
    started.done("bin/pit", "reload", "--restart")


def test_check_alive_starts_what_has_failed(started: Deployed) -> None:
    pids = started.pids()
    os.kill(pids["http"], signal.SIGKILL)
    _await(lambda: started.running.status()["http"]["state"] == "failed", started)
    assert started.script("ws-0/shell/check_alive.sh").returncode == 0
    done = started.script("http/shell/check_alive.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ALERT check-alive: http is failed; restarting http\n"
    assert market_name(started)
    after = started.pids()
    assert {name for name in pids if pids[name] != after[name]} == {"http"}


def test_check_alive_brings_back_an_exchange_that_was_killed(started: Deployed) -> None:
    started.running.call("balance.update", 1, "BTC", "deposit", 1, "1.5", {})
    for pid in started.pids().values():
        os.kill(pid, signal.SIGKILL)
    done = started.script("shell/check_alive.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ALERT check-alive: the exchange does not run; starting it\n"
    assert started.running.call("balance.query", 1, "BTC")["BTC"]["available"] == "1.5"
    assert "check-alive" in started.running.alerts()
    done = started.script("shell/check_alive.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_checks_at_the_same_time_start_one_exchange(started: Deployed) -> None:
    for pid in started.pids().values():
        os.kill(pid, signal.SIGKILL)
    checks = [
        subprocess.Popen(
            [started.directory / name / "shell/check_alive.sh"], env=CACHE, stderr=subprocess.PIPE, text=True
        )
        for name in NAMES
    ]
    said = [check.communicate(timeout=START_TIMEOUT_S)[1] for check in checks]
    assert {check.returncode for check in checks} <= {0, 1}  # 0: it looked when another had started it
    assert sum("starting it" in text for text in said) == 1, said
    assert "failed" not in "".join(said), said
    started.done("shell/check_alive.sh")


def test_a_backup_of_a_running_exchange_is_an_exchange(started: Deployed, tmp_path: Path) -> None:
    running = started.running
    running.call("balance.update", 11, "BTC", "deposit", 11, "3", {})
    running.call("balance.update", 12, "USD", "deposit", 12, "500", {})
    running.call("order.put_limit", 11, "BTCUSD", 1, "2", "100", "0", "0", "backup")
    started.done("bin/pit", "snapshot")
    running.call("order.put_limit", 12, "BTCUSD", 2, "1.5", "100", "0", "0", "backup")
    with laid_out(tmp_path) as restored:
        data_dir = restored.running.settings.data_dir
        for name in ("snapshots", "journal"):  # in this order: a snapshot needs the journal behind it
            shutil.copytree(running.settings.data_dir / name, data_dir / name)
        restored.done("shell/start.sh")
        other = restored.running
        other.wait_stored("recorder", "market")
        for question in (
            ("balance.query", 11),
            ("balance.query", 12),
            ("order.pending", 11, "BTCUSD", 0, 10),
            ("market.user_deals", 12, "BTCUSD", 0, 10),
            ("market.deals", "BTCUSD", 10, 0),
        ):
            assert other.call(*question) == running.call(*question), question
        restored.done("bin/pit", "audit")


def test_what_an_operator_has_stopped_stays_down(stopped: Deployed) -> None:
    for name in ("shell", "http/shell"):
        done = stopped.script(f"{name}/check_alive.sh")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not lock.is_held(stopped.running.settings.paths)


def test_restart_starts_an_exchange_that_does_not_run(stopped: Deployed) -> None:
    stopped.done("matcher/shell/restart.sh")
    assert market_name(stopped)
    before = stopped.pids()
    stopped.done("shell/restart.sh")
    assert not before.items() & stopped.pids().items()


def test_a_process_runs_by_itself(stopped: Deployed) -> None:
    with subprocess.Popen([stopped.directory / "matcher/bin/matcher"], env=CACHE, cwd="/") as process:
        try:
            _await(lambda: (stopped.running.settings.paths.sockets_dir / "commands.sock").exists(), stopped)
            with stopped.running.client() as client:
                client.ping(PATIENCE_S * 1000)
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


def test_systemd_is_told_by_the_process_that_it_has_started(stopped: Deployed, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        systemd.settimeout(START_TIMEOUT_S)
        command = ["/bin/sh", str(stopped.directory / "bin/pit"), "up"]
        with subprocess.Popen(command, env=CACHE | {"NOTIFY_SOCKET": str(tmp_path / "notify")}, cwd="/") as process:
            try:
                said, told, _, _ = systemd.recvmsg(4096, socket.CMSG_SPACE(12))
                assert b"READY=1" in said.splitlines()
                assert int.from_bytes(told[0][2][:4], "little") == process.pid  # NotifyAccess=main
            finally:
                process.terminate()
                assert process.wait(PATIENCE_S) == 0


def _await(is_so: Callable[[], bool], deployed: Deployed) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, deployed.logs()
        time.sleep(POLL_S)
