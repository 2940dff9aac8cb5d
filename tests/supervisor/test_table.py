"""Which processes run, and that each says by which settings it goes."""

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conf.operations import Process, Supervisor
from conf.rules import BadSettings
from conf.settings import History, Settings, Ws, sections
from supervisor.table import Wanted, processes

ROOT = Path(__file__).parents[2]
NOT_GONE_BY = {"supervisor", "alert"}  # the supervisor's own; where alerts go is the alertcenter's


def names(settings: Settings) -> list[str]:
    return [wanted.name for wanted in processes(settings)]


def test_who_must_be_ready_first_stands_first() -> None:
    seen: set[str] = set()
    for wanted in processes(Settings()):
        assert set(wanted.after) <= seen
        seen.add(wanted.name)


def test_equals_are_numbered() -> None:
    settings = replace(Settings(), ws=Ws(workers=2), history=History(processes=3))
    assert [name for name in names(settings) if name[-1].isdigit()] == [
        *("history-0", "history-1", "history-2"),
        *("ws-0", "ws-1"),
    ]


def test_a_machine_may_run_some_only() -> None:
    settings = replace(Settings(), ws=Ws(workers=2), supervisor=Supervisor(run=("ws", "market")))
    assert names(settings) == ["market", "ws-0", "ws-1"]
    assert all(wanted.after == () for wanted in processes(settings)), "nobody waits for who does not run here"
    assert names(replace(settings, supervisor=Supervisor(run=("ws-1",)))) == ["ws-1"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            replace(Settings(), supervisor=Supervisor(run=("matchengine",))),
            "supervisor.run: there is no process matche",
        ),
        (replace(Settings(), process={"ws-7": Process()}), "process: there is no process ws-7; there are .*matcher"),
    ],
)
def test_a_name_that_there_is_not_is_refused(settings: Settings, why: str) -> None:
    with pytest.raises(BadSettings, match=why):
        processes(settings)


@pytest.mark.parametrize("wanted", processes(Settings()), ids=lambda wanted: wanted.name)
def test_a_process_reads_no_settings_but_those_that_it_says(wanted: Wanted) -> None:
    """What its own modules take from the settings: a change of those must be told by `pit reload`."""
    code = f"import sys, {wanted.module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    package = wanted.module.rpartition(".")[0]
    known = {name for name, _ in sections()} | {"markets_file"}
    found = set()
    for name in done.stdout.split():
        if name.rpartition(".")[0] == package:
            source = importlib.util.find_spec(name).origin  # type: ignore[union-attr]  # it was imported
            found |= set(re.findall(r"\bsettings\.(\w+)", Path(source or "").read_text())) & known
    assert found - NOT_GONE_BY <= set(wanted.reads)
    assert {key.partition(".")[0] for key in wanted.reads} <= known
