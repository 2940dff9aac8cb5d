"""A store of the history that keeps frames as they come, and does what a test wants to go wrong."""

from collections.abc import Callable, Sequence

import numpy as np

from bus.catalog import Catalog
from bus.messages import UPDATE_EVENT, EventKind, Frame, Records

Fault = Callable[[], None]


def well() -> None:
    """Nothing goes wrong."""


class MemoryStore:
    """A `persist.store.Writer`. What follows the last event stored is taken; anything else is a failure of the test."""

    def __init__(self, number: int = 0) -> None:
        self.number = number  # of the last event stored
        self.batches: list[list[bytes]] = []  # the records of each write's frames
        self.on_open: Fault = well
        self.before_commit: Fault = well
        self.after_commit: Fault = well
        self.is_open = False

    def open(self) -> int:
        assert not self.is_open, "it is open"
        self.on_open()
        self.is_open = True
        return self.number

    def write(self, frames: Sequence[Frame], catalog: Catalog) -> None:
        assert self.is_open, "it is not open"
        self.before_commit()
        for frame in frames:
            assert frame.records["number"][0] == frame.first == self.number + 1, f"{frame.first} after {self.number}"
            _see_names(frame.records, catalog)
            self.number += len(frame.records)
        self.batches.append([frame.records.tobytes() for frame in frames])
        self.after_commit()

    def close(self) -> None:
        self.is_open = False

    @property
    def events(self) -> bytes:
        """The records of all events stored."""
        return b"".join(records for batch in self.batches for records in batch)


def _see_names(events: Records, catalog: Catalog) -> None:
    """The catalog has every asset and market of the events."""
    is_update = events["kind"] == EventKind.BALANCE_UPDATE
    assert np.isin(events[is_update].view(UPDATE_EVENT)["asset"], np.arange(len(catalog.assets))).all()
    assert np.isin(events["market"][~is_update], np.arange(len(catalog.markets))).all()
