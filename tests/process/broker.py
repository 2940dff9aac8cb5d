"""A Kafka broker for tests: a private one, or the one that TRADEPIT_KAFKA=host:port names (Apache Kafka, say).

    def test_something(broker: Broker) -> None:              # in conftest: from tests.process.broker import broker
        begin = broker.ends("deals")                         # {"deals": 17}: where the topic ends now
        ...                                                  # [kafka] brokers = broker.address
        assert broker.read("deals", begin["deals"], 3) == [b"...", b"...", b"..."]

The private one (supervisor/bench/tansu.py) is one for each test, so its topics are empty, and may be killed:
`broker.kill()`, `broker.start()`: at the same address, and it has forgotten all. A test that kills takes the fixture
`mortal_broker`, which skips with TRADEPIT_KAFKA. There, topics hold what earlier tests left: read from `ends` on.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from supervisor.bench.tansu import NoTansu, Tansu

OTHER = os.environ.get("TRADEPIT_KAFKA", "")
PATIENCE_S = 60.0
POLL_MS = 100
QUIET_POLLS = 3  # without a message: then there are no more
POLL_MESSAGES_MAX = 5_000


class Broker:
    """A broker that tests use; `private` is None when it is not ours to kill."""

    def __init__(self, private: Tansu | None) -> None:
        self.private = private

    @property
    def address(self) -> str:
        """The setting [kafka] brokers that names it."""
        return self.private.address if self.private else OTHER

    def start(self) -> None:
        """Start it again, at the same address, empty."""
        assert self.private is not None
        self.private.start()

    def kill(self) -> None:
        """End it at once: it forgets all messages."""
        assert self.private is not None
        self.private.kill()

    def stop(self) -> None:
        """End it in order: it forgets all messages too."""
        assert self.private is not None
        self.private.stop()

    def ends(self, *topics: str) -> dict[str, int]:
        """The offset after the last message of each topic; 0 for one that is not there yet."""
        return {topic: begin + len(messages) for topic in topics for begin, messages in [self._all(topic)]}

    def read(self, topic: str, offset: int, count: int) -> list[bytes]:
        """So many messages from an offset on, once they have come. Fails when they don't."""
        found: list[bytes] = []
        deadline_s = time.monotonic() + PATIENCE_S
        with reader(self.address, topic, offset) as consumer:
            while len(found) < count:
                found += _polled(consumer)
                assert time.monotonic() < deadline_s, f"{len(found)} of {count} messages of {topic} have come"
        return found[:count]

    def rest(self, topic: str, offset: int = 0) -> list[bytes]:
        """All messages from an offset on that are there now."""
        quiet, found = 0, []
        with reader(self.address, topic, offset) as consumer:
            while quiet < QUIET_POLLS:
                quiet = 0 if (polled := _polled(consumer)) else quiet + 1
                found += polled
        return found

    def _all(self, topic: str) -> tuple[int, list[bytes]]:
        if self.private is not None:  # what it tells as the end is wrong
            return 0, self.rest(topic)
        place = TopicPartition(topic, 0)
        with reader(self.address, topic, 0) as consumer:
            return int(consumer.end_offsets([place])[place]), []


def reader(address: str, topic: str, offset: int) -> Any:
    """A consumer of one topic from an offset on, which belongs to no group; close it."""
    consumer = KafkaConsumer(
        bootstrap_servers=address,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=POLL_MESSAGES_MAX,
        metrics_enabled=False,
    )
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, offset)
    return _Closing(consumer)


class _Closing:
    """A consumer in a `with`: its `close` waits for nobody."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def __enter__(self) -> Any:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close(autocommit=False, timeout_ms=1000)


def _polled(consumer: Any) -> list[bytes]:
    return [message.value for messages in consumer.poll(POLL_MS).values() for message in messages]


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with empty topics, or the one of TRADEPIT_KAFKA."""
    if OTHER:
        yield Broker(None)
        return
    yield from _private(tmp_path_factory.mktemp("broker"))


@pytest.fixture
def mortal_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that the test may kill."""
    if OTHER:
        pytest.skip("the broker of TRADEPIT_KAFKA is not ours to kill")
    yield from _private(tmp_path_factory.mktemp("broker"))


def _private(folder: Path) -> Iterator[Broker]:
    made = Tansu(folder)
    try:
        made.start()
    except NoTansu as error:
        pytest.skip(str(error))
    try:
        yield Broker(made)
    finally:
        made.kill()
