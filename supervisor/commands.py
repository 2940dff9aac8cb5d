"""The commands of `pit` that have to do with a running exchange: thin, they ask the supervisor and print."""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click

from conf import markets
from conf.options import configured
from conf.rules import BadSettings
from conf.settings import Settings, load_for
from supervisor import alive, control, lock

EXIT_NOT_RUNNING = 3
DOWN_MARGIN_S = 5.0
SNAPSHOT_TIMEOUT_S = 120.0
POLL_S = 0.02
SUPERVISOR = "supervisor"
COMPILING = "compiling kernels (this once)"


class NotRunning(click.ClickException):
    """The exchange does not run."""

    exit_code = EXIT_NOT_RUNNING


@click.command()
@click.option("--detach", is_flag=True, help="Return when the exchange answers requests.")
@click.pass_context
@configured
def up(context: click.Context, settings: Settings, detach: bool) -> None:
    """Start the exchange and keep it running until Ctrl-C or `pit down`."""
    # A quick command does not wait for these imports.
    from supervisor import up as starting
    from supervisor.main import StartFailed

    conf_file: Path | None = context.params["conf_file"]
    known = (markets.BadMarkets, BadSettings, lock.InUse, starting.AddressInUse, StartFailed, OSError)
    try:
        alive.forget_stopped(settings.paths)
        with _progress() as progress:
            begin = starting.run_detached if detach else starting.run_foreground
            begin(settings, conf_file and conf_file.absolute(), progress)
    except known as error:
        raise click.ClickException(str(error)) from None
    if detach:
        click.echo(starting.greeting(settings))


@click.command()
@click.argument("name")
@click.pass_context
@configured
def run(context: click.Context, settings: Settings, name: str) -> None:
    """Run one process here, without a supervisor, until Ctrl-C: for who has a supervisor of his own.

    It is restarted by nobody, and not by `pit` while `pit up` runs.
    """
    from supervisor.alone import run_alone

    known = (markets.BadMarkets, BadSettings, lock.InUse)
    try:
        with _progress() as progress:
            code = run_alone(name, settings, context.params["conf_file"], progress)
    except known as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(code)


@click.command()
@configured
def down(settings: Settings) -> None:
    """Stop the exchange and wait until its last process has ended."""
    alive.mark_stopped(settings.paths)
    try:
        control.ask(settings.paths, {"do": "stop"})
    except control.NotRunning as error:
        # It may be starting, and not answer yet; then a signal does.
        if not (pid := lock.holder_pid(settings.paths)):
            raise NotRunning(str(error)) from None
        os.kill(pid, signal.SIGTERM)
    # First all that need the matcher end, then the matcher, then who tells of that: each may take the whole patience.
    if not lock.wait_free(settings.paths, 3 * settings.supervisor.stop_timeout_s + DOWN_MARGIN_S):
        raise click.ClickException(f"processes still run in {settings.data_dir}; `pit logs supervisor` shows why")


@click.command()
@click.argument("name")
@click.pass_context
@configured
def restart(context: click.Context, settings: Settings, name: str) -> None:
    """Start one process anew, with the settings as they are now, and wait until it is ready.

    `pit restart supervisor` starts the supervisor anew, with the program as it is installed now, while all processes
    run on; each that is restarted then is of the new program, too.
    """
    if name == SUPERVISOR:
        _restart_supervisor(settings)
    else:
        _restart(settings, name)


@click.command()
@click.option("--restart", "is_restart_wanted", is_flag=True, help="Restart them, one after the other.")
@configured
def reload(settings: Settings, is_restart_wanted: bool) -> None:
    """Go by the settings as they are now, and say which processes must be restarted for it.

    Exit code 0: all processes go by them; 1: some are to be restarted.
    """
    answer = ask(settings, {"do": "reload"})
    for name in answer["begins"]:
        click.echo(f"{name}: begins")
    for name in answer["ends"]:
        click.echo(f"{name}: ends")
    changed: dict[str, list[str]] = answer["changed_settings"]
    for name, keys in changed.items():
        click.echo(f"{name}: {', '.join(keys)} changed; {'restarting' if is_restart_wanted else 'needs a restart'}")
        if is_restart_wanted:
            _restart(settings, name)
    if changed and not is_restart_wanted:
        click.echo("`pit reload --restart` restarts them, one after the other")
        raise SystemExit(1)


def _restart(settings: Settings, name: str) -> None:
    before = ask(settings, {"do": "restart", "name": name})["pid"]
    deadline = time.monotonic() + settings.supervisor.start_timeout_s
    while True:
        rows = {row["name"]: row for row in ask(settings, {"do": "status"})["processes"]}
        if rows[name]["pid"] != before and rows[name]["state"] == "ready":
            return
        if rows[name]["state"] == "failed" or time.monotonic() > deadline:
            raise click.ClickException(f"{name} is {rows[name]['state']}; `pit logs {name}` shows why")
        time.sleep(POLL_S)


