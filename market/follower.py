"""A board that takes over the events as they come, from the position that a store had on."""

import time
from collections.abc import Callable

from bus.catalog import Catalog
from bus.eventlog import Gone
from bus.messages import Frame
from conf.alert import alert
from conf.settings import Settings
from engine.retelling import NotRetold
from market.board import Board
from market.keeper import NAME
from market.sources import Source
from market.store import Loaded

SWEEP_INTERVAL_S = 3_600.0
EVENTS_AT_ONCE_COUNT = 20_000  # some milliseconds of work


class Follower:
    """A board and its events; `clock` gives seconds since 1970."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        loaded: Loaded,
        catalog: Catalog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._sweep_at = 0.0  # by that clock
        self._target_number = source.last_number
        self.board = Board(settings.market)
        self.board.know(catalog)
        self.board.load(loaded)
        self.events = source.events(loaded.position.number)
        self.is_behind = True  # there is more to take over at once

    @property
    def is_caught_up(self) -> bool:
        """Whether it has all events that there were when it began."""
        return self.board.position.number >= self._target_number

    def turn(self) -> None:
        """Take over what has come."""
        frames: list[Frame] = []
        count = 0
        while count < EVENTS_AT_ONCE_COUNT and (frame := self._receive()) is not None:
            frames.append(frame)
            count += len(frame.records)
        self.board.apply(frames)
        self.is_behind = bool(frames) or self.events.is_retelling
        self._sweep(count >= EVENTS_AT_ONCE_COUNT or self.events.is_retelling)

    def _sweep(self, is_catching_up: bool) -> None:
        """Forget what is kept no longer; at once while old events come, for years of seconds would fill the memory."""
        now = self._clock()
        if is_catching_up or now >= self._sweep_at:
            self.board.sweep(int(now))
            self._sweep_at = now + SWEEP_INTERVAL_S

    def close(self) -> None:
        """Close the socket of the events."""
        self.events.close()

    def _receive(self) -> Frame | None:
        try:
            return self.events.receive(0)
        except NotRetold as error:
            self._go_on(str(error), self._source.first_number)
        except Gone as gone:
            self._go_on(str(gone), gone.first_number)
        return None

    def _go_on(self, why: str, first_number: int) -> None:
        """Events are lost: go on with the first one that is there."""
        text = f"{why}. Market data goes on without them, from event {first_number:,} on"
        alert(self._settings.paths, NAME, text)
        self.events.close()
        self.events = self._source.events(max(first_number - 1, self.events.last_number))
