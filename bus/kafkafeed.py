"""All events from a number on, in order, each exactly once, from a topic in Kafka: for hosts without an event log.

It is taken like bus.feed.Feed. The reading happens in a thread of its own, which connects, finds the place of the next
event and hands frames over; it stands still while enough of them wait. Whatever goes wrong between it and the broker
is tried again, and told once: every try begins with the search for the next event, so it does not matter what the
topic has become meanwhile. Numbers alone decide (bus.feed.decide): what is known is left out, a gap is Gone.
"""

import time
from collections.abc import Callable
from typing import Self

from bus.eventlog import Gone, rest_of
from bus.feed import Step, decide
from bus.handover import Handover
from bus.kafka import events_of
from bus.kafkaplaces import EventLog, Place, locate
from bus.kafkatopics import Away, Message, Topics
from bus.messages import BadFrame, Frame
from bus.retrying import Retrying

WAITING_COUNT_MAX = 1_000  # messages that wait in process: the `limit` of CONTRACT 6
WAITING_SIZE_MAX = 16 << 20  # bytes of them
POLL_S = 0.2  # a thread that is to end looks as often
LOOK_S = 1.0  # without a message: then see whether the broker is there
SEARCH_S = 30.0  # of that: then search anew, for the topic may be another one by now that is as long


class KafkaFeed:
    """The events after `after_number` of a topic; with None those from now on, and `recent_count` before them.

    feed = KafkaFeed(kafka.brokers, kafka.events_topic, after_number=position, tell=alert)
    frame = feed.receive(timeout_ms=200)
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        after_number: int | None,
        tell: Callable[[str], object],
        *,
        recent_count: int = 0,
    ) -> None:
        """`tell` is told in a thread what is wrong with the broker, once, and when it is right again."""
        self.last_number = after_number or 0
        self._handover: Handover[Frame] = Handover(WAITING_COUNT_MAX, WAITING_SIZE_MAX)
        self._reading = Reading(brokers, topic, after_number, recent_count, self._handover, tell)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """A file descriptor to be polled beside others. `receive` until it returns None when it is readable."""
        return self._handover.fd

    @property
    def is_retelling(self) -> bool:
        """Never: what is gone from Kafka can't be made again without the journal."""
        return False

    @property
    def begin_number(self) -> int | None:
        """The last event of the topic when it was first reached; None until then."""
        return self._reading.begin_number

    @property
    def waiting_size(self) -> int:
        """Bytes of frames that are read and not received."""
        return self._handover.size

    def receive(self, timeout_ms: int) -> Frame | None:
        """The next events, or None when none came in time. Raises Gone when some can't be had any more."""
        frame = self._handover.take(timeout_ms / 1000)
        if frame is not None:
            self.last_number = frame.first + len(frame.records) - 1
        return frame

    def close(self) -> None:
        """Let the thread end, without waiting for it."""
        self._handover.close()


class Reading(Retrying):
    """What the thread does."""

    def __init__(
        self,
        brokers: str,
        topic: str,
        after_number: int | None,
        recent_count: int,
        handover: Handover[Frame],
        tell: Callable[[str], object],
    ) -> None:
        super().__init__("kafka-events", "events", tell)
        self.begin_number: int | None = None
        self._brokers = brokers
        self._topic = topic
        self._number = after_number  # of the last event that was handed over
        self._recent_count = recent_count
        self._handover = handover
        self._mark: int | None = None  # of the exchange
        self._searched_number = -1  # for the event after it the place was sought last
        self._searched_s = 0.0
        self._short_end = -1  # an end before what was read that was told when the place was sought last

    def turn(self) -> None:
        """Connect and hand over until something is wrong. Raises Away, Gone."""
        with Topics(self._brokers, self._topic) as topics:
            log = EventLog(topics, self._topic)
            self._seek(topics, log)
            self._short_end = -1
            quiet_since_s = time.monotonic()
            while not self._handover.is_closed:
                if messages := topics.poll(self._topic, POLL_S):
                    self._take_all(topics, log, messages)
                    self.succeeded()
                elif time.monotonic() >= quiet_since_s + LOOK_S:
                    self._look(topics, log)
                    self.succeeded()
                else:
                    continue
                quiet_since_s = time.monotonic()

    def wait(self, pause_s: float) -> bool:
        """Pause; whether to end."""
        return self._handover.wait_closed(pause_s)

    def ended(self, error: Exception) -> None:
        """Tell who takes that there will be no more."""
        self._handover.fail(error)

    def _look(self, topics: Topics, log: EventLog) -> None:
        """Nothing comes: see whether the broker is there, and the topic is still the same. Raises Away, Gone."""
        end = log.end_offset()
        is_shorter = end < topics.next_offset(self._topic) and end != self._short_end
        if is_shorter or time.monotonic() >= self._searched_s + SEARCH_S:
            self._short_end = end
            self._seek(topics, log)

    def _seek(self, topics: Topics, log: EventLog) -> None:
        """Go on with the next event. Raises Away, Gone."""
        last = log.last()
        end_number = last.last if last is not None else 0
        if last is not None:
            self._see_mark(last.mark, last)
        if self._number is None:
            self._number = self._start_number(log, end_number)
        elif end_number < self._number:
            raise Away(
                f"{self._topic} ends with event {end_number:,}, while event {self._number:,} is known here: it may "
                "have been emptied, or be behind. What comes after it is waited for"
            )
        offset = locate(log, self._number + 1)
        if self.begin_number is None:
            self.begin_number = end_number
        self._searched_number = self._number
        self._searched_s = time.monotonic()
        topics.seek(self._topic, offset)

    def _start_number(self, log: EventLog, end_number: int) -> int:
        """The last event that is not wanted, when those from now on are, and some before them."""
        oldest = log.at(log.first_offset())
        return max(end_number - self._recent_count, oldest.first - 1 if oldest else 0)

    def _take_all(self, topics: Topics, log: EventLog, messages: list[Message]) -> None:
        for message in messages:
            if not self._take(message):  # something before it is missing
                self._seek(topics, log)
                return

    def _take(self, message: Message) -> bool:
        """Hand over what is new; whether it goes on with what is known. Raises Away, Gone."""
        assert self._number is not None
        try:
            frame = events_of(message.value)
        except BadFrame as error:
            where = f"offset {message.offset} of {self._topic}"
            self.tell(f"the message at {where} is none of events, and left out: {error}")
            return True
        self._see_mark(frame.total, message)
        step = decide(self._number, frame.first, len(frame.records))
        if step is Step.TAKE and self._handover.put(rest_of(frame, self._number), len(message.value)):
            self._number = frame.first + len(frame.records) - 1
        if step is Step.FILL and self._searched_number == self._number:
            text = f"event {self._number + 1:,} is not in {self._topic}, which goes on with {frame.first:,}"
            raise Gone(text, frame.first)
        return step is not Step.FILL

    def _see_mark(self, mark: int, where: Message | Place) -> None:
        if self._mark is None:
            self._mark = mark
        if mark != self._mark:
            raise Away(
                f"{self._topic} has events of another exchange at offset {where.offset}: name another topic ([kafka] "
                "events_topic) where the matcher runs and here"
            )
