"""The store's side of the market process: what is loaded, flushed and swept, and when it is tried again.

A store may take its time, or be away. So it is called in a thread, one call after the other, while the loop goes on
answering; what happens with the outcome, happens in the loop.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from pathlib import Path
from typing import Any

from bus import positions
from bus.catalog import Catalog
from conf.alert import alert
from conf.settings import KAFKA, Settings
from market.board import ALWAYS, Board, kept_since
from market.sources import Source
from market.store import Loaded, Position, Store, StoreDown, StoreMoved, StoreWrong

NAME = "market"
PAUSE_LEAST_S, PAUSE_MOST_S = 0.25, 15.0  # between tries
LOOK_INTERVAL_S = 5.0  # how often the store is asked, when nothing happens, whether `pit market` has changed it
SWEEP_FIRST_S, SWEEP_INTERVAL_S = 3_600.0, 86_400.0  # after the start, and then
BACKLOG_MAX = 1_000_000  # candles that one flush has after the store was away; Redis stands still for seconds
BACKLOG_INTERVAL_S = 600.0  # at least so long from one load for that reason to the next
STOP_TIMEOUT_S = 8.0  # for the last flush; a process that ends has 15 seconds (conf.settings.Supervisor)


class Foreign(Exception):
    """The store has the market data of another exchange: the text says what to do."""

    def __init__(self, stored_number: int, last_number: int, events: str) -> None:
        anew = "have it made anew from the events that there are: `pit market rebuild`"
        if events == KAFKA:
            anew += " where the matcher runs; if it was kept there before, see docs/hosts.md"
        super().__init__(
            "the store has that of another exchange, or of this one before its data folder was emptied: it goes up to "
            f"event {stored_number:,}, the events here to {last_number:,}, and none of them was ever stored there. "
            f"Bring the old data folder back, or name another store ([market] store), or {anew}"
        )


class Keeper:
    """Keeps a store and a board together; `turn` is one time round. `now` is in seconds of a clock that never jumps."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        source: Source,
        *,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wants_load = True
        self._settings = settings
        self._store = store
        self._clock = clock
        self._now = now
        self._thread = ThreadPoolExecutor(1, "market-store")
        self._call: Future[Any] | None = None
        self._flushing: tuple[Board, Position] | None = None  # what it flushes
        self._position_file: positions.Position | None = None
        self._flushed_number = -1
        self._loaded_count = 0  # of markets
        self._backlog_at = now()
        self._flush_at = self._again_at = 0.0
        self._sweep_at = now() + SWEEP_FIRST_S
        self._pause_s = PAUSE_LEAST_S
        self._trouble = ""
        self._source = source
        self._foreign_number = -1  # that the store had when it was found to be another exchange's

    @property
    def is_troubled(self) -> bool:
        """Whether the store does not do what it should."""
        return bool(self._trouble)

    @property
    def is_waiting(self) -> bool:
        """Whether the store is at work."""
        return self._call is not None

    def turn(self, board: Board | None, catalog: Catalog) -> Loaded | None:
        """See what the store has done and have it do what is due; what it has loaded, when it has.

        As long as nothing is loaded there is no board. The catalog is the one that the board knows.
        """
        loaded = self._end() if self._call is not None and self._call.done() else None
        if self._call is None and loaded is None and self._now() >= self._again_at:
            self._begin(board, catalog)
        return loaded

    def finish(self, board: Board | None) -> None:
        """Flush what has changed and close the store; the process ends."""
        deadline = self._now() + STOP_TIMEOUT_S
        try:
            self._wait(deadline)
            if board is not None and not self.wants_load and board.is_listed:
                self._begin_flush(board)
                self._wait(deadline)
            self._trouble = ""  # that it can be closed does not tell that it works again
            self._start(self._store.close)
            self._wait(deadline)
        except NotDone:
            alert(self._settings.paths, NAME, "the store of market data did not answer when the process was to end")
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._position_file is not None:
            self._position_file.close()

    def _wait(self, deadline: float) -> None:
        """Until the call is done, if there is one. Raises TimeoutError."""
        if self._call is not None:
            self._call.exception(max(0.0, deadline - self._now()))
            self._end()

    def _begin(self, board: Board | None, catalog: Catalog) -> None:
        """Have the store do what is most urgent, if anything is due."""
        now = self._now()
        if len(catalog.markets) > self._loaded_count:  # the store may have had one before it was listed here
            self.wants_load = True
        if self.wants_load:
            self._loaded_count = len(catalog.markets)
            since = kept_since(self._settings.market, int(self._clock()))
            self._start(self._store.load, catalog, since)
        elif board is None:
            return
        elif now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL_S
            since = kept_since(self._settings.market, int(self._clock()))
            before = {resolution: start for resolution, start in since.items() if start != ALWAYS}
            self._start(self._store.sweep, list(catalog.markets), before)
        elif board.is_listed and now >= self._flush_at + self._interval_s(board):
            self._begin_flush(board)

    def _interval_s(self, board: Board) -> float:
        """Seconds from one flush to the next."""
        interval_s = self._settings.market.flush_interval_s
        return interval_s if board.position.number != self._flushed_number else max(interval_s, LOOK_INTERVAL_S)

    def _begin_flush(self, board: Board) -> None:
        """Flush what has changed. When that is too much at once, go back to where the store is: a board that takes
        over the events since then is flushed in between.
        """
        self._flush_at = self._now()
        parts, position = board.changed()
        count = sum(len(candles) for part in parts for candles in part.candles.values())
        if self._trouble and count > BACKLOG_MAX and self._flush_at >= self._backlog_at:
            self._backlog_at = self._flush_at + BACKLOG_INTERVAL_S
            self.wants_load = True
            return
        self._flushing = board, position
        self._start(self._store.flush, parts, position)

    def _start(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._call = self._thread.submit(call, *arguments)

    def _end(self) -> Loaded | None:
        """Take the outcome of the call that is done."""
        (call, self._call), (flushing, self._flushing) = (self._call, None), (self._flushing, None)
        assert call is not None
        try:
            loaded: Loaded | None = call.result()
            if loaded is not None:
                self._refuse_foreign(loaded.position.number)
                self._tell(loaded.position.number)  # before the first flush, which may be the last thing that it does
                self.wants_load, self._flushed_number = False, -1
            elif flushing is not None:
                board, position = flushing
                board.flushed()
                self._tell(position.number)
                self._flushed_number = position.number
        except StoreMoved as error:
            alert(self._settings.paths, NAME, f"market data is loaded anew: {error}")
            self.wants_load = True
            return None
        except (StoreDown, StoreWrong, Foreign, OSError) as error:
            self._fail(str(error))
            return None
        self._recover()
        return loaded

    def _refuse_foreign(self, number: int) -> None:
        """See that this exchange has had what the store holds. Raises Foreign.

        An exchange that started afresh overtakes the number of its predecessor some day: then it is its own missing
        position that tells. On a host that reaches Kafka only the data folder is no exchange's own: what has a mark
        there must have the same one.
        """
        last_number = self._source.last_number
        is_new = not (self._settings.paths.positions_dir / NAME).exists()
        is_other = self._stored_mark() not in (0, self._source.mark)
        if number > last_number or (number and (is_new or is_other)) or number == self._foreign_number:
            self._foreign_number = number
            raise Foreign(number, last_number, self._settings.market.events)

    def _stored_mark(self) -> int:
        """Of the exchange that this data folder has stored market data of; 0 when it does not say. Raises OSError."""
        try:
            return int(self._mark_file.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    @property
    def _mark_file(self) -> Path:
        return self._settings.paths.positions_dir / f"{NAME}.exchange"

    def _tell(self, number: int) -> None:
        """All events up to `number` are stored. Raises OSError."""
        if self._position_file is None:
            if self._source.mark:
                self._settings.paths.positions_dir.mkdir(parents=True, exist_ok=True)
                self._mark_file.write_text(f"{self._source.mark}\n")
            self._position_file = positions.Position(self._settings.paths.positions_dir, NAME)
        self._position_file.tell(number)

    def _fail(self, why: str) -> None:
        """Try again later; tell it once, for the words may differ from try to try."""
        self._again_at = self._now() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MOST_S)
        doing = "loaded" if self.wants_load else "stored"
        if doing != self._trouble:
            self._trouble = doing
            alert(self._settings.paths, NAME, f"market data is not {doing}, which is tried again: {why}")

    def _recover(self) -> None:
        self._pause_s = PAUSE_LEAST_S
        if self._trouble:
            alert(self._settings.paths, NAME, f"market data is {self._trouble} again")
            self._trouble = ""
