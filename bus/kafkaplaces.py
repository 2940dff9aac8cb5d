"""Where an event is in a topic: found by the numbers that its messages tell, whatever offsets they have.

Numbers go on from message to message. Who writes may have begun again a little before where it was, so a message may
come twice; it may have begun later than where it was, when events were lost to it, so there may be a gap; and a
broker drops its oldest messages. What is no message of events is passed over.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from bus.eventlog import Gone
from bus.kafka import events_of
from bus.kafkatopics import Message, Topics
from bus.messages import BadFrame


class Place(NamedTuple):
    """A message of events: where it is, its numbers, and whose exchange it is of (bus.kafka.mark_of)."""

    offset: int
    first: int
    last: int
    mark: int


class Log(Protocol):
    """A topic of events, as far as a search needs it."""

    def first_offset(self) -> int:
        """Of the oldest message, or of the first that will be."""
        ...

    def end_offset(self) -> int:
        """Behind the last message, or somewhere in the last batch of them."""
        ...

    def at(self, offset: int) -> Place | None:
        """The first message of events at or after an offset, or None."""
        ...


def locate(log: Log, number: int) -> int:
    """The offset from which on messages have to be read to get event `number` and all that follow. Raises Gone.

    If the event is not there yet it is the last message's, or one of the last batch. A gap is met by reading on.
    """
    begin, end = log.first_offset(), log.end_offset()
    oldest = log.at(begin)
    if oldest is None:
        return begin
    if oldest.first > number:
        raise Gone(f"event {number} is not in Kafka any more, whose oldest is {oldest.first}", oldest.first)
    low, high = oldest.offset, end
    while high - low > 1:  # the message at `low` begins at or before the event, what is at `high` after it
        middle = (low + high) // 2
        place = log.at(middle)
        if place is None or place.offset >= high or place.first > number:
            high = middle
        else:
            low = place.offset
    return low


class EventLog:
    """The topic of events of a broker. All methods raise Away."""

    def __init__(self, topics: Topics, name: str) -> None:
        self._topics = topics
        self._name = name

    def first_offset(self) -> int:
        """Of the oldest message."""
        return self._topics.first_offset(self._name)

    def end_offset(self) -> int:
        """As bus.kafkatopics tells it."""
        return self._topics.end_offset(self._name)

    def at(self, offset: int) -> Place | None:
        """The first message of events at or after an offset."""
        return next(self._from(offset), None)

    def last(self) -> Place | None:
        """The last message of events; None when there is none."""
        begin, back_count = self.first_offset(), 1
        while True:
            start = max(begin, self.end_offset() - back_count)
            found = deque(self._from(start), maxlen=1)
            if found or start == begin:
                return found[0] if found else None
            back_count *= 2

    def _from(self, offset: int) -> Iterator[Place]:
        self._topics.seek(self._name, offset)
        for message in self._topics.rest(self._name):
            with suppress(BadFrame):
                yield place_of(message)


def place_of(message: Message) -> Place:
    """What a message's frame tells. Raises BadFrame."""
    frame = events_of(message.value)
    return Place(message.offset, frame.first, frame.first + len(frame.records) - 1, frame.total)
