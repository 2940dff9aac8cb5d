"""A gateway's window on the matcher's memory: read-only, without asking the matcher.

What it shows may be a moment ahead of the disk: a batch is visible before it is acknowledged.
"""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from engine.memory import Memory, capacity_of
from engine.schema import BALANCE, LAYOUT, MAGIC, Array, Capacity, MemoryState, arrays, layout
from engine.views import ANY_ASSET, PLACES_MAX, Answered, Torn, answer, frozen, held

__all__ = ["ANY_ASSET", "Answered", "Counters", "NotReady", "Reader", "Torn"]

STALE_S = 3.0  # a matcher that has not been round its loop for so long does not answer
HELD_ROWS_MAX = 512  # in one part of `Reader.held`
STUCK_COUNT_MAX = 3_000  # parts of it in which a row was being written at every look
COUNTERS_TRIES_MAX = 1_000


class NotReady(Exception):
    """There is no matcher's memory, or nobody keeps it: the text says which."""


class Counters(NamedTuple):
    """How far the exchange is, at one moment between two batches."""

    sequence: int  # of the last command, changes of the listing among them
    configure_count: int  # these changes
    event_number: int
    order_id: int
    deal_id: int


class Reader:
    """Answers queries from shared memory; attaches by itself, again when the matcher made a new segment."""

    def __init__(self, name: str) -> None:
        """`name` is `conf.paths.Paths.state_name`. Raises nothing: the first query attaches."""
        self._name = name
        self._memory: Memory | None = None
        self._state: Any = None
        self._header: Any = None

    @property
    def listing_sequence(self) -> int:
        """Changes when assets or markets change. Raises NotReady."""
        self._refresh()
        return int(self._header["listing_sequence"])

    @property
    def sequence(self) -> int:
        """Of the last command applied. Raises NotReady."""
        self._refresh()
        return int(self._header["sequence"])

    def counters(self) -> Counters:
        """Raises NotReady; Torn when a batch was being applied at every try."""
        self._refresh()
        header = self._header
        for _ in range(COUNTERS_TRIES_MAX):
            counters = Counters(*(int(header[name]) for name in Counters._fields))
            if not header["dirty"] and header["sequence"] == counters.sequence:
                return counters
        raise Torn

    def ask_snapshot(self) -> None:
        """Have the matcher write a snapshot, which it does after the batch that it is at. Raises NotReady."""
        self._refresh()
        pid = int(self._header["pid"])
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            raise NotReady("the matcher has just ended") from None
        try:
            self._refresh()  # the number is the matcher's own still, and so is the process behind the descriptor
            if self._header["pid"] != pid:
                raise NotReady("the matcher is just starting")
            signal.pidfd_send_signal(descriptor, signal.SIGUSR1)
        except ProcessLookupError:
            raise NotReady("the matcher has just ended") from None
        finally:
            os.close(descriptor)

    def held(self, asset: int = ANY_ASSET) -> Iterator[Array]:
        """All rows of the balance table with something in them, as parts of up to HELD_ROWS_MAX BALANCE records.

        A part counts until the next one. One may be empty: the matcher is in that row; come back in a moment. Each
        row is as it was at one moment, not all of them at the same. If the matcher makes its memory anew meanwhile,
        what comes is what the old one held. Raises NotReady before the first, Torn when the matcher stays in a row.
        """
        self._refresh()
        assert self._memory is not None
        state = self._state
        rows, count, looked_count, stuck_count = np.zeros(HELD_ROWS_MAX, BALANCE), 0, 0, 0
        for place, end in _places(self._memory):
            while place < end:
                found_count, next_place = held(state, place, end, asset, rows[count:])
                count += found_count
                looked_count += next_place - place
                stuck_count = stuck_count + 1 if next_place == place else 0
                if count == HELD_ROWS_MAX or looked_count >= PLACES_MAX or stuck_count:
                    yield rows[:count]
                    count = looked_count = 0
                if stuck_count > STUCK_COUNT_MAX:
                    raise Torn
                place = next_place
        yield rows[:count]

    def answer(
        self,
        kind: int,
        *,
        market: int = 0,
        side: int = 0,
        limit: int = 0,
        user_id: int = 0,
        offset: int = 0,
        order_id: int = 0,
        interval: int = 0,
    ) -> Answered:
        """As Exchange.answer. Raises NotReady; Torn when the matcher was writing at every try."""
        self._refresh()
        return answer(
            self._state,
            kind,
            market=market,
            side=side,
            limit=limit,
            user_id=user_id,
            offset=offset,
            order_id=order_id,
            interval=interval,
        )

    def _refresh(self) -> None:
        if self._header is None or self._header["state"] != MemoryState.READY:
            self._attach()
        if time.monotonic() - self._header["beat"] > STALE_S:
            raise NotReady("the matcher has stopped")

    def _attach(self) -> None:
        if self._memory is not None:
            self._memory.let_go()
        self._memory = self._state = self._header = None
        memory = Memory.attach(self._name)
        if memory is None:
            raise NotReady(f"no shared memory {self._name}: the matcher does not run on this machine")
        try:
            capacity = _checked(memory)
        except NotReady:
            memory.let_go()
            raise
        self._memory = memory
        self._state = frozen(arrays(memory.buffer, capacity, writable=False))
        self._header = self._state.header[0]


def _places(memory: Memory) -> Iterator[tuple[int, int]]:
    """The ranges of places in the balance table that were ever written to; place 0 is none (engine/schema.py)."""
    [table] = [part for part in layout(capacity_of(memory.header))[0] if part.name == "balances"]
    seen = 1
    for start, end in memory.touched(table.offset, table.offset + table.row_count * BALANCE.itemsize):
        first = max(seen, (start - table.offset) // BALANCE.itemsize)
        seen = -(-(end - table.offset) // BALANCE.itemsize)
        if first < seen:
            yield first, seen


def _checked(memory: Memory) -> Capacity:
    """What a matcher's memory was made for. Raises NotReady when it is not ready, or not of our kind."""
    header = memory.header
    if header["magic"] != MAGIC or header["state"] != MemoryState.READY:
        raise NotReady("the matcher is starting")
    if header["layout"] != LAYOUT:
        raise NotReady(f"the matcher's memory has layout {header['layout']}, this process knows {LAYOUT}")
    capacity = capacity_of(header)
    if layout(capacity)[1] > len(memory.buffer) or header["size"] != len(memory.buffer):
        raise NotReady(f"the matcher's memory is {len(memory.buffer)} bytes, its header says {header['size']}")
    return capacity
