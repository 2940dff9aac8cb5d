"""The commands that look at a running exchange: `pit status` and `pit logs`."""

import json
import time

import click

from conf.options import configured
from conf.settings import Settings
from supervisor import logs
from supervisor.commands import ask

WATCH_INTERVAL_S = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--watch", "is_watching", is_flag=True, help="Go on, a look each second, until Ctrl-C.")
@configured
def status(settings: Settings, as_json: bool, is_watching: bool) -> None:
    """Show the processes. Exit code 0: all are ready; 1: some are not; 3: the exchange does not run."""
    from supervisor import status as reporting

    facts = reporting.gather(settings, ask(settings, {"do": "status"}))
    if is_watching:
        _watch(settings, facts, as_json=as_json)
    click.echo(json.dumps(facts, indent=2) if as_json else reporting.table(facts))
    if any(row["state"] != "ready" for row in facts["processes"]):
        raise SystemExit(1)


def _watch(settings: Settings, facts: "dict[str, object]", *, as_json: bool) -> None:
    """Show the facts, and every second what has become of them; on a terminal in place. Returns never."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from supervisor import status as reporting

    console = Console()
    is_live = console.is_terminal and not as_json
    with Live(console=console, auto_refresh=False, screen=is_live) as screen:
        while True:
            if is_live:
                screen.update(Text.from_ansi(reporting.table(facts)), refresh=True)
            else:
                click.echo(json.dumps(facts) if as_json else reporting.table(facts) + "\n")
            time.sleep(WATCH_INTERVAL_S)
            facts = reporting.gather(settings, ask(settings, {"do": "status"}), facts)


@click.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", "line_count", default=50, show_default=True, type=click.IntRange(1, 100_000))
@configured
def show_logs(settings: Settings, name: str, follow: bool, line_count: int) -> None:
    """Show the end of a process's log, and of the older one before it; `supervisor` has one too."""
    known = {path.stem: path for path in settings.paths.log_files()}
    if name not in known:
        raise click.ClickException(f"there is no log of {name}; there are {', '.join(known) or 'none'}")
    for line in logs.tail_over_rotation(known[name], line_count):
        click.echo(line)
    if follow:
        for text in logs.follow(known[name]):
            click.echo(text, nl=False)
