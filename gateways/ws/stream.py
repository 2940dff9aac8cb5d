"""The exchange's events as a ws process has them: those that come, and those that were, from the bus or from Kafka."""

from collections.abc import Callable, Iterator
from typing import Protocol

from bus import feed
from bus.eventlog import Reader
from bus.messages import Frame
from conf.settings import KAFKA, Settings


class Past(Protocol):
    """Events that were, for one who missed them: a bus.eventlog.Reader, or the same from Kafka."""

    @property
    def durable_number(self) -> int:
        """There can be no event after it as yet."""
        ...

    @property
    def first_number(self) -> int:
        """No event before it can be had; those after it may be gone too."""
        ...

    def frames(self, after_number: int) -> Iterator[Frame]:
        """The events after one that can be had now. Raises Gone, TimedOut."""
        ...


class Stream(Protocol):
    """The events that come; `follow` first, and again to leave out what is gone."""

    @property
    def fd(self) -> int:
        """To be watched after each `follow`; `receive` until it gives None when it is readable."""
        ...

    def follow(self) -> None:
        """Begin with the events from now on."""
        ...

    def begin_number(self) -> int | None:
        """The event after which `receive` begins; None as long as it is not known."""
        ...

    def receive(self) -> Frame | None:
        """The next events that have come, if there are any. Raises Gone."""
        ...

    def past(self) -> Past:
        """For one who looks back."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class BusStream:
    """From the bus and the event log of this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = Reader(settings.paths.events_dir)
        self._number = 0
        self._feed: feed.Feed | None = None

    @property
    def fd(self) -> int:
        """Of a ZeroMQ socket."""
        assert self._feed is not None
        return self._feed.fd

    def follow(self) -> None:
        """Begin with the end of the log."""
        self.close()
        self._number = self._log.durable_number
        self._feed = feed.follow(self._settings.bus.bind, self._settings.paths, self._number)

    def begin_number(self) -> int | None:
        """Always known."""
        return self._number

    def receive(self) -> Frame | None:
        """The next events. Raises Gone."""
        assert self._feed is not None
        return self._feed.receive(0)

    def past(self) -> Past:
        """The log."""
        return Reader(self._settings.paths.events_dir)

    def close(self) -> None:
        """Close the socket."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None


def stream_of(settings: Settings, tell: Callable[[str], object]) -> Stream:
    """What [ws] events names; `tell` is told what is wrong with Kafka."""
    if settings.ws.events == KAFKA:
        from gateways.ws.kafka_stream import KafkaStream  # takes 0.1 s, for nothing where there is a bus

        return KafkaStream(settings.kafka, tell)
    return BusStream(settings)
