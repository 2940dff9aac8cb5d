"""How far the history is behind trading, and what was stored meanwhile, counted as the original's rows."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bus.eventlog import Reader
from bus.messages import DEAL_EVENT, EventKind, OrderType, Records
from bus.positions import told
from conf.settings import Settings

RECORDER = "recorder"
ROWS_OF_DEAL = 4  # deal_history and user_deal_history, one of each for each side
ROWS_OF_ORDER = 2  # order_history and order_detail


class Sample(NamedTuple):
    """A moment: which event was the last one to be stored, and the last one on the bus."""

    time_s: float
    stored: int
    durable: int


class Watch:
    """Looks at the event log and at the recorder's position. One look costs some ten microseconds."""

    def __init__(self, settings: Settings) -> None:
        self._events = Reader(settings.paths.events_dir)
        self._positions_dir = settings.paths.positions_dir

    def look(self) -> Sample:
        """How it is now."""
        stored = told(self._positions_dir).get(RECORDER, 0)
        return Sample(time.perf_counter(), stored, self._events.durable_number)


class Counts(NamedTuple):
    """What some events are."""

    trades: int
    rows: int  # of the original's five families
    events: int


class Passed(NamedTuple):
    """All events between two numbers: where among them the trades are, and how many rows there are up to each event."""

    after_number: int
    trade_numbers: NDArray[np.int64]
    rows: NDArray[np.int64]  # of the events up to and with after_number + 1 + index

    def between(self, after_number: int, number: int) -> Counts:
        """Count the events after one, up to another one."""
        trades = np.searchsorted(self.trade_numbers, (after_number, number), "right")
        return Counts(int(trades[1] - trades[0]), self._rows(number) - self._rows(after_number), number - after_number)

    def _rows(self, number: int) -> int:
        return int(self.rows[number - self.after_number - 1]) if number > self.after_number else 0


def passed(events_dir: Path, after_number: int, number: int) -> Passed:
    """Read the event log between two numbers. Raises Gone."""
    trades, rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for frame in Reader(events_dir).frames(after_number):
        events = frame.records[: number - frame.first + 1]
        trades.append(events["number"][events["kind"] == EventKind.DEAL])
        rows.append(rows_of(events))
        if frame.first + len(frame.records) > number:
            break
    return Passed(after_number, np.concatenate(trades), np.cumsum(np.concatenate(rows)))


def rows_of(events: Records) -> NDArray[np.int64]:
    """How many rows ViaBTC's engine writes for each event (CONTRACT 2.7, 7.3)."""
    kinds, orders = events["kind"], events["order"]
    deals = events.view(DEAL_EVENT)
    fee_count = (deals["ask_rate_units"] > 0).astype("i8") + (deals["bid_rate_units"] > 0)
    has_traded = orders["deal_stock_units"].any(axis=1) | (orders["type"] == OrderType.MARKET)
    is_kept = (kinds == EventKind.ORDER_FINISH) & has_traded
    rows = np.where(kinds == EventKind.DEAL, ROWS_OF_DEAL + 4 + fee_count, 0)
    rows += np.where(is_kept, ROWS_OF_ORDER, 0) + (kinds == EventKind.BALANCE_UPDATE)
    return rows.astype("i8")
