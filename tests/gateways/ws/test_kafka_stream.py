"""The events of a ws process from Kafka: from now on, and all that were, in memory or read from the broker."""

import time
from collections.abc import Callable, Iterator

import gevent
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import kafkafeed, kafkatopics, retrying
from bus.eventlog import Gone
from bus.kafka import event_messages
from bus.messages import unpack
from conf.operations import Kafka
from gateways.link import TimedOut
from gateways.ws import kafka_stream
from gateways.ws.kafka_stream import KafkaStream, Recent
from tests.bus.kafka_writer import MARK, Writer
from tests.bus.making import frame, numbers
from tests.process.broker import Broker, broker, mortal_broker  # noqa: F401  # fixtures

PATIENCE_S = 60.0
RECENT = 100
SMALL = 9_000  # bytes of a message: 46 events


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_stream, "RECENT_COUNT", RECENT)
    monkeypatch.setattr(kafka_stream, "READ_SIZE", 30_000)
    monkeypatch.setattr(kafkatopics, "ANSWER_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(kafkatopics, "CONNECT_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(kafkatopics, "FETCH_WAIT_MS", 20)
    monkeypatch.setattr(kafkatopics, "QUIET_S", 0.1)
    monkeypatch.setattr(kafkafeed, "LOOK_S", 0.3)
    monkeypatch.setattr(retrying, "PAUSE_MOST_S", 0.5)


class Streaming:
    """A stream of a topic."""

    def __init__(self, broker: Broker) -> None:  # noqa: F811
        self.told: list[str] = []
        self.kafka = Kafka(brokers=broker.address, events_topic=f"events-{time.time_ns()}")
        self.stream = KafkaStream(self.kafka, self.told.append)

    def begin(self) -> int:
        """Follow, and wait until it is known from where on."""
        self.stream.follow()
        self.wait(lambda: self.stream.begin_number() is not None)
        number = self.stream.begin_number()
        assert number is not None
        return number

    def wait(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline_s, self.told
            gevent.sleep(0.01)

    def receive_until(self, number: int) -> list[int]:
        """The events that come, up to one."""
        found: list[int] = []

        def has_come() -> bool:
            while (taken := self.stream.receive()) is not None:
                found.extend(numbers([taken]))
            return self.stream.last_number >= number

        self.wait(has_come)
        return found

    def missed(self, after_number: int) -> list[int]:
        return numbers([*self.stream.past().frames(after_number)])


@pytest.fixture
def streaming(broker: Broker) -> Iterator[Streaming]:  # noqa: F811
    made = Streaming(broker)
    yield made
    made.stream.close()


@pytest.fixture
def writer(streaming: Streaming) -> Iterator[Writer]:
    with Writer(streaming.kafka.brokers, streaming.kafka.events_topic) as made:
        yield made


def small(first: int, count: int) -> list[bytes]:
    return [*event_messages(unpack(frame(first, count)), MARK, SMALL)]


def test_events_come_from_now_on_and_those_before_can_be_had(streaming: Streaming, writer: Writer) -> None:
    writer.raw(*small(1, 1_000))
    assert streaming.begin() == 1_000
    assert 900 - 46 <= streaming.stream.recent.first_number <= 1_000
    writer.raw(*small(1_001, 50))
    assert streaming.receive_until(1_050) == [*range(1_001, 1_051)]
    for after in (0, 45, 46, 500, 900, 950, 999, 1_000, 1_025, 1_049, 1_050):
        assert streaming.missed(after) == [*range(after + 1, 1_051)]


def test_an_empty_topic_is_followed(streaming: Streaming, writer: Writer) -> None:
    assert streaming.begin() == 0
    assert streaming.missed(0) == []
    writer.raw(*small(1, 10))
    assert streaming.receive_until(10) == [*range(1, 11)]
    assert streaming.missed(3) == [*range(4, 11)]


def test_many_who_look_back_together_have_each_what_it_missed_and_the_loop_goes_on(
    streaming: Streaming, writer: Writer
) -> None:
    writer.raw(*small(1, 2_000))
    streaming.begin()
    longest_s, last_s = 0.0, time.monotonic()
    looking = [gevent.spawn(streaming.missed, after) for after in range(0, 1_500, 100)]
    while not all(each.ready() for each in looking):
        gevent.sleep(0.001)
        longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()
    for after, each in zip(range(0, 1_500, 100), looking, strict=True):
        assert each.get() == [*range(after + 1, 2_001)]
    assert longest_s < 1.0  # a read of the broker takes longer than this machine's pauses only if the loop waits for it


def test_what_the_broker_dropped_is_gone(streaming: Streaming, writer: Writer) -> None:
    writer.raw(*small(500, 500))
    streaming.begin()
    with pytest.raises(Gone):
        streaming.missed(400)
    assert streaming.missed(499) == [*range(500, 1_000)]


def test_too_many_who_wait_are_refused(streaming: Streaming, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_stream, "WAITING_MAX", 3)
    writer.raw(*small(1, 1_000))
    streaming.begin()
    looking = [gevent.spawn(streaming.missed, 0) for _ in range(8)]
    gevent.joinall(looking)
    refused = [each for each in looking if isinstance(each.exception, TimedOut)]
    assert 0 < len(refused) < 8
    assert all(each.value == [*range(1, 1_001)] for each in looking if each not in refused)


def test_a_broker_that_is_away_does_not_hold_up_who_missed_little(
    mortal_broker: Broker,  # noqa: F811
) -> None:
    streaming = Streaming(mortal_broker)
    with Writer(streaming.kafka.brokers, streaming.kafka.events_topic) as writer:
        writer.raw(*small(1, 1_000))
    streaming.begin()
    mortal_broker.kill()
    with pytest.raises(TimedOut):
        streaming.missed(0)
    assert streaming.missed(950) == [*range(951, 1_001)]
    mortal_broker.start()
    with Writer(streaming.kafka.brokers, streaming.kafka.events_topic) as writer:
        writer.raw(*small(1, 1_100))
        assert streaming.receive_until(1_100) == [*range(1_001, 1_101)]
        assert streaming.missed(0) == [*range(1, 1_101)]
    streaming.stream.close()


@given(counts=st.lists(st.integers(1, 30), max_size=60), first=st.integers(1, 50), size_max=st.integers(2_000, 60_000))
def test_what_is_recent_is_bounded_and_whole(counts: list[int], first: int, size_max: int) -> None:
    recent, number = Recent(RECENT, size_max), first
    for count in counts:
        recent.add(unpack(frame(number, count)))
        number += count
        held = recent._frames
        assert len(held) == 1 or sum(each.size for each in held) <= size_max
        assert number - recent.first_number <= RECENT
        assert number - held[-1].first == count
    for wanted in (*range(max(1, first - 2), number + 2),):
        found = recent.at(wanted)
        assert (found is not None) == (recent.first_number <= wanted < number)
        if found is not None:
            assert wanted in found.records["number"]
    assert np.all(np.diff([each.first for each in recent._frames]) > 0)
