"""The exchange as a class: assets and markets in, arrays of COMMAND in, arrays of RESULT and EVENT out.

It needs no process, socket or file, and holds any number of markets; docs/engine.md drives it from a notebook. The
matcher gives it shared memory to live in, tests and the replica give it their own.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bus.messages import COMMAND, DEAL_EVENT, EVENT, FRAME_RECORDS_MAX, RESULT, UPDATE_EVENT
from conf.markets import BadMarkets, Listing
from engine import audit, registry, views
from engine.batch import apply_batch
from engine.content import by_row, dump, fill
from engine.matching import Output
from engine.schema import LAYOUT, MAGIC, Array, Capacity, Row, State, arrays, layout, readonly

EVENTS_MIN = 1 << 14


class Applied(NamedTuple):
    """What a batch did: views of buffers that the next batch reuses."""

    results: Array  # RESULT, one a command done
    events: Array  # EVENT
    done: int  # commands; fewer than given when the event buffer was full


class Exchange:
    """Balances and order books, changed by commands only.

    `memory` is a zeroed buffer of `Exchange.size(capacity)` bytes. `seed` shapes the skip lists: give a secret one
    where strangers can trade. Raises BadMarkets for a listing that does not fit.
    """

    def __init__(
        self,
        listing: Listing,
        capacity: Capacity | None = None,
        *,
        memory: Any = None,
        seed: int = 1,
    ) -> None:
        self.capacity = capacity or Capacity()
        self._open(np.zeros(self.size(self.capacity), np.uint8) if memory is None else memory)
        header = self.header
        header["layout"] = LAYOUT
        header["size"] = self.size(self.capacity)
        header["seed"] = seed
        for field in self.capacity.__dataclass_fields__:
            header[field] = getattr(self.capacity, field)
        self.listing = Listing(assets=(), markets=())
        self._list(listing)
        header["magic"] = MAGIC

    @classmethod
    def adopt(cls, capacity: Capacity, memory: Any) -> Self:
        """Carry on with memory that an earlier Exchange of the same capacity left clean."""
        exchange = cls.__new__(cls)
        exchange.capacity = capacity
        exchange._open(memory)
        exchange.listing = registry.read(exchange.state)
        return exchange

    @classmethod
    def restore(
        cls,
        listing: Listing,
        content: dict[str, NDArray[Any]],
        capacity: Capacity | None = None,
        *,
        memory: Any = None,
    ) -> Self:
        """An exchange with the content that `dump` gave, of any capacity that holds it. Raises ValueError."""
        exchange = cls(by_row(listing, content), capacity, memory=memory)
        fill(exchange.state, content)
        exchange._list(listing)
        return exchange

    @staticmethod
    def size(capacity: Capacity) -> int:
        """Bytes of memory for a capacity."""
        return layout(capacity)[1]

    def _open(self, memory: Any) -> None:
        self.state: State = arrays(memory, self.capacity)
        self._frozen = views.frozen(self.state)
        self._cursor = np.zeros(1, "i8")
        self._make_buffers(FRAME_RECORDS_MAX, EVENTS_MIN)

    def _make_buffers(self, results: int, events: int) -> None:
        buffer = np.zeros(events, EVENT)
        self._out = Output(
            results=np.zeros(results, RESULT),
            events=buffer,
            deals=buffer.view(DEAL_EVENT),
            updates=buffer.view(UPDATE_EVENT),
            cursor=self._cursor,
        )

    @property
    def header(self) -> Row:
        """The HEADER record: counters and limits."""
        return self.state.header[0]

    @property
    def sequence(self) -> int:
        """Of the last accepted command."""
        return int(self.header["sequence"])

    @property
    def event_number(self) -> int:
        """Of the last event."""
        return int(self.header["event_number"])

    @property
    def order_id(self) -> int:
        """The last one given."""
        return int(self.header["order_id"])

    @property
    def deal_id(self) -> int:
        """The last one given."""
        return int(self.header["deal_id"])

    @property
    def results_hash(self) -> int:
        """The running hash of all accepted results: equal commands give equal hashes."""
        return int(self.header["results_hash"])

    @property
    def time(self) -> float:
        """Of the last batch."""
        return float(self.header["time"])

    def apply(self, commands: Array, now: float, *, blob_size: int = 0) -> Applied:
        """Apply commands in order; `blob_size` bounds what details may point at.

        When the buffer for events is full, fewer are done: apply the rest next.
        """
        assert commands.dtype == COMMAND, commands.dtype
        commands = readonly(commands)
        if len(commands) > len(self._out.results):
            self._make_buffers(len(commands), len(self._out.events))
        while True:
            self._cursor[0] = 0
            done = apply_batch(self.state, self._out, commands, blob_size, now)
            if done or not len(commands):
                break
            self._make_buffers(len(self._out.results), 4 * len(self._out.events))
        return Applied(self._out.results[:done], self._out.events[: self._cursor[0]], done)

    def configure(self, listing: Listing) -> None:
        """Add assets and markets, or change a min_amount, as one command. Raises BadMarkets, nothing changed then."""
        self._list(listing)
        self.header["sequence"] += 1
        self.header["configure_count"] += 1

    def _list(self, wanted: Listing) -> None:
        if trouble := registry.trouble(self.state, wanted):
            raise BadMarkets(trouble)
        registry.write(self.state, wanted)
        self.listing = wanted

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
    ) -> views.Answered:
        """The records that answer a QueryKind, and for orders how many there are before paging."""
        return views.answer(
            self._frozen,
            kind,
            market=market,
            side=side,
            limit=limit,
            user_id=user_id,
            offset=offset,
            order_id=order_id,
            interval=interval,
        )

    def dump(self) -> dict[str, NDArray[Any]]:
        """The content, apart from how it lies in memory: what `restore` takes."""
        return dump(self.state)

    def audit(self) -> None:
        """Prove every invariant of the state. Raises audit.AuditError."""
        audit.check(self.state)
