"""A gateway's window on the matcher's memory: read-only, without asking the matcher.

What it shows may be a moment ahead of the disk: a batch is visible before it is acknowledged.
"""

import time
from typing import Any

from engine.memory import Memory, capacity_of
from engine.schema import LAYOUT, MAGIC, MemoryState, arrays, layout
from engine.views import Answered, Torn, answer, frozen

__all__ = ["Answered", "NotReady", "Reader", "Torn"]

STALE_S = 3.0  # a matcher that has not been round its loop for so long does not answer


class NotReady(Exception):
    """There is no matcher's memory, or nobody keeps it: the text says which."""


class Reader:
    """Answers queries from shared memory; attaches by itself, again when the matcher made a new segment."""

    def __init__(self, name: str) -> None:
        """`name` is `conf.paths.Paths.state_name`. Raises nothing: the first query attaches."""
        self._name = name
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
        self._state = self._header = None
        memory = Memory.attach(self._name)
        if memory is None:
            raise NotReady(f"no shared memory {self._name}: the matcher does not run on this machine")
        header = memory.header
        if header["magic"] != MAGIC or header["state"] != MemoryState.READY:
            raise NotReady("the matcher is starting")
        if header["layout"] != LAYOUT:
            raise NotReady(f"the matcher's memory has layout {header['layout']}, this process knows {LAYOUT}")
        capacity = capacity_of(header)
        if layout(capacity)[1] > len(memory.buffer) or header["size"] != len(memory.buffer):
            raise NotReady(f"the matcher's memory is {len(memory.buffer)} bytes, its header says {header['size']}")
        self._state = frozen(arrays(memory.buffer, capacity, writable=False))
        self._header = self._state.header[0]
