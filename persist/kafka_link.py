"""The courier's way to Kafka: reads its topics and adds to them, in partition 0, one request at a time.

kafka-python's own producer is not used. It goes on sending by itself what it was given before an error, in a thread
that does not end when it is told to while a broker is away (3.0.12: `close(timeout)` raises before it stops the
thread): what is in the topic could then not be told from what will come to it. Its client, which connects, finds the
leaders and speaks the protocol, is: so nothing is under way but what a method waits for, and whatever goes wrong is
an exception. After one, close the link and make another.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import (
    AuthorizationError,
    DuplicateSequenceNumberError,
    InvalidProducerEpochError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
    RecordListTooLargeError,
    UnknownProducerIdError,
    UnsupportedCodecError,
    for_code,
)
from kafka.net.compat import KafkaNetClient
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest
from kafka.record import MemoryRecords

from bus.kafka import PARTITION
from persist.kafka_records import FORMAT, NO_SEQUENCE, NOBODY, Producer, after, batch
from persist.store import StoreDown, StoreWrong

CLIENT_NAME = "tradepit-courier"
CONNECT_TIMEOUT_S = 3.0
LEADERS_TIMEOUT_S = 10.0  # a topic that is made takes a moment
REQUEST_TIMEOUT_S = 30.0
REPLICAS_TIMEOUT_S = 25.0  # brokers wait so long for their replicas; less, so that their answer still comes
SLICE_MS = 200  # how long a wait goes without a heartbeat
FETCH_SIZE = 1 << 20
FETCH_WAIT_MS = 100  # how long a broker waits for messages at the end of a topic
FETCH_TRIES_MAX = 50  # answers that say nothing of what was asked
RECEIVE_SIZE_MAX = 64 << 20  # a broker sends one whole batch, however large
ACKNOWLEDGED_BY_ALL = -1
EARLIEST, LATEST = -2, -1
# Newer versions of requests name topics by ids, which need more questions; with older brokers older ones are agreed on.
FETCH_VERSION, LIST_VERSION, PRODUCE_VERSION, PRODUCER_ID_VERSION = 11, 5, 8, 4
_WRONG = (AuthorizationError, InvalidTopicError)
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_OUT_OF_STEP = (OutOfOrderSequenceNumberError, DuplicateSequenceNumberError)
_UNKNOWN = (UnknownProducerIdError, InvalidProducerEpochError)


class OutOfStep(StoreDown):
    """The broker has another number of the producer's last message: one that was sent before came late, or is gone."""


class TooLarge(StoreWrong):
    """The broker takes no batch of this size."""


class Unknown(StoreDown):
    """The broker has forgotten the producer."""


_NONE: Mapping[str, int] = MappingProxyType({})


class Range(NamedTuple):
    """What a topic holds: the first offset, and that behind the last message that all replicas have."""

    begin: int
    end: int


class Message(NamedTuple):
    """A message that was read."""

    offset: int
    value: bytes
    producer: Producer = NOBODY  # who sent it
    sequence: int = NO_SEQUENCE  # its number among his in this topic


class Fetched(NamedTuple):
    """Some messages, the offset to go on with, and the topic's end."""

    messages: list[Message]
    next_offset: int
    end: int


