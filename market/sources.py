"""Where the market process has its events from, and what is listed: the matcher's machine, or Kafka alone.

bus     event log and sockets, and the journal for what is gone from the log; the matcher is asked what is listed
kafka   [kafka] events_topic and its catalog: nothing else is reached
"""

from collections.abc import Callable
from typing import Protocol

from bus.catalog import Catalog, Listed
from bus.client import Client
from bus.endpoints import place
from bus.eventlog import Reader
from bus.messages import Frame
from conf.settings import KAFKA, Settings
from engine.retelling import Events


class Following(Protocol):
    """Events after a number, each once, in order: engine.retelling.Events, or a bus.kafkafeed.KafkaFeed."""

    last_number: int

    @property
    def fd(self) -> int:
        """To be polled."""
        ...

    @property
    def is_retelling(self) -> bool:
        """Whether `receive` returns None without having waited."""
        ...

    def receive(self, timeout_ms: int) -> Frame | None:
        """The next events. Raises NotRetold, Gone."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Source(Protocol):
    """Events and what is listed, from the same exchange."""

    def listed(self, timeout_ms: int) -> Catalog:
        """What is listed now. Raises NoAnswer."""
        ...

    @property
    def last_number(self) -> int:
        """The last event that can be had; of Kafka as it was seconds ago. Only after `listed` has answered."""
        ...

    @property
    def first_number(self) -> int:
        """The oldest event that can be had without making it again."""
        ...

    @property
    def mark(self) -> int:
        """Tells exchanges apart (bus.kafka.mark_of); 0 where the data folder does."""
        ...

    def events(self, after_number: int) -> Following:
        """The events after one; close them."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class FromBus:
    """The matcher's machine is this one."""

    def __init__(self, settings: Settings, client: Client) -> None:
        """`client` is the matcher's; it is closed with this."""
        self._settings = settings
        self._client = client
        self._listed = Listed(client)
        self._log = Reader(settings.paths.events_dir)

    @property
    def last_number(self) -> int:
        """Of the event log."""
        return self._log.durable_number

    @property
    def first_number(self) -> int:
        """Of the event log."""
        return self._log.first_number

    @property
    def mark(self) -> int:
        """None: the data folder is the exchange's own."""
        return 0

    def listed(self, timeout_ms: int) -> Catalog:
        """Ask the matcher. Raises NoAnswer."""
        return self._listed.now(timeout_ms)

    def events(self, after_number: int) -> Events:
        """From the log and the bus, or made again from the journal."""
        return Events(self._settings, after_number)

    def close(self) -> None:
        """Close the matcher's client."""
        self._client.close()


def source_of(settings: Settings, tell: Callable[[str], object]) -> Source:
    """What [market] events names."""
    if settings.market.events == KAFKA:
        from market.kafka_source import FromKafka  # takes 0.1 s, for nothing where there is a bus

        return FromKafka(settings.kafka, tell)
    return FromBus(settings, Client(place(settings, "commands")))
