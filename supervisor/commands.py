"""The commands of `pit` that have to do with a running exchange: thin, they ask the supervisor and print."""

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from conf import markets
from conf.options import configured
from conf.settings import Settings, load
from supervisor import control, lock, logs

EXIT_NOT_RUNNING = 3
DOWN_MARGIN_S = 5.0
SNAPSHOT_TIMEOUT_S = 120.0
POLL_S = 0.02
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
    known = (markets.BadMarkets, lock.InUse, starting.AddressInUse, StartFailed, OSError)

    def reload() -> Settings:
        return load(conf_file, settings.data_dir)

    try:
        with _progress() as progress:
            run = starting.run_detached if detach else starting.run_foreground
            run(settings, reload, progress)
    except known as error:
        raise click.ClickException(str(error)) from None
    if detach:
        click.echo(starting.greeting(settings))


@click.command()
@configured
def down(settings: Settings) -> None:
    """Stop the exchange and wait until its last process has ended."""
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@configured
def status(settings: Settings, as_json: bool) -> None:
    """Show the processes. Exit code 0: all are ready; 1: some are not; 3: the exchange does not run."""
    from supervisor import status as reporting

    facts = reporting.gather(settings, _ask(settings, {"do": "status"}))
    click.echo(json.dumps(facts, indent=2) if as_json else reporting.table(facts))
    if any(row["state"] != "ready" for row in facts["processes"]):
        raise SystemExit(1)


@click.command()
@click.argument("name")
@configured
def restart(settings: Settings, name: str) -> None:
    """Start one process anew and wait until it is ready."""
    before = _ask(settings, {"do": "restart", "name": name})["restart_count"]
    deadline = time.monotonic() + settings.supervisor.start_timeout_s
    while True:
        rows = {row["name"]: row for row in _ask(settings, {"do": "status"})["processes"]}
        if rows[name]["restart_count"] > before and rows[name]["state"] == "ready":
            return
        if rows[name]["state"] == "failed" or time.monotonic() > deadline:
            raise click.ClickException(f"{name} is {rows[name]['state']}; `pit logs {name}` shows why")
        time.sleep(POLL_S)


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", "line_count", default=50, show_default=True, type=click.IntRange(1, 100_000))
@configured
def show_logs(settings: Settings, name: str, follow: bool, line_count: int) -> None:
    """Show the end of a process's log; `supervisor` has one too."""
    known = logs.names(settings.paths)
    if name not in known:
        raise click.ClickException(
            f"there is no log of {name} in {settings.paths.logs_dir}; there are {', '.join(known)}"
        )
    path = logs.log_file(settings.paths, name)
    for line in logs.tail(path, line_count):
        click.echo(line)
    if follow:
        for text in logs.follow(path):
            click.echo(text, nl=False)


@click.command("check-conf")
@click.pass_context
@configured
def check_conf(context: click.Context, settings: Settings) -> None:
    """Check the settings and the markets file; say what would run."""
    try:
        listing = markets.load(settings.markets_file)
    except (markets.BadMarkets, OSError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(f'instance "{settings.instance}", data in {settings.data_dir}')
    click.echo(f"{settings.markets_file}: {len(listing.assets)} assets, {len(listing.markets)} markets")
    conf_file: Path | None = context.params["conf_file"]
    if conf_file is not None and settings.holds_secrets and conf_file.stat().st_mode & stat.S_IROTH:
        click.echo(f"{conf_file} holds a password, and everybody on this machine can read it: chmod o= {conf_file}")
    click.echo("the settings are good")


@click.command()
@configured
def snapshot(settings: Settings) -> None:
    """Write a snapshot of the state and print its name."""
    before = _snapshots(settings)
    _ask(settings, {"do": "snapshot"})
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


def _ask(settings: Settings, request: control.Document) -> control.Document:
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
