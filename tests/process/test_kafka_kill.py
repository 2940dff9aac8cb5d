"""kill -9 of the courier, the matcher and the broker under load: every message once, in order.

What should be in the topics is made of the event log by the same texts, which test_kafka.py compares with ViaBTC's.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer

from bus.catalog import ask
from bus.eventlog import Reader
from persist.kafka_messages import TOPICS, messages
from tests.process.broker import Broker
from tests.process.exchange import Running, exchange
from tests.process.load import Load
from tests.process.test_kill import ASSETS, OFTEN, Killer, connect, seconds_until_back

KILL_COUNT = int(os.environ.get("PIT_KILLS", "3"))
LOAD_S = 1.3
PATIENCE_S = 60.0
POLL_S = 0.02

Begin = dict[str, int]


@pytest.fixture
def running(tmp_path: Path, broker: Broker) -> Iterator[Running]:
    with exchange(tmp_path, supervisor=OFTEN, kafka={"brokers": broker.address}) as started:
        yield started


@pytest.fixture
def begin(broker: Broker) -> Begin:
    return broker.ends(*TOPICS)


def wanted(running: Running, after_event: int = 0) -> dict[str, list[bytes]]:
    """The messages of all events after one."""
    with running.client() as client:
        catalog = ask(client)
    found: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
    for frame in Reader(running.settings.paths.events_dir).frames(after_event):
        for topic, made in messages(frame.records, catalog).items():
            found[topic] += made
    return found


def check(running: Running, broker: Broker, begin: Begin) -> None:
    """All is sent; each topic holds every message once and in order, and nothing else."""
    running.wait_stored("courier")
    for topic, values in wanted(running).items():
        assert values, topic
        found = broker.rest(topic, begin[topic])
        assert len(found) == len(values), f"{topic}{running.logs()}"
        assert found == values, topic


def trade(running: Running, load: Load, is_over: Callable[[], bool]) -> None:
    """Trade until it is over, and all of it is answered."""
    with connect(running) as client:
        load.run(client, is_over)
        load.finish(client)


def fund(running: Running, load: Load) -> None:
    with connect(running) as client:
        load.fund(client, ASSETS)


def wait_alert(running: Running, text: str, count: int = 1) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while running.alerts().count(text) < count:
        assert time.monotonic() < deadline_s, f"no alert {text!r}: {running.alerts()}{running.logs()}"
        time.sleep(POLL_S)


def for_seconds(seconds: float) -> Callable[[], bool]:
    end_s = time.monotonic() + seconds
    return lambda: time.monotonic() > end_s


@pytest.mark.timeout(120 + 15 * KILL_COUNT)
def test_a_courier_that_is_killed_again_and_again_sends_every_message_once(
    running: Running, broker: Broker, begin: Begin
) -> None:
    load = Load(seed=11)
    fund(running, load)
    for _ in range(KILL_COUNT):
        killer = Killer(running.pid("courier"), LOAD_S)
        trade(running, load, killer.is_done)
    check(running, broker, begin)
    assert "not the courier's" not in running.alerts()


def test_a_killed_matcher_costs_no_message_and_doubles_none(running: Running, broker: Broker, begin: Begin) -> None:
    load = Load(seed=12)
    fund(running, load)
    for _ in range(2):
        killer = Killer(running.pid("matcher"), LOAD_S)
        with connect(running) as client:
            load.run(client, killer.is_done)
        load.lose()
        seconds_until_back(running, killer.done_at)
    check(running, broker, begin)


def test_a_broker_that_is_away_at_the_start_and_later_is_waited_for_and_trading_goes_on(
    tmp_path: Path, mortal_broker: Broker
) -> None:
    mortal_broker.kill()
    with exchange(tmp_path, kafka={"brokers": mortal_broker.address}) as running:
        assert running.status()["courier"]["state"] == "ready"
        load = Load(seed=13)
        fund(running, load)
        trade(running, load, for_seconds(LOAD_S))
        wait_alert(running, "nothing is sent to Kafka")
        assert running.status()["courier"]["behind_count"] > 0
        mortal_broker.start()
        check(running, mortal_broker, dict.fromkeys(TOPICS, 0))
        wait_alert(running, "Kafka takes messages again")
        assert running.alerts().count("nothing is sent to Kafka") == 1


def test_what_a_broker_had_not_acknowledged_when_it_was_killed_comes_once(
    tmp_path: Path, mortal_broker: Broker
) -> None:
    with exchange(tmp_path, kafka={"brokers": mortal_broker.address}) as running:
        load = Load(seed=14)
        fund(running, load)
        trade(running, load, for_seconds(LOAD_S))
        acknowledged = running.wait_stored("courier")
        mortal_broker.kill()  # and all is forgotten
        trade(running, load, for_seconds(LOAD_S))
        wait_alert(running, "nothing is sent to Kafka")
        mortal_broker.start()
        running.wait_stored("courier")
        for topic, values in wanted(running, acknowledged).items():
            assert mortal_broker.rest(topic) == values, topic
        wait_alert(running, "ends ", len(TOPICS))
        assert "it has lost messages" in running.alerts()
        running.pit("kafka", "resend", "--after", "0")
        wait_alert(running, "sends all messages after event 0 again")
        running.wait_stored("courier")
        kept = wanted(running, acknowledged)
        for topic, values in wanted(running).items():
            assert mortal_broker.read(topic, len(kept[topic]), len(values)) == values, topic
        assert "deals: Kafka has" in running.pit("kafka", "status").stdout


@pytest.mark.timeout(240)
def test_a_broker_that_is_killed_under_load_gets_in_order_what_it_has_not_had(
    tmp_path: Path, mortal_broker: Broker
) -> None:
    with exchange(tmp_path, kafka={"brokers": mortal_broker.address}) as running:
        load = Load(seed=15)
        fund(running, load)
        for _ in range(2):
            assert mortal_broker.private is not None
            killer = Killer(mortal_broker.private.pid, LOAD_S)
            trade(running, load, killer.is_done)
            mortal_broker.kill()
            wait_alert(running, "nothing is sent to Kafka")
            mortal_broker.start()
            trade(running, load, for_seconds(LOAD_S))
            running.wait_stored("courier")
        for topic, values in wanted(running).items():
            found = mortal_broker.rest(topic)
            assert found == values[-len(found) :], topic  # the end of all, without a hole
            assert 0 < len(found) < len(values), topic


def test_messages_of_others_are_left_alone_and_told(tmp_path: Path, broker: Broker, begin: Begin) -> None:
    with exchange(tmp_path, supervisor=OFTEN, kafka={"brokers": broker.address}) as running:
        load = Load(seed=16)
        fund(running, load)
        running.wait_stored("courier")
        producer = KafkaProducer(bootstrap_servers=broker.address)
        killer = Killer(running.pid("courier"), LOAD_S)
        while not killer.is_done():
            trade(running, load, for_seconds(0.1))
            producer.send("deals", b"somebody else's", partition=0).get(timeout=PATIENCE_S)
        trade(running, load, for_seconds(0.1))
        producer.close()
        running.wait_stored("courier")
        found = broker.rest("deals", begin["deals"])
        assert b"somebody else's" in found
        assert [value for value in found if value != b"somebody else's"] == wanted(running)["deals"]
        assert "messages that are not the courier's" in running.alerts()
