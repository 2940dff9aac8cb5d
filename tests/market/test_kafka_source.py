"""The market process on a host that reaches Kafka only: no event log, no journal, nobody to ask what is listed."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus import catalog, kafkalisting
from bus.client import Client, query
from bus.endpoints import place
from bus.eventlog import Reader
from bus.messages import Frame, QueryKind
from conf import alert
from conf.operations import Kafka
from conf.settings import MarketData, Settings
from market.kafka_source import FromKafka
from market.service import MarketProcess
from tests.bus.kafka_writer import MARK, Writer
from tests.engine.opened import private_settings
from tests.market.test_service import MARKET, Desk, FaultyStore, assert_stored
from tests.persist.trading import Exchange, exchange
from tests.process.broker import Broker, broker  # noqa: F401  # a fixture


class FarDesk(Desk):
    """A market process on another host than the matcher, and a client that asks it."""

    def __init__(self, settings: Settings, near: Settings) -> None:
        self.settings = settings
        self._near = near
        self.store = FaultyStore(settings.paths.market_file)
        self.client = Client(place(near, "commands"))
        self.told: list[str] = []
        self.process = MarketProcess(settings, self.store, FromKafka(settings.kafka, self.told.append))
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(place(settings, "market"))
        self._tag = 0

    @property
    def all_frames(self) -> list[Frame]:
        return [*Reader(self._near.paths.events_dir).frames(0)]


@pytest.fixture(autouse=True)
def _every_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "REPEAT_S", 0.0)
    monkeypatch.setattr(kafkalisting, "MISSING_S", 0.5)


@pytest.fixture
def near(tmp_path: Path) -> Settings:
    """The matcher's host."""
    return private_settings(tmp_path / "near")


@pytest.fixture
def far(tmp_path: Path, broker: Broker) -> Settings:  # noqa: F811
    """The other one; it has a folder of its own and nothing else."""
    (tmp_path / "far").mkdir()
    made = private_settings(tmp_path / "far")
    kafka = Kafka(brokers=broker.address, events_topic=f"events-{time.time_ns()}")
    return replace(made, market=MarketData(flush_interval_s=0.05, events="kafka"), kafka=kafka)


@pytest.fixture
def trading(near: Settings) -> Iterator[Exchange]:
    with exchange(near) as running:
        running.fund()
        yield running


@pytest.fixture
def writer(far: Settings) -> Iterator[Writer]:
    with Writer(far.kafka.brokers, far.kafka.events_topic) as made:
        yield made


@pytest.fixture
def desk(far: Settings, near: Settings, trading: Exchange) -> Iterator[FarDesk]:
    made = FarDesk(far, near)
    yield made
    made.close()


def write(writer: Writer, trading: Exchange) -> int:
    """All that has happened; the number of the last event."""
    with Client(place(trading.settings, "commands")) as client:
        writer.listing(*(client.ask(query(kind)).records for kind in (QueryKind.ASSETS, QueryKind.MARKETS)))
    number = trading.event_number
    writer.log(trading.settings.paths.events_dir, number)
    return number


def test_it_answers_and_stores_what_happens(desk: FarDesk, trading: Exchange, writer: Writer) -> None:
    trading.trade(20)
    write(writer, trading)
    desk.turn_until_answering()
    assert desk.deal_count == 10
    for count in (11, 12, 13):
        trading.trade(2)
        number = write(writer, trading)
        desk.turn_until_deals(count)
    desk.turn_until_stored(number)
    assert_stored(desk)
    assert desk.told == []
    assert desk.alerts == []
    assert not [*desk.settings.paths.events_dir.glob("*.events")]


def test_it_waits_for_what_is_listed(desk: FarDesk, trading: Exchange, writer: Writer) -> None:
    trading.trade(2)
    writer.log(trading.settings.paths.events_dir, trading.event_number)
    desk.turn_until(lambda: any("has no message yet" in told for told in desk.told))
    assert not desk.process.is_answering
    write(writer, trading)
    desk.turn_until_answering()
    assert desk.deal_count == 1


def test_another_process_goes_on_from_what_is_stored(
    far: Settings, near: Settings, trading: Exchange, writer: Writer
) -> None:
    for count in (10, 20, 30):
        desk = FarDesk(far, near)
        trading.trade(20)
        number = write(writer, trading)
        desk.turn_until_answering()
        desk.turn_until_stored(number)
        assert desk.deal_count == count
        assert_stored(desk)
        desk.close()


def refused(far: Settings, near: Settings) -> str:
    """The alert that a process gives which does not take the store for its own."""
    desk = FarDesk(far, near)
    desk.turn_until(lambda: bool(desk.alerts))
    assert not desk.process.is_answering
    desk.close()
    return desk.alerts[-1]


def test_the_store_of_another_exchange_is_refused(
    far: Settings, near: Settings, trading: Exchange, writer: Writer
) -> None:
    trading.trade(20)
    number = write(writer, trading)
    desk = FarDesk(far, near)
    desk.turn_until_answering()
    desk.turn_until_stored(number)
    desk.close()
    stored = far.paths.market_file.read_bytes()
    other = replace(far, kafka=replace(far.kafka, events_topic=f"{far.kafka.events_topic}-other"))
    with Writer(far.kafka.brokers, other.kafka.events_topic, mark=MARK + 1) as other_writer:
        trading.trade(20)  # it has come further than what is stored: only its mark tells
        write(other_writer, trading)
        assert "another exchange" in refused(other, near)
    shorter = replace(far, kafka=replace(far.kafka, events_topic=f"{far.kafka.events_topic}-shorter"))
    with Writer(far.kafka.brokers, shorter.kafka.events_topic) as shorter_writer:
        shorter_writer.frames(desk.all_frames[0])
        with Client(place(near, "commands")) as client:
            records = [client.ask(query(kind)).records for kind in (QueryKind.ASSETS, QueryKind.MARKETS)]
        shorter_writer.listing(*records)
        assert "another exchange" in refused(shorter, near)
    assert far.paths.market_file.read_bytes() == stored


def test_events_that_kafka_no_longer_has_are_told_and_left_out(
    desk: FarDesk, trading: Exchange, writer: Writer
) -> None:
    trading.trade(20)
    frames = desk.all_frames
    [*_, last] = frames
    write_from = last.first + len(last.records) - 4
    rest = last._replace(records=last.records[-4:], first=write_from)
    writer.number = write_from - 1
    writer.frames(rest)
    write(writer, trading)
    desk.turn_until_answering()
    desk.turn_until(lambda: bool(desk.alerts))
    assert f"goes on without them, from event {write_from:,} on" in desk.alerts[0]
    trading.trade(2)
    desk.turn_until_stored(write(writer, trading))
    assert 0 < desk.deal_count < 11
    assert catalog.ask(desk.client).market_by_name[MARKET].name == MARKET
