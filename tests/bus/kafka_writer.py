"""Writes events and what is listed to Kafka, as the courier does, from frames or from an event log."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from kafka import KafkaProducer

from bus.eventlog import Reader
from bus.kafka import PARTITION, catalog_message, catalog_topic, event_messages
from bus.messages import Bytes, Frame, Records, unpack

TIMEOUT_S = 60.0
MARK = 5


class Writer:
    """A producer of one events topic; all that it has sent is there when a method returns."""

    def __init__(self, address: str, topic: str, *, mark: int = MARK) -> None:
        self.topic = topic
        self.number = 0  # of the last event that was written
        self._mark = mark
        self._producer: Any = KafkaProducer(
            bootstrap_servers=address, acks="all", enable_idempotence=False, linger_ms=2, metrics_enabled=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close(timeout=1)

    def frames(self, *frames: Bytes | Frame) -> None:
        """Write frames of events."""
        made = [each if isinstance(each, Frame) else unpack(each) for each in frames]
        self.raw(*(message for frame in made for message in event_messages(frame, self._mark)))
        self.number = made[-1].first + len(made[-1].records) - 1

    def log(self, directory: Path, until_number: int) -> None:
        """Write what an event log has after what was written, up to an event."""
        found: Iterable[Frame] = Reader(directory).frames(self.number)
        while self.number < until_number:
            self.frames(*found)
            found = Reader(directory).frames(self.number)

    def listing(self, assets: Records, markets: Records) -> None:
        """Write what is listed."""
        self._send(catalog_topic(self.topic), [catalog_message(assets, markets, self._mark)])

    def raw(self, *messages: bytes) -> None:
        """Write messages to the topic of events as they are."""
        self._send(self.topic, messages)

    def _send(self, topic: str, messages: Iterable[bytes]) -> None:
        for sent in [self._producer.send(topic, value=message, partition=PARTITION) for message in messages]:
            sent.get(TIMEOUT_S)
