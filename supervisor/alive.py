"""`pit check-alive`: whether an exchange, or one process of it, is at work; and what to start when it is not.

It is for cron. The supervisor starts again what dies; here is who starts the supervisor, and what the supervisor has
given up. An exchange that was ended with `pit down` stays down: a mark in its data folder says so.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from conf.alert import alert
from conf.options import configured
from conf.paths import Paths
from conf.settings import Settings
from supervisor import control, lock

EXIT_NOT_ALIVE = 1
START_TIMEOUT_S = 3600.0  # a long replay belongs to it

Row = dict[str, Any]


class Verdict(NamedTuple):
    """What was found. `text` is for the operator ("": nothing is to be said), `commands` are of `pit`."""

    is_alive: bool
    text: str = ""
    commands: tuple[tuple[str, ...], ...] = ()


def judge(name: str, rows: Sequence[Row] | None, supervisor_pid: int, *, is_stopped: bool) -> Verdict:
    """What to do about a process ("": all of them).

    `rows` are the supervisor's (None: it does not answer), `supervisor_pid` is 0 when none lives, `is_stopped` says
    that an operator wants it down. What is just starting is left alone: it may be reading a long journal.
    """
    if rows is None:
        if supervisor_pid:
            return Verdict(False, f"the supervisor (pid {supervisor_pid}) does not answer: it is starting or stopping")
        if is_stopped:
            return Verdict(False)
        return Verdict(False, "the exchange does not run; starting it", (("up", "--detach"),))
    if name and name not in (row["name"] for row in rows):
        return Verdict(False, f"there is no process {name}; there are {', '.join(row['name'] for row in rows)}")
    late = {row["name"]: row["state"] for row in rows if row["state"] != "ready" and name in ("", row["name"])}
    if not late:
        return Verdict(True)
    failed = [each for each, state in late.items() if state == "failed"]
    text = ", ".join(f"{each} is {state}" for each, state in late.items())
    if failed:
        text += f"; restarting {', '.join(failed)}"
    return Verdict(False, text, tuple(("restart", each) for each in failed))


def mark_stopped(paths: Paths) -> None:
    """An operator wants the exchange down. A folder that refuses the mark is no reason to go on running."""
    with contextlib.suppress(OSError):
        _mark(paths).touch()


def forget_stopped(paths: Paths) -> None:
    """It is started again. Raises OSError."""
    _mark(paths).unlink(missing_ok=True)


@click.command("check-alive")
@click.argument("name", default="")
@click.pass_context
@configured
def command(context: click.Context, settings: Settings, name: str) -> None:
    """Start what is down: for cron. Silent, with exit code 0, when all (or process NAME) is ready; otherwise 1."""
    paths = settings.paths
    if _look(paths, name).is_alive:
        return
    paths.data_dir.mkdir(parents=True, exist_ok=True)
    with (paths.data_dir / "check-alive.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another check is at work")
            raise SystemExit(EXIT_NOT_ALIVE) from None
        verdict = _look(paths, name)  # the one before may have put it right
        if verdict.is_alive:
            return
        if verdict.commands:
            alert(paths, "check-alive", verdict.text)  # which says it on stderr, too
        elif verdict.text:
            _say(verdict.text)
        for words in verdict.commands:
            _pit(*words, *_options(context))
    raise SystemExit(EXIT_NOT_ALIVE)


def _look(paths: Paths, name: str) -> Verdict:
    try:
        rows = control.ask(paths, {"do": "status"})["processes"]
    except control.NotRunning:
        return judge(name, None, lock.holder_pid(paths), is_stopped=_mark(paths).exists())
    return judge(name, rows, 0, is_stopped=False)


def _pit(*words: str) -> None:
    """Run a command of `pit` in a process of its own, which does not hold the lock."""
    command = [sys.executable, "-P", "-m", "supervisor.cli", *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        _say(f"pit {words[0]} has not ended after {START_TIMEOUT_S:.0f} s")
        return
    if done.returncode != 0:
        _say(f"pit {words[0]} failed: {done.stderr.strip()}")


def _options(context: click.Context) -> tuple[str, ...]:
    """The settings that this was called with, for another command."""
    options = (("--conf", context.params["conf_file"]), ("--data", context.params["data_dir"]))
    return tuple(word for option, value in options if value is not None for word in (option, os.fspath(value)))


def _mark(paths: Paths) -> Path:
    return paths.data_dir / "stopped"


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} check-alive: {text}", err=True)
