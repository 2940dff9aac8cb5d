"""Where each topic is: what is due to it of some events, and what it has of them already.

A lane begins with what the topic holds behind its saved place (`resumed`). As long as messages of later events are
found there, they are left out instead of being sent, and the place stays: its offset and its event belong together.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.messages import Frame
from persist.kafka_link import Link, Message
from persist.kafka_matching import match
from persist.kafka_messages import counts
from persist.kafka_position import Place
from persist.kafka_records import Producer, after


class Found(NamedTuple):
    """What a topic was found to hold that an operator must know."""

    missing_count: int = 0  # offsets that were acknowledged and are not there
    foreign_count: int = 0  # messages that are not ours


@dataclass
class Lane:
    """A topic."""

    topic: str
    place: Place
    end: int = 0  # of the topic: the next message should get this offset
    sequence: int = 0  # and this number among those of its producer
    skip_count: int = 0  # messages behind the place that are in the topic
    waiting: list[bytes] = field(default_factory=list)  # to be sent

    def add(self, frame: Frame, made: list[bytes]) -> None:
        """Let messages wait that are due; `made` are all that the frame's events make for this topic."""
        known_count = self.place.event + 1 - frame.first
        if known_count > 0:
            made = made[counts(frame.records[:known_count])[self.topic] :]
        left_out = min(self.skip_count, len(made))
        self.skip_count -= left_out
        self.waiting += made[left_out:]

    def round(self, size_max: int, count_max: int) -> list[bytes]:
        """The first of the messages that wait, as many as go into one batch, but at least one."""
        size = 0
        for count, message in enumerate(self.waiting[:count_max]):
            size += len(message)
            if count and size > size_max:
                return self.waiting[:count]
        return self.waiting[:count_max]

    def acknowledged(self, count: int, offset: int) -> int:
        """So many of the waiting messages are in the topic, from this offset on; return how far that is off."""
        off_count = offset - self.end
        del self.waiting[:count]
        self.end = offset + count
        self.sequence = after(self.sequence, count)
        return off_count

    def settle(self, number: int) -> None:
        """Nothing of the events up to `number` waits any more."""
        if self.skip_count == 0:
            self.place = Place(max(self.place.event, number), self.end, self.sequence)

    def begin_sequence(self) -> None:
        """Another producer sends from now on."""
        self.sequence = 0
        self.place = self.place._replace(sequence=0)

    def see(self, messages: Iterable[Message], producer: Producer | None) -> Iterator[Message]:
        """The same messages, of which this producer's tell how far its numbers are."""
        for message in messages:
            if message.producer == producer:
                self.sequence = after(message.sequence, 1)
            yield message


def resumed(
    link: Link, topic: str, place: Place, producer: Producer | None, expected: Callable[[], Iterator[bytes]]
) -> tuple[Lane, Found]:
    """Look what the topic holds behind a place; `expected` begins the messages of later events.

    What a broker has dropped by age behind the place is taken for ours. Raises StoreDown, StoreWrong.
    """
    there = link.range_of(topic)
    if there.end < place.offset:  # acknowledged, and gone: what follows is in the hands of the operator
        return Lane(topic, Place(place.event, there.end), there.end), Found(missing_count=place.offset - there.end)
    own, start = expected(), max(there.begin, place.offset)
    lane = Lane(topic, place, there.end, place.sequence)
    dropped_count = sum(1 for _, _ in zip(range(start - place.offset), own, strict=False))
    found = lane.see(link.messages(topic, start, there.end), producer)
    matched = match((message.value for message in found), own)
    lane.skip_count = dropped_count + matched.own_count
    lane.settle(place.event)
    return lane, Found(foreign_count=matched.foreign_count)
