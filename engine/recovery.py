"""Building an exchange from the disk: the newest good snapshot, then every command of the journal after it.

The commands are applied with the time that they were applied with, by the same code, so they must give the same
results: each frame carries the running hash of all results, and a difference ends the recovery (`Diverged`). What the
event log lacks is made again with the same numbers; what it has beyond the journal was never published, and is cut.

After another boot the log is trusted only as far as it was synced. Then a snapshot is of use only if its events are
in that part: behind it the replay makes all of them again. When neither a snapshot nor the journal reaches back so
far, the log begins anew, and who asks it for older events is told that they are gone.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bus import eventlog
from bus.codes import Code
from bus.messages import Bytes, CommandKind, FrameKind, Records, pack
from conf import markets
from conf.markets import BadMarkets, Listing
from conf.paths import Paths
from engine import snapshot
from engine.exchange import Exchange
from engine.journal_reader import End, Entry, Header, Scan, first_of, segments
from engine.schema import Capacity
from engine.snapshot import Snapshot

EVENTS_MAX = 2_048  # in one frame, so that one that sweeps a whole book fits a segment
NO_LISTING = Listing(assets=(), markets=())  # the first command of every journal brings one

Tell = Callable[[Records, Bytes, float], None]  # takes events, which the next batch overwrites, their blob, their time


class Diverged(Exception):
    """Commands of the journal gave other results than when they were first applied."""

    def __init__(self, entry: Entry, reason: str) -> None:
        first, last = entry.frame.first, entry.frame.first + len(entry.frame.records) - 1
        super().__init__(
            f"{entry.file}, offset {entry.offset}: commands {first} to {last} don't give the results that they gave:"
            f" {reason}; see them with: pit journal show {first} {last}"
        )
        self.entry = entry


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """An exchange as it was, and how it came back."""

    exchange: Exchange
    end: End  # where the journal goes on
    snapshot_sequence: int  # 0: there was none to begin with
    replayed_count: int  # commands
    seconds: float
    remarks: tuple[str, ...]  # what an operator should know

    @property
    def report(self) -> str:
        """One line for the log."""
        source = f"snapshot of command {self.snapshot_sequence}" if self.snapshot_sequence else "no snapshot"
        text = f"rebuilt from {source} and {self.replayed_count} commands of the journal in {self.seconds:.3f} s"
        return "; ".join((text, *self.remarks))


def rebuild(
    paths: Paths,
    capacity: Capacity,
    *,
    header: Header,
    events: eventlog.Writer,
    memory: Any = None,
) -> Rebuilt:
    """Raises Damaged, Diverged, ValueError for a capacity that is too small, OSError."""
    began_s = time.perf_counter()
    start, remarks = _choose_start(paths, events)
    exchange = begin(start, capacity, seed=header.seed, memory=memory)
    first_sequence = exchange.sequence
    scan = Scan(paths.journal_dir, first_sequence)
    for entry in scan:
        replay(exchange, entry, partial(_log, events))
    events.cut(exchange.event_number)
    end = scan.end
    if end.sequence < exchange.sequence:
        remarks.append(f"the journal ends with command {end.sequence}, before the snapshot: a new segment is begun")
        end = End(sequence=exchange.sequence, file=None, offset=0)
    if end.torn_bytes:
        remarks.append(f"{end.torn_bytes} torn bytes behind the last command were cut ({end.reason})")
    return Rebuilt(
        exchange=exchange,
        end=end,
        snapshot_sequence=first_sequence,
        replayed_count=exchange.sequence - first_sequence,
        seconds=time.perf_counter() - began_s,
        remarks=tuple(remarks),
    )


def begin(start: Snapshot | None, capacity: Capacity, *, seed: int, memory: Any = None) -> Exchange:
    """The exchange to replay the journal on: a snapshot's, or the one before the first command. Raises ValueError."""
    if start is None:
        return Exchange(NO_LISTING, capacity, memory=memory, seed=seed)
    return Exchange.restore(start.listing, start.content, capacity, memory=memory)


def replay(exchange: Exchange, entry: Entry, tell: Tell | None = None) -> None:
    """Apply a frame of the journal as it was applied first, and tell the events as then. Raises Diverged."""
    frame = entry.frame
    if frame.records[0]["kind"] == CommandKind.CONFIGURE:
        _configure(exchange, entry)
    else:
        rest = frame.records
        while len(rest):
            applied = exchange.apply(rest, frame.time, blob_size=len(frame.blob))
            if (codes := applied.results["code"]).any():
                raise Diverged(entry, f"a command that was accepted got code {codes[codes != Code.OK][0]}")
            if tell is not None and len(applied.events):
                tell(applied.events, frame.blob, exchange.time)
            rest = rest[applied.done :]
    if exchange.sequence != frame.first + len(frame.records) - 1:
        raise Diverged(entry, f"the last one became command {exchange.sequence}")
    if exchange.results_hash != frame.results_hash:
        raise Diverged(entry, f"the hash of all results is {exchange.results_hash}, not {frame.results_hash}")


def events_frame(events: Records, blob: Bytes, now: float) -> bytes:
    """The frame that tells of events of one batch."""
    return pack(FrameKind.EVENTS, events, blob, first=int(events[0]["number"]), time=now)


def events_frames(events: Records, blob: Bytes, now: float) -> list[bytes]:
    """All frames of one batch's events, the same when it is applied and when it is replayed."""
    return [events_frame(events[start : start + EVENTS_MAX], blob, now) for start in range(0, len(events), EVENTS_MAX)]


def _choose_start(paths: Paths, events: eventlog.Writer) -> tuple[Snapshot | None, list[str]]:
    """The snapshot to begin with, None for the journal's first command; and remarks."""
    found = snapshot.newest(paths.snapshots_dir, event_number_max=events.last_number)
    if found.snapshot is not None or not found.skipped:
        return found
    files = segments(paths.journal_dir)
    if files and first_of(files[0]) == 1:
        return found
    latest = snapshot.newest(paths.snapshots_dir)
    if latest.snapshot is None:
        return latest
    number = latest.snapshot.event_number
    events.start_after(number)
    return latest.snapshot, [*latest.skipped, f"events up to {number} are lost: the event log begins anew"]


def _configure(exchange: Exchange, entry: Entry) -> None:
    command = entry.frame.records[0]
    start, size = int(command["detail_offset"]), int(command["detail_size"])
    try:
        exchange.configure(markets.parse(json.loads(bytes(entry.frame.blob[start : start + size]))))
    except (ValueError, BadMarkets) as error:
        raise Diverged(entry, str(error)) from error


def _log(log: eventlog.Writer, events: Records, blob: Bytes, now: float) -> None:
    """Append the events that the log does not have."""
    known_count = log.last_number + 1 - int(events[0]["number"])
    for frame in events_frames(events[max(known_count, 0) :], blob, now):
        log.wait_for_room(len(frame))
        log.append(frame)
