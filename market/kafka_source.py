"""The market process's events and listing from Kafka alone (market/sources.py)."""

from collections.abc import Callable

from bus.catalog import Catalog
from bus.client import NoAnswer
from bus.kafkafeed import KafkaFeed
from bus.kafkalisting import KafkaListing
from conf.operations import Kafka


class FromKafka:
    """Nothing but Kafka is reached; `tell` is told, in threads, what is wrong with it."""

    def __init__(self, kafka: Kafka, tell: Callable[[str], object]) -> None:
        self._kafka = kafka
        self._tell = tell
        self._listing = KafkaListing(kafka.brokers, kafka.events_topic, tell)
        self._listing.start()
        self._newest: KafkaFeed | None = None

    @property
    def last_number(self) -> int:
        """Of the topic, as it was looked at last; or of the events that have come since."""
        come_number = self._newest.last_number if self._newest is not None else 0
        return max(self._listing.end_number or 0, come_number)

    @property
    def first_number(self) -> int:
        """Not known: who takes what is gone is told (Gone)."""
        return 1

    @property
    def mark(self) -> int:
        """As the catalog tells it."""
        return self._listing.mark

    def listed(self, timeout_ms: int) -> Catalog:
        """What was read last. Raises NoAnswer when there is nothing yet, or it is not known how far events go."""
        if self._listing.error is not None:
            raise self._listing.error
        if self._listing.catalog is None or self._listing.end_number is None:
            raise NoAnswer(f"the listing of {self._kafka.events_topic} is not known yet")
        return self._listing.catalog

    def events(self, after_number: int) -> KafkaFeed:
        """From the topic."""
        feed = KafkaFeed(self._kafka.brokers, self._kafka.events_topic, after_number, self._tell)
        self._newest = feed
        return feed

    def close(self) -> None:
        """Let the thread end."""
        self._listing.close()
