"""Bringing the exchange up: adopt what a killed matcher left clean in memory, or rebuild it from the disk.

    memory clean, of this journal, and both ends agree  ->  adopt it: milliseconds
    anything else                                       ->  newest good snapshot, then replay the journal

Then the journal is opened for writing, and a markets file that has changed is applied as a command like any other.
"""

import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from bus import eventlog, positions
from bus.messages import COMMAND, CommandKind, FrameKind, pack
from conf import markets
from conf.markets import BadMarkets, Listing
from conf.settings import Settings
from engine import recovery
from engine.exchange import Exchange
from engine.journal import Journal
from engine.journal_reader import End, Header, find_end, read_header
from engine.memory import Memory
from engine.schema import Capacity, MemoryState


@dataclass
class Opened:
    """A running exchange's parts, and how they came to be."""

    exchange: Exchange
    journal: Journal
    events: eventlog.Writer
    memory: Memory
    state_name: str
    report: str

    def close(self) -> None:
        """Close files and give the memory's name free; a snapshot was written before."""
        self.journal.close()
        self.events.close()
        self.memory.retire(self.state_name)


def capacity_of(settings: Settings) -> Capacity:
    """The capacities that are configured."""
    matcher = settings.matcher
    return Capacity(
        order_capacity=matcher.order_capacity,
        level_capacity=matcher.level_capacity,
        balance_capacity=matcher.balance_capacity,
        user_market_capacity=matcher.user_market_capacity,
        update_capacity=matcher.update_capacity,
    )


def open_exchange(settings: Settings) -> Opened:
    """Raises InUse, BadMarkets, Damaged, Diverged, ValueError, OSError: each says what is wrong and what to do."""
    began = time.monotonic()
    paths = settings.paths
    wanted = markets.load(settings.markets_file)
    header = read_header(paths.journal_dir) or Header(seed=secrets.randbits(62), instance=settings.instance)
    left = Memory.attach(paths.state_name, writable=True)
    with ExitStack() as undo:
        events = eventlog.Writer(
            paths.events_dir,
            segment_size=settings.events.segment_size,
            keep_segments_count=settings.events.keep_segments_count,
            backlog_segments_count=settings.events.backlog_segments_count,
            needed_after=partial(needed_after, settings),
        )
        undo.callback(events.close)
        memory, exchange, end, how = _state(settings, header, left, events)
        undo.callback(memory.retire, paths.state_name)
        journal = Journal(
            paths.journal_dir,
            end,
            header=header,
            segment_size=settings.journal.segment_size,
            sync="interval" if settings.journal.sync == "interval" else "always",
            interval_ms=settings.journal.interval_ms,
        )
        undo.callback(journal.close)
        if exchange.listing != wanted:
            _configure(exchange, journal, wanted, settings)
        events.mark_durable(exchange.event_number)
        undo.pop_all()
    exchange.header["pid"] = os.getpid()
    exchange.header["beat"] = time.monotonic()
    exchange.header["state"] = MemoryState.READY
    took_ms = (time.monotonic() - began) * 1000
    report = f"matcher ready after {took_ms:.0f} ms, command {exchange.sequence}, {how}"
    return Opened(exchange, journal, events, memory, paths.state_name, report)


def needed_after(settings: Settings) -> int | None:
    """The last event that every configured consumer of events has stored; None when none has told."""
    told = positions.told(settings.paths.positions_dir)
    return min((told[name] for name in settings.consumers if name in told), default=None)


def _state(
    settings: Settings, header: Header, left: Memory | None, events: eventlog.Writer
) -> tuple[Memory, Exchange, End, str]:
    """The exchange in its memory, where its journal ends, and where it came from."""
    paths, capacity = settings.paths, capacity_of(settings)
    if left and (end := _adoptable(left, capacity, header, events, settings)):
        return left, Exchange.adopt(capacity, left.buffer), end, "adopted from memory"
    if left:
        left.retire(paths.state_name)
    size, is_shared = Exchange.size(capacity), bool(settings.supervisor.group)
    memory = Memory.create(paths.state_name, size, is_shared=is_shared)
    try:
        rebuilt = recovery.rebuild(paths, capacity, header=header, memory=memory.buffer, events=events)
    except BaseException:
        memory.retire(paths.state_name)
        raise
    return memory, rebuilt.exchange, rebuilt.end, rebuilt.report


def _adoptable(
    memory: Memory, capacity: Capacity, header: Header, events: eventlog.Writer, settings: Settings
) -> End | None:
    """Where the journal ends, if the memory is clean and stands exactly there."""
    row = memory.header
    if not memory.holds(capacity, Exchange.size(capacity)):
        return None
    if row["dirty"] or row["state"] != MemoryState.READY or row["seed"] != header.seed:
        return None
    end = find_end(settings.paths.journal_dir)
    if row["sequence"] != end.sequence or row["event_number"] != events.last_number:
        return None
    return end


def _configure(exchange: Exchange, journal: Journal, wanted: Listing, settings: Settings) -> None:
    """Apply a markets file as a command, and wait until it is on disk."""
    try:
        exchange.configure(wanted)
    except BadMarkets as error:
        raise BadMarkets(f"{settings.markets_file}: {error}") from None
    journal.append(configure_frame(exchange, wanted))
    if not journal.sync_now():
        raise OSError(f"{settings.paths.journal_dir}: {journal.trouble}")


def configure_frame(exchange: Exchange, wanted: Listing) -> bytes:
    """The journal's record of a listing that was just applied."""
    detail = wanted.to_json().encode()
    command = np.zeros(1, COMMAND)
    command["kind"] = CommandKind.CONFIGURE
    command["detail_size"] = len(detail)
    return pack(
        FrameKind.COMMANDS,
        command,
        detail,
        first=exchange.sequence,
        time=exchange.time,
        results_hash=exchange.results_hash,
        sealed=True,
    )
