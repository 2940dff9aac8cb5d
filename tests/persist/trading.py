"""A matcher that trades on demand, without processes: its loop in a thread, its bus on sockets of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bus.client import Client
from bus.endpoints import address
from bus.eventlog import Reader
from bus.messages import Records
from conf.settings import Settings
from engine.matcher import Matcher
from engine.sockets import Sockets
from tests.engine.opened import all_accepted, deposits, opened, puts

TURN_MS = 20


class Exchange:
    """An exchange in this process."""

    def __init__(self, settings: Settings, matcher: Matcher) -> None:
        self.settings = settings
        self._matcher = matcher
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Let the matcher turn."""
        self._over.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Let it stand still; it does not answer then."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def fund(self) -> None:
        """Make four users rich."""
        self.send(deposits())

    def trade(self, order_count: int) -> None:
        """Put orders of both sides at one price: each second one trades."""
        self.send(puts(order_count))

    def send(self, commands: Records) -> None:
        """Have commands done, all of which are accepted."""
        settings = self.settings
        with Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands")) as client:
            client.send(commands)
            assert all_accepted(client.receive(timeout_ms=30_000).records)
            client.ping(timeout_ms=30_000)  # answered in a later turn: the events are durable

    @property
    def event_number(self) -> int:
        """Of the last event that is durable."""
        return Reader(self.settings.paths.events_dir).durable_number

    @property
    def events(self) -> bytes:
        """The records of all events in the log."""
        frames = Reader(self.settings.paths.events_dir).frames(0)
        return b"".join(frame.records.tobytes() for frame in frames)

    def _run(self) -> None:
        while not self._over.is_set():
            self._matcher.turn(TURN_MS)


@contextmanager
def exchange(settings: Settings) -> Iterator[Exchange]:
    """Open one, let it turn, close it in order."""
    with opened(settings) as parts:
        sockets = Sockets.bind(settings.bus.bind, settings.paths)
        running = Exchange(settings, Matcher(parts, sockets, settings.paths))
        running.start()
        try:
            yield running
        finally:
            running.stop()
            sockets.close()
