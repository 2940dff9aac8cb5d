"""The `recorder` process: every event into the store of the history, exactly once.

    event log and bus -> a batch -> Writer.write: rows and the last number in one transaction -> data/positions/recorder

The number that counts is the one in the store. Whatever goes wrong, the recorder forgets what it has in hand, waits a
little, asks the store how far it is and goes on from there: so does a fresh start. Trading never waits for it; the
event log, and behind it the journal, keep what is not stored yet.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Self

from bus.catalog import Catalog, Listed
from bus.client import Client, NoAnswer
from bus.endpoints import address
from bus.eventlog import Reader
from bus.messages import Frame
from bus.positions import Position
from conf.alert import say
from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping
from engine.retelling import Events, NotRetold
from persist import opening
from persist.store import StoreDown, StoreWrong, Writer
from persist.watch import Foreign, Watch

NAME = "recorder"
IDLE_MS = 200  # how long a turn may wait for events
BATCH_LEAST, BATCH_MOST = 1_000, 32_000  # events; between them as many as a store takes in good time
# From the begin of a transaction to that of the next. Of two trades each, they would cost a store ten times the work,
# and the disk so many pages that the journal's syncs wait for them.
WRITE_INTERVAL_S = 0.05
QUICK_S, SLOW_S = 0.5, 1.5  # a full batch that took less may be larger, one that took more must be smaller
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 3.0  # between tries
REPLAY_PAUSE_S = 60.0  # the same when the journal could not be replayed: each try reads much of it


class Recorder:
    """The loop's parts; `turn` is one time round."""

    def __init__(
        self,
        settings: Settings,
        make_store: Callable[[], Writer],
        listed: Listed,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`make_store` may raise what the store itself may."""
        self._settings = settings
        self._make_store = make_store
        self._store: Writer | None = None
        self._listed = listed
        self._now = now
        self._sleep = sleep
        self._watch = Watch(settings, NAME, now)
        self._position: Position | None = None
        self._foreign_number = -1  # that the store had when it was found to be another exchange's
        self._events: Events | None = None  # None: the store is to be opened
        self._batch: list[Frame] = []
        self._batch_max = BATCH_LEAST
        self._pause_s = PAUSE_LEAST_S
        self._again_at = 0.0
        self._wrote_at = -WRITE_INTERVAL_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def turn(self, wait_ms: int = IDLE_MS) -> int:
        """Store what has come, or do what leads there; return how many events were stored."""
        self._watch.look()
        if (left_s := self._again_at - self._now()) > 0:
            self._sleep(min(left_s, wait_ms / 1000))
            return 0
        try:
            self._events = self._events or self._begin()
            self._gather(self._events, wait_ms)
            return self._write() if self._batch else self._rest(self._events)
        except NoAnswer:
            return 0  # the matcher is away; what is in hand stays there
        except (StoreDown, StoreWrong, Foreign, NotRetold, OSError) as error:
            self._give_up(error)
            return 0

    def close(self) -> None:
        """Disconnect from the bus and the store."""
        self._let_go()
        if self._position is not None:
            self._position.close()
            self._position = None

    def _begin(self) -> Events:
        """Ask the store how far it is, and follow the events from there."""
        self._listed.now()  # the matcher answers: so its event log is complete
        self._store = self._store or self._make_store()
        stored = self._store.open()
        self._refuse_foreign(stored)
        self._tell(stored)
        say(f"goes on after event {stored:,}, {self._watch.behind_count:,} behind")
        return Events(self._settings, stored)

    def _refuse_foreign(self, stored: int) -> None:
        """See that this exchange has had what the store holds. Raises Foreign.

        An exchange that started afresh overtakes the number of its predecessor some day: then it is its own missing
        position that tells.
        """
        paths = self._settings.paths
        durable = Reader(paths.events_dir).durable_number
        is_new = not (paths.positions_dir / NAME).exists()
        if stored > durable or (stored and is_new) or stored == self._foreign_number:
            self._foreign_number = stored
            raise Foreign(opening.name_of(self._settings), stored, durable)

    def _gather(self, events: Events, wait_ms: int) -> None:
        """Take what has come. A first event after a pause is not kept waiting; those of a flow wait for each other."""
        count = _count(self._batch)
        while count < self._batch_max and (frame := events.receive(self._patience_ms() if self._batch else wait_ms)):
            self._batch.append(frame)
            count += len(frame.records)

    def _patience_ms(self) -> int:
        """How long a batch that has begun may wait for more."""
        return max(0, int((self._wrote_at + WRITE_INTERVAL_S - self._now()) * 1000))

    def _write(self) -> int:
        """Store the batch; return how many events it has."""
        count, catalog = _count(self._batch), self._covering()
        began_s = self._wrote_at = self._now()
        assert self._store is not None
        self._store.write(self._batch, catalog)
        self._adapt(count, self._now() - began_s)
        self._tell(self._batch[-1].first + len(self._batch[-1].records) - 1)
        self._batch = []
        self._recover()
        return count

    def _covering(self) -> Catalog:
        """A catalog with every name of the batch. Raises NoAnswer."""
        return [self._listed.covering(frame.records) for frame in self._batch][-1]

    def _adapt(self, count: int, took_s: float) -> None:
        """Larger batches drain a backlog sooner; with too large ones the heart does not beat in time."""
        if took_s > SLOW_S:
            self._batch_max = max(count // 2, BATCH_LEAST)
        elif took_s < QUICK_S and count >= self._batch_max:
            self._batch_max = min(2 * self._batch_max, BATCH_MOST)

    def _tell(self, number: int) -> None:
        """All events up to `number` are stored. Raises OSError."""
        self._watch.stored_number = number
        self._position = self._position or Position(self._settings.paths.positions_dir, NAME)
        self._position.tell(number)

    def _rest(self, events: Events) -> int:
        """There was nothing to write."""
        if not events.is_retelling and self._watch.behind_count == 0:
            self._recover()
        return 0

    def _recover(self) -> None:
        """All is well."""
        self._pause_s = PAUSE_LEAST_S
        self._watch.end_trouble()

    def _give_up(self, error: Exception) -> None:
        """Go back to where a start begins, after a pause that grows."""
        self._watch.begin_trouble(error)
        self._let_go()
        self._batch_max = max(self._batch_max // 2, BATCH_LEAST)  # it may have been too much for the store
        self._again_at = self._now() + (REPLAY_PAUSE_S if isinstance(error, NotRetold) else self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSE_MOST_S)

    def _let_go(self) -> None:
        self._batch = []
        if self._events is not None:
            self._events.close()
            self._events = None
        if self._store is not None:
            self._store.close()


def _count(frames: list[Frame]) -> int:
    return sum(len(frame.records) for frame in frames)


def main(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()
    client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
    with client, Recorder(settings, partial(opening.writer_of, settings), Listed(client)) as recorder:
        ready()
        while not stopping:
            beat()
            recorder.turn()
    return 0
