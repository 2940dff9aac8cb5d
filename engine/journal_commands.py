"""What `pit journal verify` and `pit journal show` do: look at a journal, change nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bus.messages import Bytes, CommandKind, Frame, Side
from conf.options import configured
from conf.settings import Settings
from engine.journal_reader import Damaged, Entry, Scan, first_of, read_header, segments

KINDS: dict[int, str] = {
    CommandKind.PUT_LIMIT: "put_limit",
    CommandKind.PUT_MARKET: "put_market",
    CommandKind.CANCEL: "cancel",
    CommandKind.UPDATE_BALANCE: "update_balance",
    CommandKind.CONFIGURE: "configure",
}
SIDES: dict[int, str] = {Side.ASK: "ask", Side.BID: "bid"}


@click.group("journal")
def journal() -> None:
    """Look at the journal; nothing is changed, the exchange may run."""


@journal.command("verify")
@configured
def verify_command(settings: Settings) -> None:
    """Read all of it; say whether it is whole and, if not, where."""
    raise SystemExit(verify(settings.paths.journal_dir))


@journal.command("show")
@click.argument("first", type=click.IntRange(1), default=1)
@click.argument("last", type=click.IntRange(1), required=False)
@configured
def show_command(settings: Settings, first: int, last: int | None) -> None:
    """Print the commands with sequences from FIRST to LAST, a line each."""
    try:
        for line in show(settings.paths.journal_dir, first, last):
            click.echo(line)
    except Damaged as damage:
        raise click.ClickException(str(damage)) from None


def verify(directory: Path) -> int:
    """Read the whole journal and print what is found; return 0 when it is whole, 1 when not."""
    files = segments(directory)
    if not files:
        click.echo(f"{directory}: no journal")
        return 0
    if header := read_header(directory):
        click.echo(f"{directory}: {len(files)} segment{'s' * (len(files) != 1)} of instance {header.instance}")
    scan = Scan(directory, first_of(files[0]) - 1)
    last: Entry | None = None
    try:
        for entry in scan:
            last = entry
    except Damaged as damage:
        click.echo(f"damaged: {damage.file}, offset {damage.offset}: {damage.reason}")
        click.echo(f"whole up to {_place(last)}" if last else "nothing before it is whole")
        return 1
    end = scan.end
    click.echo(f"whole: commands {first_of(files[0])} to {end.sequence}; it ends at offset {end.offset} of {end.file}")
    if end.torn_bytes:
        click.echo(f"torn: {end.torn_bytes} bytes behind the end, never acknowledged, to be cut ({end.reason})")
    return 0


def show(directory: Path, first: int = 1, last: int | None = None) -> Iterator[str]:
    """The commands with sequences from `first` to `last`, a line each. Raises Damaged."""
    files = segments(directory)
    if not files:
        return
    for entry in Scan(directory, _batch_start(files, first)):
        for index in range(max(0, first - entry.frame.first), len(entry.frame.records)):
            sequence = entry.frame.first + index
            if last is not None and sequence > last:
                return
            yield f"{sequence} {_time(entry.frame.time)} {describe(entry.frame, index)}"


def describe(frame: Frame, index: int) -> str:
    """One command as text; numbers are in the units of bus.messages."""
    command = frame.records[index]
    kind = int(command["kind"])
    words = [KINDS.get(kind, f"kind {kind}")]
    if kind == CommandKind.CONFIGURE:
        return " ".join([*words, _detail(command, frame.blob)])
    words.append(f"user {command['user_id']}")
    if kind in (CommandKind.PUT_LIMIT, CommandKind.PUT_MARKET):
        words.append(f"market {command['market']} {SIDES.get(int(command['side']), '?')} {command['amount_units']}")
        if kind == CommandKind.PUT_LIMIT:
            words.append(f"at {command['price_units']} maker rate {command['maker_rate_units']}")
        words.append(f"taker rate {command['taker_rate_units']} source {_text(command)}")
    elif kind == CommandKind.CANCEL:
        words.append(f"market {command['market']} order {command['subject_id']}")
    elif kind == CommandKind.UPDATE_BALANCE:
        low, high = (int(half) for half in command["change_units"])
        words.append(f"asset {command['asset']} change {(high << 64) + (low & (1 << 64) - 1)}")
        words.append(f"business {_text(command)} {command['subject_id']} {_detail(command, frame.blob)}")
    return " ".join(words)


def _batch_start(files: list[Path], first: int) -> int:
    """The command before the newest segment that holds `first`, so that reading starts with a whole batch."""
    starts = [first_of(file) for file in files]
    return max((start for start in starts if start <= first), default=starts[0]) - 1


def _place(entry: Entry) -> str:
    last = entry.frame.first + len(entry.frame.records) - 1
    return f"command {last}, in the frame at offset {entry.offset} of {entry.file}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _text(command: Any) -> str:
    return repr(bytes(command["text"][: command["text_size"]]).decode(errors="replace"))


def _detail(command: Any, blob: Bytes) -> str:
    start = int(command["detail_offset"])
    return bytes(blob[start : start + int(command["detail_size"])]).decode(errors="replace")
