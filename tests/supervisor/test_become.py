"""What a process is given before it begins: user, limits, CPUs, environment; and what is refused beforehand."""

import json
import os
import pwd
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conf.operations import Process, Supervisor
from conf.rules import BadSettings
from conf.settings import Settings
from supervisor.become import refuse_impossible, special
from supervisor.table import Wanted
from tests.supervisor.test_act import run

ROW = Wanted(name="ws-1", module="nothing", index=1)
is_root = os.geteuid() == 0


def told(data_dir: Path, name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data_dir / "logs" / f"{name}.log").read_text().splitlines()[0])
    return found


def settings(process: dict[str, Process], group: str = "") -> Settings:
    return replace(Settings(), process=process, supervisor=Supervisor(group=group))


def test_a_process_gets_what_its_section_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    cpu = max(os.sched_getaffinity(0))
    own = {"cpus": [cpu], "nice": 2, "file_limit": 321, "core_limit": 4096, "environment": {"GREETING": "hello"}}
    with run(tmp_path, "a=telling::3", "b=telling", special={"a": own}) as running:
        running.wait_ready()
        a, b = told(tmp_path, "a"), told(tmp_path, "b")
    assert (a["cpus"], a["files"], a["core"], a["greeting"]) == ([cpu], 321, 4096, "hello")
    assert a["nice"] - b["nice"] == 5
    assert (b["cpus"], b["greeting"]) == (sorted(os.sched_getaffinity(0)), None)
    assert b["files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert a["systemd"] is None


@pytest.mark.skipif(not is_root, reason="only root can change the user")
def test_a_process_runs_as_its_user_and_shares_with_the_group(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)  # pytest's are for one user
    nobody = pwd.getpwnam("nobody")
    with run(tmp_path, "a=telling", "b=telling", special={"a": {"user": "nobody"}}, group="nogroup") as running:
        running.wait_ready()
        a, b = told(tmp_path, "a"), told(tmp_path, "b")
    assert (a["user_id"], a["group_id"], a["umask"]) == (nobody.pw_uid, nobody.pw_gid, 0o007)
    assert (b["user_id"], b["umask"]) == (0, 0o007)
    assert tmp_path.stat().st_gid == nobody.pw_gid
    assert tmp_path.stat().st_mode & 0o7777 == 0o3770
    assert (tmp_path / "logs").stat().st_mode & 0o7777 == 0o2750


@pytest.mark.skipif(not is_root, reason="only root can change the user")
def test_who_runs_as_another_user_does_not_outlive_the_supervisor_either(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady", special={"a": {"user": "nobody"}}, group="nogroup") as running:
        running.wait_ready()
        running.process.kill()  # leaving `run` checks that nobody is left


def test_what_is_said_of_the_one_goes_before_what_is_said_of_its_kind() -> None:
    found = special(
        settings({"ws": Process(nice=3, file_limit=100), "ws-1": Process(file_limit=200), "ws-0": Process(nice=9)}), ROW
    )
    assert (found.nice, found.file_limit) == (3, 200)


@pytest.mark.parametrize(
    ("own", "group", "why"),
    [
        (Process(user="nobody-of-that-name"), "", "process.ws-1.user: there is no user nobody-of-that-name"),
        (Process(), "no-such-group", "supervisor.group: there is no group no-such-group"),
        (Process(cpus=(4095,)), "", r"process.ws-1.cpus: this process may use \["),
        pytest.param(
            Process(user="nobody"),
            "",
            r"the others' sockets and memory are closed to nobody: set \[supervisor\] group",
            marks=pytest.mark.skipif(not is_root, reason="the supervisor must be root before that is asked"),
        ),
        pytest.param(
            Process(user="nobody"),
            "nogroup",
            "only a supervisor that runs as root can change the user",
            marks=pytest.mark.skipif(is_root, reason="root can"),
        ),
        pytest.param(
            Process(nice=-5),
            "",
            "process.ws-1.nice: to step forward, the supervisor must run as root",
            marks=pytest.mark.skipif(is_root, reason="root can"),
        ),
    ],
)
def test_what_the_machine_can_not_do_is_said_before(own: Process, group: str, why: str) -> None:
    with pytest.raises(BadSettings, match=why):
        refuse_impossible(settings({"ws": own}, group=group), (ROW,))
