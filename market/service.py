"""The `market` process: k-lines, prices and deals from events, and answers about them.

    event log and bus ─► board ─► store: what has changed, and the position, in one transaction
                           └────► answers to calls

After a start, and whenever something else has changed the store, a new board is loaded from it and takes over the
events since then. It answers once it has caught up; until then, or for ever if the store does not answer, calls find
nobody, or the board before it. Trading waits for none of this.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Self

import zmq

from bus import catalog
from bus.calls import Service
from bus.catalog import Catalog
from bus.client import NoAnswer
from bus.endpoints import COMMANDS_TIMEOUT_MS, place
from bus.methods import Backend
from conf.alert import alert
from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping
from market.board import Board
from market.follower import Follower
from market.keeper import NAME, Keeper
from market.opening import store_of
from market.replies import Respondent
from market.sources import Source, source_of
from market.store import Loaded, Store

IDLE_MS = 100  # how long a turn may wait for events or calls
STORE_MS = 10  # the same while the store is at work, whose end is not polled
ANSWER_S = 0.05  # how long a turn may answer calls before it looks at events again
LISTING_S = 2.0  # how old the listing may be: what is new has to be known before it trades
LISTING_TIMEOUT_MS = 50  # calls wait while the matcher is asked
PATIENCE_S = 10.0  # after which others need not wait for this process any longer


Clock = Callable[[], float]  # seconds since 1970


class MarketProcess:
    """The loop's parts; `turn` is one time round."""

    def __init__(self, settings: Settings, store: Store, source: Source, clock: Clock = time.time) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._keeper = Keeper(settings, store, source, clock=clock)
        self._catalog: Catalog = catalog.EMPTY
        self._listed_at = -LISTING_S
        self._current: Follower | None = None
        self._next: Follower | None = None  # catches up to take its place
        self._service: Service | None = None
        self._respond: Respondent | None = None
        self._patient_until = time.monotonic() + PATIENCE_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_answering(self) -> bool:
        """Whether calls are answered."""
        return self._service is not None

    @property
    def is_settled(self) -> bool:
        """Whether others need not wait for this process: it answers, or it does not know when it will."""
        return self.is_answering or self._keeper.is_troubled or time.monotonic() > self._patient_until

    def turn(self, wait_ms: int = IDLE_MS) -> None:
        """Wait for something to do, and do it."""
        self._wait(wait_ms)
        self._refresh()
        for follower in self._followers():
            follower.turn()
        self._answer()
        self._keep()
        if self._next is not None and self._next.is_caught_up:
            self._take_over(self._next)

    def close(self) -> None:
        """Flush what has changed and close everything."""
        self._keeper.finish(self._kept_board)
        for follower in self._followers():
            follower.close()
        if self._service is not None:
            self._service.close()
        self._source.close()

    @property
    def _kept_board(self) -> Board | None:
        """The one that goes with what is in the store."""
        follower = self._next or self._current
        return None if follower is None else follower.board

    def _followers(self) -> list[Follower]:
        return [follower for follower in (self._current, self._next) if follower is not None]

    def _wait(self, wait_ms: int) -> None:
        followers = self._followers()
        if any(follower.is_behind for follower in followers):
            return
        poller = zmq.Poller()
        for follower in followers:
            poller.register(follower.events.fd, zmq.POLLIN)
        if self._service is not None:
            poller.register(self._service.socket, zmq.POLLIN)
        poller.poll(min(wait_ms, STORE_MS) if self._keeper.is_waiting else wait_ms)

    def _refresh(self) -> None:
        """Ask what is listed, if it has been a while."""
        now = time.monotonic()
        is_first = self._catalog is catalog.EMPTY
        if not is_first and now < self._listed_at + LISTING_S:
            return
        self._listed_at = now
        try:
            self._catalog = self._source.listed(COMMANDS_TIMEOUT_MS if is_first else LISTING_TIMEOUT_MS)
        except NoAnswer:
            return
        for follower in self._followers():
            follower.board.know(self._catalog)

    def _answer(self) -> None:
        if self._service is None or self._respond is None:
            return
        until = time.monotonic() + ANSWER_S
        while self._service.turn(self._respond) and time.monotonic() < until:
            pass

    def _keep(self) -> None:
        """Let the store work; go on with what it has loaded."""
        if self._catalog is catalog.EMPTY:
            return
        loaded = self._keeper.turn(self._kept_board, self._catalog)
        if loaded is not None:
            self._begin(loaded)

    def _begin(self, loaded: Loaded) -> None:
        if self._next is not None:
            self._next.close()
        self._next = Follower(self._settings, self._source, loaded, self._catalog, self._clock)

    def _take_over(self, follower: Follower) -> None:
        """From now on answer from this one."""
        if self._current is not None:
            self._current.close()
        self._current, self._next = follower, None
        print(f"answers from event {follower.board.position.number} on", file=sys.stderr, flush=True)
        self._respond = Respondent(follower.board, self._settings.market, self._clock)
        if self._service is None:
            where = place(self._settings, NAME)
            self._service = Service(where, Backend.MARKET, lambda: self._catalog, known_number=self._known_number)

    def _known_number(self) -> int:
        return 0 if self._current is None else self._current.board.position.number


def main(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()
    source = source_of(settings, partial(alert, settings.paths, NAME))
    with MarketProcess(settings, store_of(settings), source) as process:
        is_ready = False
        while not stopping:
            beat()
            process.turn()
            if process.is_settled and not is_ready:
                ready()
                is_ready = True
    return 0
