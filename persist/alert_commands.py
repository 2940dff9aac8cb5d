"""`pit alerts`: what an operator sees of alerts by hand, and whether they arrive where they are to go."""

import io
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial

import click
from click.core import ParameterSource

from conf.alert import append
from conf.alert_record import Alert, bounded, packed, printable, time_text
from conf.options import configured
from conf.paths import Paths
from conf.settings import Settings

FOLLOW_POLL_S = 0.25
TEST_PROCESS = "pit"
TEST_TEXT = "this is a test of alerts: nothing is wrong"
TEXT_MAX = 1_000  # characters that are shown
COUNTED_MAX = 10_000  # alerts that are looked through for rows of the same
TABLE_WIDTH = 160  # where the output is no terminal


@click.group(invoke_without_command=True)
@click.option("-n", "--rows", "count", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as in alerts.jsonl.")
@click.pass_context
@configured
def alerts(context: click.Context, settings: Settings, count: int, is_followed: bool, as_json: bool) -> None:
    """Show the last alerts; the same ones in a row are counted. `pit alerts test` sends one."""
    if context.invoked_subcommand is not None:
        given = (context.get_parameter_source(name) for name in ("conf_file", "data_dir"))
        if ParameterSource.COMMANDLINE in given:  # TRADEPIT_CONF is for both
            raise click.UsageError(f"--conf and --data come after {context.invoked_subcommand}")
        return
    from persist.alert_files import AlertFiles, Follower, last_alerts

    files = AlertFiles(settings.paths.alerts_file)
    try:
        follower = Follower(files, files.end())
        found = last_alerts(files, count if as_json else max(count, COUNTED_MAX))
    except OSError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        _echo_lines(found, _as_json)
    elif found:
        click.echo(table(counted(found)[-count:]))
    elif not is_followed:
        click.echo(f"there are no alerts in {settings.data_dir}")
    while is_followed:
        _echo_lines(follower.read(1_000), _as_json if as_json else line)
        time.sleep(FOLLOW_POLL_S)


@alerts.command()
@configured
def test(settings: Settings) -> None:
    """Send an alert to everything that is set, and say whether it arrived. Exit code 1: it did not everywhere."""
    from persist.alert_targets import Undelivered

    failed_count = 0
    for what, deliver in _deliveries(settings):
        try:
            click.echo(f"{what}: {deliver()}")
        except (Undelivered, OSError) as error:
            failed_count += 1
            click.echo(f"{what}: failed: {error}")
    if failed_count:
        raise SystemExit(1)


def _deliveries(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is tried, and how; what is not set is said so."""
    from persist.alert_digest import of
    from persist.alert_mail import Mail
    from persist.alert_redis import RedisList
    from persist.alert_webhook import Webhook
    from persist.alert_wire import element

    wanted = settings.alert
    alert = Alert(time=time_text(time.time()), instance=settings.instance, process=TEST_PROCESS, text=TEST_TEXT)
    yield "file", partial(_write, settings.paths, alert)
    yield "alertcenter", partial(_look, settings.paths)
    if wanted.store != "file":
        redis = RedisList(wanted.store, wanted.list_max)
        yield "redis", partial(_done, partial(redis.probe, element(alert)), f"pushed to {wanted.store}")
    else:
        yield "redis", lambda: "off ([alert] store)"
    if wanted.smtp:
        mail = Mail(wanted, settings.instance)
        yield "mail", partial(_done, partial(mail.deliver, of([alert])), f"sent to {', '.join(wanted.mail_to)}")
    else:
        yield "mail", lambda: "off ([alert] smtp)"
    if wanted.webhook_url:
        webhook = Webhook(wanted.webhook_url, settings.instance)
        yield "webhook", partial(_done, partial(webhook.deliver, of([alert])), "taken")
    else:
        yield "webhook", lambda: "off ([alert] webhook_url)"


def _done(deliver: Callable[[], object], words: str) -> str:
    deliver()
    return words


def _write(paths: Paths, alert: Alert) -> str:
    append(paths.alerts_file, packed(replace(alert, is_told=True)))
    return f"written to {paths.alerts_file}"


def _look(paths: Paths) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(paths.alert_socket))
        except OSError:
            return "does not run: what is in the file goes out when it does"
    return "runs"


def table(found: list[tuple[Alert, int]]) -> str:
    """Alerts and their numbers for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False)
    rows.add_column("time", no_wrap=True)
    rows.add_column("process", no_wrap=True)
    rows.add_column("count", justify="right")
    rows.add_column("text", overflow="fold")
    for alert, count in found:
        shown = Text(printable(bounded(alert.text, TEXT_MAX)))
        rows.add_row(_local_time(alert.time), Text(printable(alert.process or alert.origin)), f"{count:,}", shown)
    text = io.StringIO()
    terminal = Console()
    width = terminal.width if terminal.is_terminal else TABLE_WIDTH
    Console(file=text, force_terminal=terminal.is_terminal, width=width).print(rows)
    return "\n".join(row.rstrip() for row in text.getvalue().splitlines())


def counted(found: Iterable[Alert]) -> list[tuple[Alert, int]]:
    """The last one of each row of alerts that say the same, and how many they are."""
    rows: list[tuple[Alert, int]] = []
    for alert in found:
        same = bool(rows) and (rows[-1][0].process, rows[-1][0].text) == (alert.process, alert.text)
        rows[-1:] = [(alert, rows[-1][1] + 1)] if same else [*rows[-1:], (alert, 1)]
    return rows


def line(alert: Alert) -> str:
    """An alert in one line."""
    return f"{_local_time(alert.time)}  {printable(alert.process or alert.origin)}: {printable(alert.text)}"


def _as_json(alert: Alert) -> str:
    return packed(alert).decode().rstrip()


def _echo_lines(found: Iterable[Alert], form: Callable[[Alert], str]) -> None:
    for alert in found:
        click.echo(form(alert))


def _local_time(text: str) -> str:
    """In this machine's time zone; what is no time, as it is."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return printable(text)
