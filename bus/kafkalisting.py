"""What a host that reaches Kafka only knows of the exchange: what is listed, and how far its events go.

A thread reads the last message of the catalog's topic as it changes, and looks every few seconds at the last event.
"""

import threading
import time
from collections.abc import Callable

from bus import catalog
from bus.catalog import Catalog
from bus.kafka import catalog_of, catalog_topic
from bus.kafkaplaces import EventLog
from bus.kafkatopics import Topics
from bus.messages import BadFrame
from bus.retrying import Retrying

POLL_S = 0.5
LOOK_S = 2.0
MISSING_S = 5.0  # until it is told that there is nothing: the courier may have begun at the same time


class KafkaListing(Retrying):
    """All is None until it is known; of a broker that is away the last that was known stays."""

    def __init__(self, brokers: str, events_topic: str, tell: Callable[[str], object]) -> None:
        super().__init__("kafka-listing", "assets and markets", tell)
        self.catalog: Catalog | None = None
        self.end_number: int | None = None  # the last event
        self.mark = 0  # of the exchange (bus.kafka.mark_of)
        self.error: Exception | None = None  # that has ended the thread
        self._brokers = brokers
        self._events_topic = events_topic
        self._catalog_topic = catalog_topic(events_topic)
        self._is_closed = threading.Event()
        self._told_end = -1  # of the topic of events
        self._began_s = time.monotonic()
        self._is_missing_told = False

    def close(self) -> None:
        """Let the thread end, without waiting for it."""
        self._is_closed.set()

    def turn(self) -> None:
        """Connect and look until something is wrong. Raises Away."""
        with Topics(self._brokers, self._catalog_topic, self._events_topic) as topics:
            self._told_end = -1
            self._seek(topics)
            looked_s = -LOOK_S
            while not self._is_closed.is_set():
                for message in topics.poll(self._catalog_topic, POLL_S):
                    self._know(message.value)
                if time.monotonic() >= looked_s + LOOK_S:
                    self._look(topics)
                    looked_s = time.monotonic()
                self.succeeded()
                self._see_missing()

    def wait(self, pause_s: float) -> bool:
        """Pause; whether to end."""
        return self._is_closed.wait(pause_s)

    def ended(self, error: Exception) -> None:
        """Keep it for whoever asks."""
        self.error = error

    def _seek(self, topics: Topics) -> None:
        """Go to the last message of the catalog. Raises Away."""
        name = self._catalog_topic
        topics.seek(name, max(topics.first_offset(name), topics.end_offset(name) - 1))

    def _see_missing(self) -> None:
        """Tell once, after a while, that nothing was ever listed."""
        if self.catalog is None and not self._is_missing_told and time.monotonic() >= self._began_s + MISSING_S:
            self._is_missing_told = True
            self.tell(
                f"{self._catalog_topic} has no message yet; it is written where the matcher runs, if events_topic is "
                "set there"
            )

    def _know(self, message: bytes) -> None:
        try:
            assets, markets, mark = catalog_of(message)
        except BadFrame as error:
            self.tell(f"a message of {self._catalog_topic} tells nothing that is listed, and is left out: {error}")
            return
        self.mark = mark
        self.catalog = catalog.make(assets, markets)

    def _look(self, topics: Topics) -> None:
        """See how far the events go. Raises Away."""
        log = EventLog(topics, self._events_topic)
        end = log.end_offset()
        if end != self._told_end:
            last = log.last()
            self.end_number = last.last if last is not None else 0
            self._told_end = end
        if topics.end_offset(self._catalog_topic) < topics.next_offset(self._catalog_topic) - 1:
            self._seek(topics)  # it has been emptied
