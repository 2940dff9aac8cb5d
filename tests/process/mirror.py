"""Writes an exchange's event log and what it lists to Kafka while it runs, as the courier does where there is one.

with mirrored(running, broker.address, topic): ...
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bus.client import Client, NoAnswer, query
from bus.endpoints import place
from bus.eventlog import Reader
from bus.messages import QueryKind
from conf.settings import Settings
from tests.bus.kafka_writer import Writer

PAUSE_S = 0.02
LISTING_TIMEOUT_MS = 1_000


class Mirror(threading.Thread):
    """Begins with the first event whenever it starts, as one that was told that the broker has lost all would."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.failure: Exception | None = None
        self._settings = settings
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            with Writer(self._settings.kafka.brokers, self._settings.kafka.events_topic) as writer:
                self._write(writer)
        except Exception as error:
            self.failure = error

    def end(self) -> None:
        """End it, and see that it has done its work."""
        self._ending.set()
        self.join()
        assert self.failure is None, repr(self.failure)

    def _write(self, writer: Writer) -> None:
        log = Reader(self._settings.paths.events_dir)
        listed: list[bytes] = []
        with Client(place(self._settings, "commands")) as client:
            while not self._ending.is_set():
                until_number = log.durable_number
                try:
                    records = [
                        client.ask(query(kind), LISTING_TIMEOUT_MS).records
                        for kind in (QueryKind.ASSETS, QueryKind.MARKETS)
                    ]
                except NoAnswer:  # it is being restarted
                    continue
                if [each["name"].tobytes() for each in records] != listed:
                    writer.listing(*records)
                    listed = [each["name"].tobytes() for each in records]
                if until_number > writer.number:
                    writer.log(self._settings.paths.events_dir, until_number)
                self._ending.wait(PAUSE_S)


@contextmanager
def mirrored(settings: Settings) -> Iterator[Mirror]:
    """Mirror an exchange for a while."""
    mirror = Mirror(settings)
    mirror.start()
    try:
        yield mirror
    finally:
        mirror.end()
