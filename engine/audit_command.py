"""What `pit audit` does: build the state again from the disk, in memory of its own, and prove it.

    newest good snapshot, or the seed  ->  replay the journal  ->  Exchange.audit  ->  audit.check_events

The replay compares the running hash of all results with the journal's, frame by frame. Nothing is written, no shared
memory is touched: the exchange may run, and goes on meanwhile. What came after the journal was read is not looked at.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from bus import eventlog
from bus.messages import Records
from conf.options import configured
from conf.paths import Paths
from conf.settings import Settings
from engine import audit, recovery, snapshot
from engine.audit import AuditError
from engine.exchange import Exchange
from engine.journal_reader import Damaged, Scan, read_header
from engine.opening import capacity_of
from engine.recovery import Diverged
from engine.schema import Capacity
from engine.snapshot import Snapshot

Row = tuple[str, str]


class NotSound(Exception):
    """The state can't be built or proved: the text says why."""


class Replayed(NamedTuple):
    """An exchange in private memory, and where it comes from."""

    exchange: Exchange
    start: Snapshot | None  # None: the journal's first command
    remarks: list[str]

    @property
    def start_sequence(self) -> int:
        return self.start.sequence if self.start else 0


@click.command("audit")
@click.option("--from-start", is_flag=True, help="Replay the whole journal; trust no snapshot.")
@click.option("--events/--no-events", "with_events", default=True, help="Check the balances against the event log.")
@configured
def command(settings: Settings, from_start: bool, with_events: bool) -> None:
    """Build the state again from the disk and prove it; nothing is changed, the exchange may run."""
    try:
        for line in report(settings.paths, capacity_of(settings), from_start=from_start, with_events=with_events):
            click.echo(line)
    except NotSound as error:
        raise click.ClickException(f"the state is not sound: {error}") from None
    except (ValueError, OSError) as error:  # a capacity that is too small, an unreadable file
        raise click.ClickException(str(error)) from None
    click.echo("the state is sound")


def report(paths: Paths, capacity: Capacity, *, from_start: bool = False, with_events: bool = True) -> Iterator[str]:
    """What was proved, as lines of a table. Raises NotSound, ValueError, OSError."""
    began_s = time.perf_counter()
    try:
        replayed = replay(paths, capacity, from_start=from_start)
        exchange = replayed.exchange
        exchange.audit()
        events = _check_events(exchange, paths.events_dir) if with_events else "not asked for"
    except (AuditError, Damaged, Diverged) as error:
        raise NotSound(str(error)) from error
    start = f"the snapshot of command {replayed.start_sequence:,}" if replayed.start else "the journal's first command"
    rows: list[Row] = [
        ("begun with", start),
        ("commands replayed", f"{exchange.sequence - replayed.start_sequence:,}"),
        ("last command", f"{exchange.sequence:,}"),
        *((name, f"{count:,}") for name, count in audit.describe(exchange.state).items()),
        ("events", events),
        ("seconds", f"{time.perf_counter() - began_s:.2f}"),
        *(("remark", text) for text in replayed.remarks),
    ]
    for name, text in rows:
        yield f"{name:<20}{text}"


def replay(paths: Paths, capacity: Capacity, *, from_start: bool = False) -> Replayed:
    """The exchange as the disk tells it. Raises NotSound, Damaged, Diverged, ValueError, OSError."""
    header = read_header(paths.journal_dir)
    if header is None:
        raise NotSound(f"{paths.journal_dir} holds no journal")
    start, remarks = snapshot.Found(None, []) if from_start else snapshot.newest(paths.snapshots_dir)
    exchange = recovery.begin(start, capacity, seed=header.seed)
    scan = Scan(paths.journal_dir, exchange.sequence)
    for entry in scan:
        recovery.replay(exchange, entry)
    if (end := scan.end.sequence) < exchange.sequence:
        remarks = [*remarks, f"the journal ends with command {end:,}, before the snapshot"]
    return Replayed(exchange, start, remarks)


def _check_events(exchange: Exchange, directory: Path) -> str:
    """Prove the balances from the event log when it has all events up to the state's; say what was done."""
    reader = eventlog.Reader(directory)
    first, last, wanted = reader.first_number, reader.durable_number, exchange.event_number
    if first > 1:
        return f"not checked: the log begins with {first:,}"
    if last < wanted:
        return f"not checked: the log ends with {last:,} of {wanted:,}; a restart makes the rest again"
    try:
        audit.check_events(exchange.state, _events(reader, wanted))
    except eventlog.Gone as gone:
        return f"not checked: {gone}"
    return f"{wanted:,}, and they make these balances"


def _events(reader: eventlog.Reader, last: int) -> Iterator[Records]:
    """All events from the first to this one."""
    for frame in reader.frames(0):
        yield frame.records[: last + 1 - frame.first]
        if frame.first + len(frame.records) > last:
            return