class Link:
    """A connection. Raises StoreDown when trying again may help, StoreWrong when somebody must do something."""

    def __init__(self, brokers: str, pulse: Callable[[], object]) -> None:
        """`brokers` are "host:port,host:port"; `pulse` is called while it waits."""
        self._servers = [part.strip() for part in brokers.split(",")]
        self._pulse = pulse
        self._client: Any = None

    def open(self, topics: Sequence[str]) -> None:
        """Connect, and find the leaders of these topics; brokers make those that are missing."""
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it tells each try; what counts is an exception here
        self._client = KafkaNetClient(
            bootstrap_servers=self._servers,
            client_id=CLIENT_NAME,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
            receive_message_max_bytes=RECEIVE_SIZE_MAX,
            max_in_flight_requests_per_connection=1,
            reconnect_backoff_max_ms=1000,
        )
        try:
            self._bootstrap()
            self._find_leaders(topics)
        except (KafkaError, OSError) as error:
            raise self._down(error) from error

    def close(self) -> None:
        """Disconnect. What was sent and has no answer may still arrive."""
        if self._client is not None:
            client, self._client = self._client, None
            client.close()

    def range_of(self, topic: str) -> Range:
        """What the topic holds."""
        begin, end = (self._offset(topic, time_code) for time_code in (EARLIEST, LATEST))
        # tansu tells where its last batch begins, plus one; what a fetch says beside the messages is right everywhere.
        return Range(begin, max(end, self._fetch(topic, end).end))

    def messages(self, topic: str, offset: int, end: int) -> Iterator[Message]:
        """All messages from an offset up to that of `end`, which is not beyond the topic's."""
        while offset < end:
            fetched = self._fetch(topic, offset)
            if fetched.next_offset == offset:
                raise StoreDown(f"{self._name} give no message of {topic} from {offset:,} on, which ends with {end:,}")
            yield from (message for message in fetched.messages if message.offset < end)
            offset = fetched.next_offset

    def new_producer(self, topic: str) -> Producer:
        """One that the brokers have not seen yet; `topic` is one that it may write to."""
        request = InitProducerIdRequest(
            transactional_id=None, transaction_timeout_ms=0, max_version=PRODUCER_ID_VERSION
        )
        (reply,) = self._ask({self._leader(topic): request})
        self._check("a producer", reply.error_code)
        return Producer(reply.producer_id, reply.producer_epoch)

    def produce(
        self, values: Mapping[str, Sequence[bytes]], producer: Producer = NOBODY, sequences: Mapping[str, int] = _NONE
    ) -> dict[str, int]:
        """Add messages to topics, those of each as one batch; return the offset of the first one of each topic.

        Returns when all replicas that are in sync have them. A batch is taken as a whole or not at all; with a
        producer, and the number of its first message in each topic, only behind the message before it (OutOfStep).
        """
        requests: dict[Any, list[Any]] = {}
        time_ms = int(time.time() * 1000)
        for topic, messages in values.items():
            records = batch(messages, time_ms, producer, sequences.get(topic, NO_SEQUENCE))
            partition = _Data.PartitionProduceData(index=PARTITION, records=records)
            requests.setdefault(self._leader(topic), []).append(_Data(name=topic, partition_data=[partition]))
        replies = self._ask({
            node: ProduceRequest(
                transactional_id=None,
                acks=ACKNOWLEDGED_BY_ALL,
                timeout_ms=int(REPLICAS_TIMEOUT_S * 1000),
                topic_data=data,
                max_version=PRODUCE_VERSION,
            )
            for node, data in requests.items()
        })
        offsets = {}
        for reply in replies:
            for row in reply.responses:
                (part,) = row.partition_responses
                self._check(row.name, part.error_code)
                offsets[row.name] = int(part.base_offset)
        return offsets

    def _bootstrap(self) -> None:
        """Connect to one of the brokers and learn of the others."""
        manager = self._client._manager  # the client's own way blocks until its end
        self._wait(manager.bootstrap_async(timeout_ms=CONNECT_TIMEOUT_S * 1000), CONNECT_TIMEOUT_S + 1)

    def _find_leaders(self, topics: Sequence[str]) -> None:
        cluster, deadline_s = self._client.cluster, time.monotonic() + LEADERS_TIMEOUT_S
        self._wait(cluster.set_topics(topics), LEADERS_TIMEOUT_S)
        while missing := [topic for topic in topics if not self._has_leader(topic)]:
            if unauthorized := cluster.unauthorized_topics.intersection(missing):
                raise StoreWrong(f"{self._name} refuse the topics {', '.join(sorted(unauthorized))} to us")
            if time.monotonic() > deadline_s:
                raise StoreWrong(
                    f"{self._name} have no topic {', '.join(missing)} with a leader of partition {PARTITION}, and make "
                    "none: make it (kafka-topics.sh --create --partitions 1)"
                )
            self._wait(cluster.request_update(), LEADERS_TIMEOUT_S)
            self._client.poll(timeout_ms=SLICE_MS)

    def _offset(self, topic: str, time_code: int) -> int:
        partition = _Place.ListOffsetsPartition(partition_index=PARTITION, timestamp=time_code)
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=0,
            topics=[_Place(name=topic, partitions=[partition])],
            max_version=LIST_VERSION,
        )
        (reply,) = self._ask({self._leader(topic): request})
        ((part,),) = (row.partitions for row in reply.topics)
        self._check(topic, part.error_code)
        return int(part.offset)

    def _fetch(self, topic: str, offset: int) -> Fetched:
        """Some messages from an offset on."""
        partition = _Wanted.FetchPartition(partition=PARTITION, fetch_offset=offset, partition_max_bytes=FETCH_SIZE)
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=FETCH_WAIT_MS,
            min_bytes=1,
            max_bytes=FETCH_SIZE,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[_Wanted(topic=topic, partitions=[partition])],
            forgotten_topics_data=[],
            rack_id="",
            max_version=FETCH_VERSION,
        )
        for _ in range(FETCH_TRIES_MAX):
            (reply,) = self._ask({self._leader(topic): request})
            self._check(topic, reply.error_code)
            for row in reply.responses:  # none when the broker had no time to look
                (part,) = row.partitions
                self._check(topic, part.error_code)
                return self._read(topic, part, offset)
        raise StoreDown(f"{self._name} say nothing of {topic}")

    def _read(self, topic: str, part: Any, offset: int) -> Fetched:
        try:
            return read(part.records or b"", offset, part.high_watermark)
        except UnsupportedCodecError as error:  # some other producer's, or the topic's `compression.type`
            raise StoreWrong(
                f"the topic {topic} has compressed messages behind offset {offset:,} that can't be read here: {error}: "
                "pip install 'kafka-python[lz4,snappy,zstd]'"
            ) from error

    def _ask(self, requests: Mapping[Any, Any]) -> list[Any]:
        """Send a request to each node; the replies."""
        try:
            for node in requests:
                self._connect(node)
            futures = [self._client.send(node, request) for node, request in requests.items()]
            return [self._wait(future, REQUEST_TIMEOUT_S) for future in futures]
        except (KafkaError, OSError) as error:
            raise self._down(error) from error

    def _connect(self, node: Any) -> None:
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._client.ready(node):
            if time.monotonic() > deadline_s:
                raise StoreDown(f"{self._name}: node {node} can't be reached")
            self._client.poll(timeout_ms=SLICE_MS)
            self._pulse()

    def _wait(self, future: Any, timeout_s: float) -> Any:
        """What comes of a future. Raises what it failed with, StoreDown when it takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while not future.is_done:
            if time.monotonic() > deadline_s:
                raise StoreDown(f"{self._name} have not answered for {timeout_s:.0f} s")
            self._client.poll(timeout_ms=SLICE_MS, future=future)
            self._pulse()
        if future.failed():
            raise future.exception
        return future.value

    def _has_leader(self, topic: str) -> bool:
        leader = self._client.cluster.leader_for_partition(TopicPartition(topic, PARTITION))
        return leader is not None and leader != -1

    def _leader(self, topic: str) -> Any:
        return self._client.cluster.leader_for_partition(TopicPartition(topic, PARTITION))

    def _check(self, topic: str, code: int) -> None:
        """Raise what a broker's error code means."""
        if code == 0:
            return
        error = for_code(code)
        text = f"{self._name} refuse {topic}: {error.__name__}"
        for kinds, kind in (
            (_WRONG, StoreWrong),
            (_TOO_LARGE, TooLarge),
            (_OUT_OF_STEP, OutOfStep),
            (_UNKNOWN, Unknown),
        ):
            if issubclass(error, kinds):
                raise kind(text)
        raise StoreDown(text)

    def _down(self, error: Exception) -> StoreDown:
        return StoreDown(f"{self._name}: {error}")

    @property
    def _name(self) -> str:
        return f"the brokers {', '.join(self._servers)}"


_Data = ProduceRequest.TopicProduceData
_Place = ListOffsetsRequest.ListOffsetsTopic
_Wanted = FetchRequest.FetchTopic


def read(data: bytes, offset: int, end: int) -> Fetched:
    """The messages of batches from an offset on; those of a broker begin before it, and may break off."""
    records, found, next_offset = MemoryRecords(data), [], offset
    while (part := records.next_batch()) is not None:
        is_control = part.magic == FORMAT and part.is_control_batch
        producer = Producer(part.producer_id, part.producer_epoch) if part.magic == FORMAT else NOBODY
        for record in part:
            next_offset = max(next_offset, record.offset + 1)
            if record.offset >= offset and not is_control:
                sequence = (
                    NO_SEQUENCE if producer.id < 0 else after(part.base_sequence, record.offset - part.base_offset)
                )
                found.append(Message(record.offset, record.value or b"", producer, sequence))
        if part.magic == FORMAT:
            next_offset = max(next_offset, part.next_offset)
    return Fetched(found, next_offset, end)
