"""Events from a real broker: every one once, in order, whatever is repeated, missing, bent or lost meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from bus import kafkafeed, kafkatopics, retrying
from bus.eventlog import Gone
from bus.kafka import event_messages
from bus.kafkafeed import KafkaFeed
from bus.messages import Frame, unpack
from tests.bus.kafka_writer import MARK, Writer
from tests.bus.making import frame, numbers
from tests.process.broker import Broker

PATIENCE_S = 60.0
SMALL = 9_000  # bytes of a message: room for some events
_names = count()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away is noticed within a second or two."""
    monkeypatch.setattr(kafkatopics, "ANSWER_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(kafkatopics, "CONNECT_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(kafkatopics, "FETCH_WAIT_MS", 20)
    monkeypatch.setattr(kafkatopics, "QUIET_S", 0.1)
    monkeypatch.setattr(kafkafeed, "LOOK_S", 0.3)
    monkeypatch.setattr(kafkafeed, "SEARCH_S", 2.0)
    monkeypatch.setattr(retrying, "PAUSE_MOST_S", 0.5)


@pytest.fixture
def topic() -> str:
    return f"events-{time.time_ns()}-{next(_names)}"


@pytest.fixture
def writer(broker: Broker, topic: str) -> Iterator[Writer]:
    with Writer(broker.address, topic) as made:
        yield made


class Taking:
    """A feed and what came of it."""

    def __init__(self, broker: Broker, topic: str, after_number: int | None = 0, *, recent_count: int = 0) -> None:
        self.told: list[str] = []
        self.frames: list[Frame] = []
        self.feed = KafkaFeed(broker.address, topic, after_number, self.told.append, recent_count=recent_count)

    def __enter__(self) -> "Taking":
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.close()

    def until(self, number: int) -> list[int]:
        """The numbers of all events that have come, once this one has."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self.feed.last_number < number:
            assert time.monotonic() < deadline_s, f"event {self.feed.last_number} of {number}; {self.told}"
            self._take()
        return numbers(self.frames)

    def until_told(self, *texts: str) -> None:
        self._until(lambda: all(any(text in told for told in self.told) for text in texts))

    def until_gone(self) -> Gone:
        with pytest.raises(Gone) as gone:
            self._until(lambda: False)
        return gone.value

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Until something is so; nothing is taken meanwhile."""
        self._until(is_so, lambda: time.sleep(0.01))

    def _until(self, is_so: Callable[[], bool], do: Callable[[], object] | None = None) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline_s, f"event {self.feed.last_number}; {self.told}"
            (do or self._take)()

    def _take(self) -> None:
        taken = self.feed.receive(50)
        if taken is not None:
            self.frames.append(taken)


def small(first: int, event_count: int, size_max: int = SMALL) -> list[bytes]:
    """Messages of a few events each."""
    return [*event_messages(unpack(frame(first, event_count)), MARK, size_max)]


def test_every_event_after_a_number_comes_once_in_order(broker: Broker, topic: str, writer: Writer) -> None:
    writer.raw(*small(1, 500), *small(501, 300, 20_000))
    for after in (0, 1, 43, 44, 499, 500, 799):
        with Taking(broker, topic, after) as taking:
            assert taking.until(800) == [*range(after + 1, 801)]
            assert taking.told == []


def test_events_come_as_they_are_written(broker: Broker, topic: str, writer: Writer) -> None:
    with Taking(broker, topic) as taking:
        for first in range(1, 60, 3):
            writer.frames(frame(first, 3))
            assert taking.until(first + 2) == [*range(1, first + 3)]


def test_what_is_written_again_is_left_out(broker: Broker, topic: str, writer: Writer) -> None:
    writer.raw(*small(1, 100), *small(1, 100), *small(60, 50), *small(100, 30), *small(1, 10), *small(11, 200))
    for after in (0, 55, 109, 140):
        with Taking(broker, topic, after) as taking:
            assert taking.until(210) == [*range(after + 1, 211)]


def test_a_gap_is_gone_and_can_be_gone_on_from(broker: Broker, topic: str, writer: Writer) -> None:
    writer.raw(*small(1, 100), *small(121, 100))
    for after in (0, 99, 100, 110, 119):
        with Taking(broker, topic, after) as taking:
            assert taking.until_gone().first_number == 121
            assert numbers(taking.frames) == [*range(after + 1, 101)]
            assert taking.until_gone().first_number == 121  # it stays so
    with Taking(broker, topic, 120) as taking:
        assert taking.until(220) == [*range(121, 221)]


def test_a_gap_that_comes_later_is_gone_too(broker: Broker, topic: str, writer: Writer) -> None:
    writer.frames(frame(1, 10))
    with Taking(broker, topic) as taking:
        taking.until(10)
        writer.frames(frame(12, 10))
        assert taking.until_gone().first_number == 12


def test_events_that_the_topic_no_longer_has_are_gone(broker: Broker, topic: str, writer: Writer) -> None:
    writer.frames(frame(50, 10))
    with Taking(broker, topic, 48) as taking:
        assert taking.until_gone().first_number == 50
    with Taking(broker, topic, 49) as taking:
        assert taking.until(59) == [*range(50, 60)]


def test_what_is_no_message_of_events_is_left_out_and_told(broker: Broker, topic: str, writer: Writer) -> None:
    writer.raw(b"first", *small(1, 100), b"[1, 2]", b"", *small(101, 100), b"last")
    for after in (0, 100, 150):
        with Taking(broker, topic, after) as taking:
            assert taking.until(200) == [*range(after + 1, 201)]
            taking.until_told("none of events")


def test_events_of_another_exchange_are_not_taken(broker: Broker, topic: str, writer: Writer) -> None:
    writer.frames(frame(1, 10))
    with Taking(broker, topic) as taking, Writer(broker.address, topic, mark=MARK + 1) as other:
        taking.until(10)
        other.frames(frame(11, 10))
        taking.until_told("another exchange")
        assert taking.until(10) == [*range(1, 11)]


@pytest.mark.parametrize(("recent", "first"), [(0, 101), (1, 100), (30, 71), (1000, 6)])
def test_from_now_on_begins_at_the_end_with_some_before_it(
    broker: Broker, topic: str, writer: Writer, recent: int, first: int
) -> None:
    writer.raw(*small(6, 95))
    with Taking(broker, topic, None, recent_count=recent) as taking:
        taking.wait(lambda: taking.feed.begin_number is not None)
        assert taking.feed.begin_number == 100
        writer.frames(frame(101, 5))
        assert taking.until(105) == [*range(first, 106)]


def test_from_now_on_of_an_empty_topic(broker: Broker, topic: str, writer: Writer) -> None:
    with Taking(broker, topic, None, recent_count=10) as taking:
        taking.wait(lambda: taking.feed.begin_number == 0)
        writer.frames(frame(1, 5))
        assert taking.until(5) == [*range(1, 6)]


def test_who_does_not_take_has_little_waiting(
    broker: Broker, topic: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafkafeed, "WAITING_SIZE_MAX", 100_000)
    writer.raw(*small(1, 5_000))
    with Taking(broker, topic) as taking:
        taking.wait(lambda: taking.feed.waiting_size > 90_000)
        for _ in range(20):
            assert taking.feed.waiting_size <= 100_000
            time.sleep(0.01)
        assert taking.until(5_000) == [*range(1, 5_001)]


def test_threads_end_when_the_feed_is_closed(broker: Broker, topic: str, writer: Writer) -> None:
    before = set(threading.enumerate())
    writer.raw(*small(1, 5_000))
    idle, full = Taking(broker, topic, 5_000), Taking(broker, topic)
    idle.wait(lambda: idle.feed.begin_number is not None)
    full.until(1)
    for taking in (idle, full):
        taking.feed.close()
    deadline_s = time.monotonic() + PATIENCE_S
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline_s, left
        time.sleep(0.01)
    assert full.feed.receive(10) is None


def test_a_broker_that_comes_late_is_waited_for_and_told_of_once(mortal_broker: Broker, topic: str) -> None:
    mortal_broker.kill()
    with Taking(mortal_broker, topic) as taking:
        taking.until_told("can't be read")
        mortal_broker.start()
        with Writer(mortal_broker.address, topic) as writer:
            writer.frames(frame(1, 10))
            assert taking.until(10) == [*range(1, 11)]
        taking.until_told("again")
    assert len(taking.told) == 2


@pytest.mark.parametrize("rewritten_from", [1, 60, 101])
def test_a_broker_that_has_lost_all_and_gets_it_again_is_gone_on_with(
    mortal_broker: Broker, topic: str, rewritten_from: int
) -> None:
    with Taking(mortal_broker, topic) as taking:
        with Writer(mortal_broker.address, topic) as writer:
            writer.raw(*small(1, 100))
        taking.until(100)
        mortal_broker.kill()
        mortal_broker.start()
        with Writer(mortal_broker.address, topic) as writer:
            writer.raw(*small(rewritten_from, 200 + 1 - rewritten_from, SMALL // 2 + 5_000))
            assert taking.until(200) == [*range(1, 201)]
            writer.frames(frame(201, 5))
            assert taking.until(205) == [*range(1, 206)]


def test_a_broker_that_has_lost_what_is_needed_is_gone(mortal_broker: Broker, topic: str) -> None:
    with Taking(mortal_broker, topic) as taking:
        with Writer(mortal_broker.address, topic) as writer:
            writer.raw(*small(1, 100))
        taking.until(100)
        mortal_broker.kill()
        mortal_broker.start()
        with Writer(mortal_broker.address, topic) as writer:
            writer.raw(*small(103, 100))
            assert taking.until_gone().first_number == 103


def test_a_topic_that_ends_before_what_is_known_is_told_and_waited_for(mortal_broker: Broker, topic: str) -> None:
    with Taking(mortal_broker, topic) as taking:
        with Writer(mortal_broker.address, topic) as writer:
            writer.raw(*small(1, 100))
        taking.until(100)
        mortal_broker.kill()
        mortal_broker.start()
        with Writer(mortal_broker.address, topic) as writer:
            writer.frames(frame(1, 50))
            taking.until_told("ends with event 50")
            writer.frames(frame(51, 80))
            assert taking.until(130) == [*range(1, 131)]
            taking.until_told("again")