def _restart_supervisor(settings: Settings) -> None:
    from supervisor.again import FORM, with_program

    program = ask(settings, {"do": "program"})
    check = with_program(program["executable"], program["path"], "from supervisor.up import check_program as it; it()")
    try:  # a program that can't be imported and compiled must not take over
        subprocess.run(check, check=True, capture_output=True, text=True, timeout=settings.supervisor.start_timeout_s)
    except (OSError, subprocess.SubprocessError) as error:
        why = (getattr(error, "stderr", "") or str(error)).strip()
        raise click.ClickException(f"the program as it is installed now can't be started:\n{why}") from None
    before = ask(settings, {"do": "again", "form": FORM})["run_number"]
    deadline = time.monotonic() + settings.supervisor.start_timeout_s
    while True:
        with suppress(NotRunning, click.ClickException):  # it answers nobody while it starts
            if ask(settings, {"do": "status"})["run_number"] > before:
                return
        if time.monotonic() > deadline or not lock.is_held(settings.paths):
            raise click.ClickException("the supervisor did not come back; `pit logs supervisor` shows why")
        time.sleep(POLL_S)


@click.command("check-conf")
@click.pass_context
@configured
def check_conf(context: click.Context, settings: Settings) -> None:
    """Check the settings, those of each process too, and the markets file; say what would run."""
    try:
        listing = markets.load(settings.markets_file)
    except (markets.BadMarkets, OSError) as error:
        raise click.UsageError(str(error)) from None
    from supervisor.become import refuse_impossible
    from supervisor.table import processes

    try:
        table = processes(settings)
        for wanted in table:
            own = load_for(wanted.name, context.params["conf_file"], context.params["data_dir"])
            refuse_impossible(own, (wanted,))
    except BadSettings as error:
        raise click.UsageError(str(error)) from None
    click.echo(f'instance "{settings.instance}", data in {settings.data_dir}')
    click.echo(f"{settings.markets_file}: {len(listing.assets)} assets, {len(listing.markets)} markets")
    click.echo(f"processes: {', '.join(wanted.name for wanted in table)}")
    conf_file: Path | None = context.params["conf_file"]
    if conf_file is not None and settings.holds_secrets and conf_file.stat().st_mode & stat.S_IROTH:
        click.echo(f"{conf_file} holds a password, and everybody on this machine can read it: chmod o= {conf_file}")
    click.echo("the settings are good")


@click.command()
@configured
def snapshot(settings: Settings) -> None:
    """Write a snapshot of the state and print its name."""
    before = _snapshots(settings)
    ask(settings, {"do": "snapshot"})
    deadline = time.monotonic() + SNAPSHOT_TIMEOUT_S
    while not (new := _snapshots(settings) - before):
        if time.monotonic() > deadline:
            raise click.ClickException("the matcher has written no snapshot; `pit logs matcher` shows why")
        time.sleep(POLL_S)
    click.echo(max(new).path)


class Snapshot(NamedTuple):
    """A snapshot's file. One of an unchanged state takes the place of the one before."""

    written_ns: int
    path: Path


def _snapshots(settings: Settings) -> set[Snapshot]:
    paths = settings.paths.snapshots_dir.glob("*.snapshot")
    return {Snapshot(path.stat().st_mtime_ns, path) for path in paths}


def ask(settings: Settings, request: control.Document) -> control.Document:
    """Ask the supervisor of a running exchange; what it refuses ends the command with its reason."""
    try:
        return control.ask(settings.paths, request)
    except control.NotRunning as error:
        if pid := lock.holder_pid(settings.paths):
            why = f"the exchange in {settings.data_dir} is just starting or stopping (supervisor pid {pid}); try again"
            raise click.ClickException(why) from None
        raise NotRunning(str(error)) from None
    except control.Refused as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, which is gone when all is compiled; elsewhere one line.

    It leaves stdout alone: what the processes of the exchange say must not be broken into lines of a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn(COMPILING), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    bar = Progress(
        *columns, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    task = bar.add_task("", total=None)
    begun = False

    def progress(what: str, done: int, total: int) -> None:
        nonlocal begun
        if not begun and done < total:
            begun = True
            if console.is_terminal:
                bar.start()
            else:
                click.echo(COMPILING, err=True)
        if bar.live.is_started:
            bar.update(task, description=what, completed=done, total=total, refresh=True)
            if done == total:
                bar.stop()

    try:
        yield progress
    finally:
        if bar.live.is_started:
            bar.stop()
