"""The same from Kafka, for a host without an event log.

The newest events stay in memory, also those from before this process began: most who come back have missed little.
What is older is read from the broker, by one thread for all who ask for it, some at a time: it must not hold up the
loop, nor one who went far back those who did not.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator

import gevent
from gevent.threadpool import ThreadPool

from bus.eventlog import Gone, rest_of
from bus.feed import Step, decide
from bus.kafka import events_of
from bus.kafkafeed import KafkaFeed
from bus.kafkaplaces import EventLog, locate
from bus.kafkatopics import Away, Topics
from bus.messages import BadFrame, Frame
from conf.operations import Kafka
from gateways.link import TimedOut

RECENT_COUNT = 100_000  # events in memory
RECENT_SIZE_MAX = 32 << 20  # bytes of them
READ_SIZE = 1 << 20  # that are read at once of what is older
READ_TIMEOUT_S = 10.0
WAITING_MAX = 200  # who may wait for what is older; more get SERVICE_TIMEOUT
OFFSETS_MAX = 1_000  # of who reads on


class KafkaStream:
    """From [kafka] events_topic."""

    def __init__(self, kafka: Kafka, tell: Callable[[str], object]) -> None:
        self._kafka = kafka
        self._tell = tell
        self._feed: KafkaFeed | None = None
        self.recent = Recent()
        self.older = Older(kafka)

    @property
    def fd(self) -> int:
        """Of the feed."""
        assert self._feed is not None
        return self._feed.fd

    @property
    def last_number(self) -> int:
        """Of the events that have come."""
        return self._feed.last_number if self._feed is not None else 0

    def follow(self) -> None:
        """Begin with the end of the topic, as soon as it is reached."""
        self._close_feed()
        self.recent = Recent()
        kafka = self._kafka
        self._feed = KafkaFeed(kafka.brokers, kafka.events_topic, None, self._tell, recent_count=RECENT_COUNT)

    def begin_number(self) -> int | None:
        """Known once those before it are in memory. Raises Gone."""
        assert self._feed is not None
        number = self._feed.begin_number
        if number is None:
            return None
        while self._feed.last_number < number:
            if self.receive() is None:
                return None
        return self._feed.last_number

    def receive(self) -> Frame | None:
        """The next events. Raises Gone."""
        assert self._feed is not None
        frame = self._feed.receive(0)
        if frame is not None:
            self.recent.add(frame)
        return frame

    def past(self) -> "KafkaPast":
        """What is in memory, and what is older."""
        return KafkaPast(self)

    def close(self) -> None:
        """Let the threads end."""
        self._close_feed()
        self.older.close()

    def _close_feed(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None


class KafkaPast:
    """Looks back, as a Reader of the event log does."""

    def __init__(self, stream: KafkaStream) -> None:
        self._stream = stream

    @property
    def durable_number(self) -> int:
        """Not known: another process, which told the client, may be ahead of this one."""
        return 1 << 62

    @property
    def first_number(self) -> int:
        """Not known without asking the broker."""
        return 1

    def frames(self, after_number: int) -> Iterator[Frame]:
        """The events after one that have come. Raises Gone, TimedOut."""
        number = after_number
        while number < self._stream.last_number:
            for frame in self._some(number):
                yield frame
                number = frame.first + len(frame.records) - 1

    def _some(self, after_number: int) -> list[Frame]:
        recent = self._stream.recent
        frame = recent.at(after_number + 1)
        if frame is not None:
            return [rest_of(frame, after_number)]
        return self._stream.older.read(after_number, recent.first_number - 1)


class Recent:
    """The newest frames of events, which follow each other."""

    def __init__(self, count_max: int = RECENT_COUNT, size_max: int = RECENT_SIZE_MAX) -> None:
        self._count_max = count_max
        self._size_max = size_max
        self._frames: list[Frame] = []
        self._lasts: list[int] = []  # the number of the last event of each
        self._size = 0

    @property
    def first_number(self) -> int:
        """The oldest event; where there is none, the one after all that there can be."""
        return self._frames[0].first if self._frames else 1 << 62

    def add(self, frame: Frame) -> None:
        """Keep it, and drop the oldest if there are too many, some together; the newest always stays."""
        self._frames.append(frame)
        self._lasts.append(frame.first + len(frame.records) - 1)
        self._size += frame.size
        while len(self._frames) > 1 and self._is_too_much:
            dropped_count = 1 + len(self._frames) // 8
            self._size -= sum(dropped.size for dropped in self._frames[:dropped_count])
            del self._frames[:dropped_count], self._lasts[:dropped_count]

    @property
    def _is_too_much(self) -> bool:
        return self._lasts[-1] - self._frames[0].first >= self._count_max or self._size > self._size_max

    def at(self, number: int) -> Frame | None:
        """The frame that holds an event, if it is here."""
        index = bisect_right(self._lasts, number - 1)
        if index == len(self._frames) or self._frames[index].first > number:
            return None
        return self._frames[index]


class Older:
    """Reads what is no longer in memory, in a thread."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._threads = ThreadPool(1)
        self._waiting_count = 0
        self._topics: Topics | None = None  # the thread's
        self._offsets: dict[int, int] = {}  # the thread's: where the message after an event is

    def read(self, after_number: int, until_number: int) -> list[Frame]:
        """The next events after one, some of them, up to another. Raises Gone, TimedOut."""
        if self._waiting_count >= WAITING_MAX:
            raise TimedOut
        self._waiting_count += 1
        try:
            with gevent.Timeout(READ_TIMEOUT_S, TimedOut):
                found = self._threads.spawn(self._tried, after_number, until_number).get()
        finally:
            self._waiting_count -= 1
        if isinstance(found, Away):
            raise TimedOut from found
        if isinstance(found, Gone):
            raise found
        frames: list[Frame] = found
        return frames

    def close(self) -> None:
        """Close the connection, in the thread."""
        self._threads.spawn(self._close)

    def _tried(self, after_number: int, until_number: int) -> list[Frame] | Exception:
        """In the thread: the events, or what is wrong."""
        try:
            if self._topics is None:
                self._topics = Topics(self._kafka.brokers, self._kafka.events_topic)
            return self._read(self._topics, after_number, until_number)
        except Gone as gone:
            return gone
        except Away as away:
            self._close()
            return away

    def _read(self, topics: Topics, after_number: int, until_number: int) -> list[Frame]:
        topic = self._kafka.events_topic
        offset = self._offsets.pop(after_number, None)
        if offset is None:
            offset = locate(EventLog(topics, topic), after_number + 1)
        topics.seek(topic, offset)
        frames: list[Frame] = []
        number, size = after_number, 0
        for message in topics.rest(topic):
            try:
                frame = events_of(message.value)
            except BadFrame:
                continue
            step = decide(number, frame.first, len(frame.records))
            if step is Step.FILL:
                raise Gone(f"event {number + 1} is not in {topic}", frame.first)
            if step is Step.TAKE:
                frames.append(rest_of(frame, number))
                number, size = frame.first + len(frame.records) - 1, size + frame.size
                if number >= until_number or size >= READ_SIZE:
                    self._remember(number, message.offset + 1)
                    return frames
        raise Away(f"{topic} ends before event {until_number}")

    def _remember(self, number: int, offset: int) -> None:
        if len(self._offsets) >= OFFSETS_MAX:
            self._offsets.clear()
        self._offsets[number] = offset

    def _close(self) -> None:
        if self._topics is not None:
            self._topics.close()
            self._topics = None
        self._offsets.clear()
