"""`pit bench kafka`: how many messages a second the courier sends, beside a bare producer that sends the same bytes.

A private exchange trades while its broker is away; then the broker starts, and the courier works off what waits. The
broker is tansu, in memory: what is measured is the courier, not Kafka.
"""

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from bus import positions
from bus.eventlog import Reader
from bus.kafka import BALANCES, DEALS, ORDERS, PARTITION
from conf.settings import Settings
from supervisor.bench import private, tansu
from supervisor.bench.cpu import Meter
from supervisor.bench.report import Report, machine, percentile_text
from supervisor.bench.trading import Trading

TOPICS = (DEALS, ORDERS, BALANCES)
GOAL = "40,000"  # messages/s
DRAIN_TIMEOUT_S = 300.0
POLL_S = 0.01
SAME_COUNT = 100_000  # messages that the bare producer sends
LINGER_MS = 5
PAGE_COUNT = 5_000
FETCH_WAIT_MS = 4  # tansu looks for messages again when half of it is over
PACED_COUNT = 200
PACE_S = 0.02


class Drained(NamedTuple):
    """Events that were settled between two looks; each makes one message."""

    event_count: int
    seconds: float


def run(folder: Path | None, *, quick: bool) -> Report:
    """Measure everything."""
    seconds = 3 if quick else 20
    with tempfile.TemporaryDirectory(prefix="tradepit-bench-kafka-", dir=folder) as place:
        broker = tansu.Tansu(Path(place) / "broker")
        sections = f'[kafka]\nbrokers = "{broker.address}"'
        try:
            with private.exchange(folder, None, sections=sections) as settings:
                report = Report(
                    title="Kafka, everything on one machine",
                    machine=machine(settings.data_dir) | {"broker": broker.version},
                )
                _backlog(settings, seconds)
                broker.start()
                rate = _courier(report, settings, broker)
                _bare(report, broker, rate)
                _lags(report, settings, broker)
        finally:
            broker.kill()
    return report


def _backlog(settings: Settings, seconds: float) -> None:
    """Trade for some seconds, and wait until the history has it all, so that it takes no more CPU time."""
    trading = Trading(settings)
    try:
        trading.fund()
        trading.run(seconds)
        trading.drain(DRAIN_TIMEOUT_S)
    finally:
        trading.close()


def _courier(report: Report, settings: Settings, broker: tansu.Tansu) -> float:
    """Let the courier work off what waits; return the messages a second."""
    meter, done = Meter(settings, broker=broker.pid), _drained(settings)
    rate = done.event_count / done.seconds
    report.add(
        "messages through the courier",
        rate,
        "/s",
        GOAL,
        f"{done.event_count:,} messages; {meter.text(done.event_count)}",
    )
    return rate


def _drained(settings: Settings) -> Drained:
    """Wait until all is settled; from the first look that shows an advance to the last."""
    folder, durable = settings.paths.positions_dir, Reader(settings.paths.events_dir).durable_number
    deadline_s = time.perf_counter() + DRAIN_TIMEOUT_S
    number = first = positions.told(folder).get("courier", 0)
    began_s = 0.0
    while number < durable:
        if time.perf_counter() > deadline_s:
            raise click.ClickException(f"{durable - number:,} events are not in Kafka after {DRAIN_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)
        number, before = positions.told(folder).get("courier", 0), number
        if not began_s and number > before:
            first, began_s = number, time.perf_counter()
    ended_s = time.perf_counter()
    if number == first:
        raise click.ClickException("there were too few events to measure: let it trade longer")
    return Drained(number - first, ended_s - began_s)


def _bare(report: Report, broker: tansu.Tansu, rate: float) -> None:
    """The same bytes through kafka-python's producer, to topics of their own."""
    values = {topic: _read(broker, topic, SAME_COUNT // len(TOPICS)) for topic in TOPICS}
    count = sum(map(len, values.values()))
    for name, options in (("its defaults", {}), ("batches of 512 KiB", {"batch_size": 512 << 10})):
        producer = KafkaProducer(
            bootstrap_servers=broker.address, acks="all", enable_idempotence=True, linger_ms=LINGER_MS, **options
        )
        began_s = time.perf_counter()
        for topic, messages in values.items():
            for value in messages:
                producer.send(f"bare-{topic}", value, partition=PARTITION)
        producer.flush(DRAIN_TIMEOUT_S)
        bare_rate = count / (time.perf_counter() - began_s)
        producer.close()
        detail = f"{count:,} messages; the courier sends {rate / bare_rate:.1f} times as many"
        report.add(f"the same bytes through kafka-python's producer, {name}", bare_rate, "/s", "", detail)


def _read(broker: tansu.Tansu, topic: str, count: int) -> list[bytes]:
    """The first messages of a topic, up to so many."""
    consumer = _consumer(broker, topic, 0)
    found: list[bytes] = []
    while len(found) < count and (rows := consumer.poll(1000, max_records=PAGE_COUNT)):
        found += [message.value for messages in rows.values() for message in messages]
    consumer.close(autocommit=False)
    return found[:count]


def _lags(report: Report, settings: Settings, broker: tansu.Tansu) -> None:
    """How late a message is when little goes on: from a deposit's reply until a consumer has it."""
    consumer = _consumer(broker, BALANCES, 0)
    while consumer.poll(500, max_records=PAGE_COUNT):
        pass
    trading, lags_ms = Trading(settings), []
    try:
        for _ in range(PACED_COUNT):
            trading.deposit()
            replied_s = time.perf_counter()
            while not consumer.poll(100) and time.perf_counter() < replied_s + DRAIN_TIMEOUT_S:
                pass
            lags_ms.append((time.perf_counter() - replied_s) * 1000)
            time.sleep(PACE_S)
    finally:
        trading.close()
        consumer.close(autocommit=False)
    text = percentile_text(lags_ms, "ms", (50, 90, 99, 100))
    report.add(
        "from a deposit's reply until a consumer has it: median", sorted(lags_ms)[PACED_COUNT // 2], "ms", "", text
    )


def _consumer(broker: tansu.Tansu, topic: str, offset: int) -> Any:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.address,
        group_id=None,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    place = TopicPartition(topic, PARTITION)
    consumer.assign([place])
    consumer.seek(place, offset)
    return consumer
