"""The courier's loop, turned by hand against a real broker: where it begins, what it refuses, what it does about
batches that come late."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus import positions
from bus.catalog import ask
from bus.client import Client
from bus.endpoints import address
from bus.eventlog import Reader
from conf import alert
from conf.operations import Kafka
from conf.settings import Settings
from persist import kafka_position
from persist.courier import NAME, Courier
from persist.kafka_link import Link
from persist.kafka_messages import TOPICS, messages
from persist.kafka_position import Place, Position
from tests.engine.opened import private_settings
from tests.persist.trading import Exchange, exchange
from tests.process.broker import Broker, mortal_broker  # noqa: F401  # fixtures

TURN_MS = 20
TURNS_MAX = 1_000


@pytest.fixture(autouse=True)
def _every_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "REPEAT_S", 0.0)


@pytest.fixture
def settings(tmp_path: Path, mortal_broker: Broker) -> Settings:  # noqa: F811
    return replace(private_settings(tmp_path), kafka=Kafka(brokers=mortal_broker.address))


@pytest.fixture
def trading(settings: Settings) -> Iterator[Exchange]:
    with exchange(settings) as running:
        running.fund()
        running.trade(20)
        yield running


class Desk:
    """A courier and what it works with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
        self.courier = Courier(settings, self.client, self.link)

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None:
        self.courier.close()
        self.client.close()

    def link(self) -> Link:
        return Link(self.settings.kafka.brokers, lambda: None)

    def turn_until(self, number: int) -> None:
        """Until all events up to this one are sent."""
        sent = 0
        for _ in range(TURNS_MAX):
            sent += self.courier.turn(TURN_MS)
            if sent and self.courier.sent_number >= number:
                return
        raise AssertionError(f"{self.courier.sent_number} of {number} events are sent; {self.alerts}")

    def turn_until_alert(self, text: str) -> None:
        for _ in range(TURNS_MAX):
            self.courier.turn(TURN_MS)
            if any(text in each for each in self.alerts):
                return
        raise AssertionError(f"no alert {text!r}: {self.alerts}")

    @property
    def alerts(self) -> list[str]:
        path = self.settings.paths.alerts_file
        return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []

    def wanted(self, after_event: int = 0) -> dict[str, list[bytes]]:
        catalog = ask(self.client)
        found: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
        for frame in Reader(self.settings.paths.events_dir).frames(after_event):
            for topic, made in messages(frame.records, catalog).items():
                found[topic] += made
        return found

    def held(self) -> dict[str, list[bytes]]:
        """What the topics hold."""
        link = self.link()
        link.open(TOPICS, is_producer=False)
        try:
            return {
                topic: [message.value for message in link.messages(topic, 0, link.range_of(topic).end)]
                for topic in TOPICS
            }
        finally:
            link.close()

    def send(self, topic: str, *values: bytes) -> None:
        """As another producer."""
        link = self.link()
        link.open([topic])
        try:
            link.produce({topic: list(values)})
        finally:
            link.close()


def test_all_events_are_sent_from_the_first_one_on(trading: Exchange, settings: Settings) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted()
        assert desk.alerts == []
    position = kafka_position.load(settings.paths)
    assert position is not None
    assert {place.event for place in position.places.values()} == {trading.event_number}
    assert positions.told(settings.paths.positions_dir)[NAME] == trading.event_number


def test_with_start_now_only_what_comes_is_sent(trading: Exchange, settings: Settings) -> None:
    number = trading.event_number
    with Desk(replace(settings, kafka=replace(settings.kafka, start="now"))) as desk:
        desk.courier.turn(TURN_MS)
        trading.trade(10)
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted(number)


def test_what_was_sent_behind_the_position_is_left_out(trading: Exchange, settings: Settings) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
    position = kafka_position.load(settings.paths)
    assert position is not None
    for event, offset in ((0, 0), (2, None)):
        places = dict.fromkeys(TOPICS, Place(event, offset or 0))
        if offset is None:  # the first two events are deposits
            places["balances"] = Place(event, 2)
        kafka_position.save(settings.paths, position._replace(places=places))
        trading.trade(10)
        with Desk(settings) as desk:
            desk.turn_until(trading.event_number)
            assert desk.held() == desk.wanted()
            assert desk.alerts == []


def test_messages_of_others_between_ours_are_left_alone_and_told_once(trading: Exchange, settings: Settings) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        desk.send("deals", b"foreign")
        trading.trade(10)
        desk.turn_until(trading.event_number)
        desk.send("deals", b"foreign")
        trading.trade(10)
        desk.turn_until(trading.event_number)
        assert [value for value in desk.held()["deals"] if value != b"foreign"] == desk.wanted()["deals"]
        assert ["who else" in text for text in desk.alerts] == [True]


def test_a_batch_that_comes_late_is_left_out_of_what_follows(
    trading: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        before = trading.event_number
        trading.trade(20)
        late = desk.wanted(before)["orders"][:5]
        fresh = Desk(settings)  # as if it had been killed
        produce = Link.produce
        sent: list[bool] = []

        def produce_late(link: Link, values: dict[str, list[bytes]]) -> dict[str, int]:
            if not sent:
                sent.append(True)
                desk.send("orders", *late)
            return produce(link, values)

        desk.courier.close()
        monkeypatch.setattr(Link, "produce", produce_late)
        with fresh:
            fresh.turn_until(trading.event_number)
            wanted, held = fresh.wanted()["orders"], fresh.held()["orders"]
        assert sent
        doubled = [value for value in held if held.count(value) > 1]
        assert set(doubled) <= {late[0]}
        at = held.index(late[0], held.index(late[0]) + 1)
        assert held[:at] + held[at + 1 :] == wanted


@pytest.mark.parametrize(("exchange_number", "event"), [(5, 1), (0, 10**9)])
def test_a_position_of_another_exchange_is_refused(
    trading: Exchange, settings: Settings, exchange_number: int, event: int
) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
    position = kafka_position.load(settings.paths)
    assert position is not None
    other = Position(exchange_number or position.exchange, 0, dict.fromkeys(TOPICS, Place(event, 0)))
    kafka_position.save(settings.paths, other)
    with Desk(settings) as desk:
        before = desk.held()
        desk.turn_until_alert("is of another exchange")
        assert desk.held() == before
        kafka_position.save(settings.paths, position)  # it is brought back
        trading.trade(10)
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted()


def test_a_position_that_is_none_is_told(trading: Exchange, settings: Settings) -> None:
    settings.paths.courier_file.write_text("{}")
    with Desk(settings) as desk:
        desk.turn_until_alert("is damaged")
        settings.paths.courier_file.unlink()
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted()


def test_a_matcher_that_is_away_is_waited_for(trading: Exchange, settings: Settings) -> None:
    with Desk(settings) as desk:
        trading.stop()
        assert desk.courier.turn(TURN_MS) == 0
        trading.start()
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted()
        assert desk.alerts == []
