"""Partition 0 of topics in Kafka, read with calls that wait: for a thread that does nothing else.

No consumer group takes part: where to read is told by whoever reads. Messages are `bytes`; what they are is not known
here. A broker that does not answer is `Away`; all is made anew then, because a connection that was lost may have
missed that the topic is another one now.

A broker may tell an end that is too early (tansu tells where the last batch begins, and adds one). So the end is where
nothing comes any more, at or after the told one.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer import group
from kafka.errors import KafkaError

from bus.kafka import PARTITION

CONNECT_TIMEOUT_MS = 5_000
ANSWER_TIMEOUT_MS = 5_000
FETCH_WAIT_MS = 100  # how long a broker keeps a question that it has no message for: a seek waits as long
FETCH_SIZE_MAX = 2 << 20  # what is read ahead
RECONNECT_MOST_MS = 1_000
QUIET_S = 0.35  # without a message at what is said to be the end: then it is the end
CLOSE_TIMEOUT_MS = 1_000
MESSAGES_AT_ONCE = 500

_make_client: Callable[..., Any] = group.KafkaConsumer.DEFAULT_CONFIG["kafka_client"]


class Away(Exception):
    """The broker does not answer, or not as it should: the text says how. What was read is not lost by it."""


class Message(NamedTuple):
    """A message and where it is."""

    topic: str
    offset: int
    value: bytes


class Topics:
    """Some topics; `poll` reads one of them at a time, from where `seek` put it."""

    def __init__(self, brokers: str, *names: str) -> None:
        """Connect. Raises Away."""
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it tells of each try; we tell what matters
        self._brokers = brokers
        self._places = {name: TopicPartition(name, PARTITION) for name in names}
        self._next: dict[str, int] = dict.fromkeys(names, 0)  # offsets
        self._waiting: dict[str, deque[Message]] = {name: deque() for name in names}
        self._consumer = _connected(brokers)
        self._asked(lambda: self._consumer.assign([*self._places.values()]))
        for name in names:
            self.seek(name, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
        except (KafkaError, OSError):  # it is gone already
            return

    def first_offset(self, name: str) -> int:
        """Where the oldest message is, or the first one will be. Raises Away."""
        return self._offset(self._consumer.beginning_offsets, name)

    def end_offset(self, name: str) -> int:
        """At least one place after the beginning of the last batch of messages; at most the end. Raises Away."""
        return self._offset(self._consumer.end_offsets, name)

    def next_offset(self, name: str) -> int:
        """Where `poll` goes on."""
        waiting = self._waiting[name]
        return waiting[0].offset if waiting else self._next[name]

    def seek(self, name: str, offset: int) -> None:
        """Go on from an offset."""
        self._waiting[name].clear()
        self._next[name] = offset
        self._asked(lambda: self._consumer.seek(self._places[name], offset))

    def poll(self, name: str, timeout_s: float, count_max: int = MESSAGES_AT_ONCE) -> list[Message]:
        """The next messages of a topic, or none when none come in time. Raises Away."""
        waiting = self._waiting[name]
        if not waiting:
            self._fetch(name, timeout_s)
        return [waiting.popleft() for _ in range(min(count_max, len(waiting)))]

    def at(self, name: str, offset: int) -> Message | None:
        """The first message at or after an offset; None when that is the end. Raises Away."""
        self.seek(name, offset)
        return next(self.rest(name, 1), None)

    def rest(self, name: str, count_max: int = MESSAGES_AT_ONCE) -> Iterator[Message]:
        """All messages from where `poll` would go on up to the end. Raises Away."""
        end = self.end_offset(name)
        quiet_since_s = time.monotonic()
        while True:
            for message in self.poll(name, FETCH_WAIT_MS / 1000, count_max):
                yield message
                quiet_since_s = time.monotonic()
            quiet_s = time.monotonic() - quiet_since_s
            if self.next_offset(name) >= end and quiet_s >= QUIET_S:
                return
            if quiet_s > ANSWER_TIMEOUT_MS / 1000:
                place = self.next_offset(name)
                raise Away(f"{self._brokers} has messages of {name} up to {end - 1} and gives none from {place} on")

    def _fetch(self, name: str, timeout_s: float) -> None:
        others = [place for each, place in self._places.items() if each != name]
        self._asked(lambda: self._consumer.pause(*others))
        self._asked(lambda: self._consumer.resume(self._places[name]))
        found = self._asked(lambda: self._consumer.poll(round(timeout_s * 1000), max_records=MESSAGES_AT_ONCE))
        for records in found.values():
            for record in records:
                topic = self._waiting[record.topic]
                topic.append(Message(record.topic, record.offset, record.value or b""))
                self._next[record.topic] = record.offset + 1

    def _offset(self, ask: Callable[..., Any], name: str) -> int:
        place = self._places[name]
        return int(self._asked(lambda: ask([place], timeout_ms=ANSWER_TIMEOUT_MS))[place])

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (KafkaError, OSError, ValueError, AssertionError) as error:  # the latter two: an answer that is none
            raise Away(f"{self._brokers}: {type(error).__name__}: {error}") from error


def _connected(brokers: str) -> Any:
    """A consumer that has found its broker. Raises Away, and leaves nothing behind then: it runs a thread."""
    made: list[Any] = []

    def client(**options: Any) -> Any:
        made.append(_make_client(**options))
        return made[0]

    try:
        return KafkaConsumer(
            bootstrap_servers=[each.strip() for each in brokers.split(",")],
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            enable_incremental_fetch_sessions=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            fetch_max_bytes=FETCH_SIZE_MAX,
            max_partition_fetch_bytes=FETCH_SIZE_MAX,
            request_timeout_ms=ANSWER_TIMEOUT_MS,
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
            reconnect_backoff_max_ms=RECONNECT_MOST_MS,
            metrics_enabled=False,
            kafka_client=client,
        )
    except (KafkaError, OSError, ValueError) as error:
        for each in made:
            each.close()
        raise Away(f"{brokers}: {type(error).__name__}: {error}") from error
