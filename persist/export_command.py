"""The command `pit history export`: what is wanted, where it goes, and how far it is."""

import io
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from bus.messages import USER_MAX
from conf.options import configured
from conf.settings import Settings
from persist.export import TABLES, Row, write_csv
from persist.export_parquet import NoParquet, require, write_parquet
from persist.opening import SQLITE, reader_of
from persist.store import StoreDown, StoreWrong, Times

EXAMPLES = "2026-05-01, 2026-05-01T12:00Z or 1777593600"
SECONDS_MIN, SECONDS_MAX = 10**8, 10**11  # what is outside is a date without hyphens, or milliseconds
STEP_ROW_COUNT = 10_000  # between two looks at the progress
STDOUT = "-"


def moment(text: str) -> int:
    """Whole seconds since 1970, of a number of them or of ISO 8601, in UTC when it names no zone."""
    if re.fullmatch(r"\d+", text, re.ASCII):
        if not SECONDS_MIN <= int(text) < SECONDS_MAX:
            raise click.BadParameter(f"{text} is no time in seconds since 1970; a date has hyphens, like 2026-05-01")
        return int(text)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; give one like {EXAMPLES}") from None
    if given.microsecond:
        raise click.BadParameter(f"{text} is between two seconds; give a whole one")
    seconds = (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    if seconds <= 0:
        raise click.BadParameter(f"{text} is not after 1970")
    return int(seconds)


@click.command(short_help="Write orders, deals or balance changes to a file.")
@click.argument("what", type=click.Choice(list(TABLES)))
@click.option("--user", "user_id", type=click.IntRange(1, USER_MAX), help="Only this user's.")
@click.option("--market", metavar="NAME", help="Only this market's orders or deals.")
@click.option("--asset", metavar="NAME", help="Only changes of this asset.")
@click.option(
    "--from", "start", type=moment, metavar="TIME", help="From this time on: 2026-05-01, 2026-05-01T12:00Z, 1777593600."
)
@click.option("--to", "end", type=moment, metavar="TIME", help="Before this time.")
@click.option("--format", "form", type=click.Choice(["csv", "parquet"]), help="Default: as the file is named, or csv.")
@click.option("--out", default=STDOUT, metavar="FILE", help="Where it goes; not given, or -, is stdout.")
@configured
def export(
    settings: Settings,
    what: str,
    user_id: int | None,
    market: str | None,
    asset: str | None,
    start: int | None,
    end: int | None,
    form: str | None,
    out: str,
) -> None:
    """Write finished orders, deals or balance changes to a file, oldest first.

    Orders count by the time at which they finished. The exchange need not run. The file is there when it is complete.
    """
    if (market if what == "changes" else asset) is not None:
        raise click.UsageError("orders and deals are of a --market, changes are of an --asset")
    if start is not None and end is not None and end <= start:
        raise click.UsageError("--to must be later than --from")
    form = form or ("parquet" if out.endswith(".parquet") else "csv")
    if form == "parquet" and out == STDOUT and sys.stdout.buffer.isatty():
        raise click.UsageError("Parquet is not for a terminal: give --out FILE")
    times = Times(start or 0, end or 0)
    try:
        count = _run(settings, what, (user_id or 0, market or asset or "", times), form, out)
    except (StoreDown, StoreWrong, NoParquet, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise click.ClickException(str(error)) from None
    where = "" if out == STDOUT else f" in {out}"
    click.echo(f"{count:,} {what}{where}", err=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that gets its name when it is complete; if it is not, what was there stays. Raises OSError."""
    path = path.resolve()  # a link goes on pointing to it
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file; {STDOUT} is stdout")
    if not path.parent.is_dir():
        raise OSError(f"{path.parent} is not a folder")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _run(settings: Settings, what: str, wanted: tuple[int, str, Times], form: str, out: str) -> int:
    """Export; the number of rows. Raises StoreDown, StoreWrong, NoParquet, OSError."""
    if form == "parquet":
        require()
    if settings.history.store == SQLITE and not settings.paths.history_file.exists():
        raise StoreDown(f"there is no history in {settings.paths.history_file} yet; --conf or --data say where it is")
    table = TABLES[what]
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        reader = reader_of(settings)
        stack.callback(reader.close)
        tell = stack.enter_context(_progress(what))
        counted = Counted(lambda: table.rows(reader, *wanted), tell)
        file = stack.enter_context(_stdout(form) if out == STDOUT else whole_file(Path(out)))
        if form == "parquet":
            write_parquet(table.columns, counted.rows, file)
        else:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            write_csv(table.columns, counted.rows(), text)
            text.flush()
            text.detach()
    return counted.count


class Counted:
    """Rows that are counted as they pass."""

    def __init__(self, rows: Callable[[], Iterator[Row]], tell: Callable[[int], None]) -> None:
        self.count = 0
        self._rows = rows
        self._tell = tell

    def rows(self) -> Iterator[Row]:
        """All of them, from the first."""
        self.count = 0
        for row in self._rows():
            self.count += 1
            if self.count % STEP_ROW_COUNT == 0:
                self._tell(self.count)
            yield row


@contextmanager
def _interruptible() -> Iterator[None]:
    """To be told to end, or to lose the terminal, is like Ctrl-C: no part of a file is left."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stdout(form: str) -> Iterator[BinaryIO]:
    """CSV goes straight there; Parquet when it is complete, because it may begin anew."""
    stdout = sys.stdout.buffer
    if form == "csv":
        yield stdout
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, stdout)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A line on a terminal's stderr, gone at the end."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:,} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda count: bar.update(task, completed=count)
