"""The courier's loop, turned by hand against a real broker: where it begins, what it refuses, what it does about
batches that come late."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c
from kafka import codec as codecs

from bus import positions
from bus.catalog import Catalog, ask, make
from bus.client import Client
from bus.endpoints import address
from bus.eventlog import Reader
from bus.kafka import catalog_of, catalog_topic, events_of
from bus.messages import FrameKind, pack
from conf import alert
from conf.operations import Kafka
from conf.settings import Settings
from persist import courier, kafka_link, kafka_position
from persist.courier import NAME, Courier
from persist.kafka_link import Link, OutOfStep, TooLarge
from persist.kafka_messages import TOPICS, messages
from persist.kafka_position import Place, Position, Resend
from persist.kafka_records import Producer, batch
from tests.engine.opened import private_settings
from tests.persist.trading import Exchange, exchange
from tests.process.broker import Broker, mortal_broker  # noqa: F401  # fixtures

Values = Mapping[str, Sequence[bytes]]

TURN_MS = 20
TURNS_MAX = 1_000
EVENTS = "events"
ATTRIBUTES_AT = 21  # in a batch, behind its checksum


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
        link.open(TOPICS)
        try:
            return {
                topic: [message.value for message in link.messages(topic, 0, link.range_of(topic).end)]
                for topic in TOPICS
            }
        finally:
            link.close()

    @property
    def catalog(self) -> Catalog:
        """What is listed."""
        return ask(self.client)

    def event_numbers(self) -> list[int]:
        """Of the topic of events."""
        with closing(self.link()) as link:
            link.open([EVENTS])
            found = link.messages(EVENTS, 0, link.range_of(EVENTS).end)
            return [int(number) for message in found for number in events_of(message.value).records["number"]]

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


@pytest.mark.parametrize("round_index", [0, 1, 2])
def test_a_batch_of_an_earlier_run_that_comes_late_doubles_nothing(
    trading: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch, round_index: int
) -> None:
    """The broker takes it before the first batch of this run and refuses that, or refuses it."""
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        before = trading.event_number
        trading.trade(20)
        late = desk.wanted(before)["orders"][:5]
    position = kafka_position.load(settings.paths)
    assert position is not None
    assert position.producer is not None
    numbers = (position.producer, {"orders": position.places["orders"].sequence})
    produce, rounds, refused = Link.produce, 0, []

    def produce_late(link: Link, values: Values, *of: Any) -> dict[str, int]:
        nonlocal rounds
        if rounds == round_index:
            with closing(desk.link()) as dead:
                dead.open(["orders"])
                try:
                    produce(dead, {"orders": late}, *numbers)
                except OutOfStep as error:
                    refused.append(error)
        rounds += 1
        return produce(link, values, *of)

    monkeypatch.setattr(courier, "ROUND_COUNT_MAX", 10)
    monkeypatch.setattr(Link, "produce", produce_late)
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        assert rounds > round_index
        assert desk.held() == desk.wanted()
        assert not any("who else" in text for text in desk.alerts)
    assert len(refused) == (round_index > 0)


def test_a_producer_that_the_brokers_have_lost_is_replaced(
    trading: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
    position = kafka_position.load(settings.paths)
    assert position is not None
    assert position.producer is not None
    monkeypatch.setattr(courier, "OUT_OF_STEP_S", 0.5)
    ahead = {topic: place._replace(sequence=place.sequence + 7) for topic, place in position.places.items()}
    for wrong in (position._replace(producer=Producer(1 << 40, 0)), position._replace(places=ahead)):
        kafka_position.save(settings.paths, wrong)
        trading.trade(10)
        with Desk(settings) as desk:
            desk.turn_until(trading.event_number)
            assert desk.held() == desk.wanted()
        position = kafka_position.load(settings.paths)
        assert position is not None
        assert position.producer != wrong.producer


def test_messages_that_are_asked_for_again_leave_out_none_that_was_not_sent_yet(
    trading: Exchange, settings: Settings
) -> None:
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        trading.trade(20)
        kafka_position.save_resend(settings.paths, Resend(1, trading.event_number - 5, TOPICS))
    with Desk(settings) as desk:
        trading.trade(5)
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted()


def test_a_request_to_send_again_ends_with_its_position(trading: Exchange, settings: Settings) -> None:
    now = replace(settings, kafka=replace(settings.kafka, start="now"))
    kafka_position.save_resend(settings.paths, Resend(1, 0, TOPICS))
    number = trading.event_number
    with Desk(now) as desk:
        desk.courier.turn(TURN_MS)
        trading.trade(10)
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted(number)


def test_now_is_the_first_start_however_long_the_broker_is_away(
    trading: Exchange,
    settings: Settings,
    mortal_broker: Broker,  # noqa: F811
) -> None:
    number = trading.event_number
    mortal_broker.kill()
    with Desk(replace(settings, kafka=replace(settings.kafka, start="now"))) as desk:
        desk.turn_until_alert("nothing is sent to Kafka")
        trading.trade(10)
        mortal_broker.start()
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted(number)


@pytest.mark.parametrize("start", ["first", "now"])
def test_a_topic_of_events_that_was_emptied_has_no_gap(
    trading: Exchange,
    settings: Settings,
    mortal_broker: Broker,  # noqa: F811
    start: str,
) -> None:
    settings = replace(settings, kafka=replace(settings.kafka, start=start, events_topic=EVENTS))
    with Desk(settings) as desk:
        desk.courier.turn(TURN_MS)
        trading.trade(10)
        desk.turn_until(trading.event_number)
        had = trading.event_number
        mortal_broker.kill()
        trading.trade(10)
        desk.turn_until_alert("nothing is sent to Kafka")
        mortal_broker.start()
        trading.trade(10)
        desk.turn_until(trading.event_number)
        numbers = desk.event_numbers()
    assert numbers == list(range(numbers[0], trading.event_number + 1))
    assert numbers[0] == 1 if start == "first" else numbers[0] <= had + 1


def test_a_topic_of_events_that_is_ahead_of_the_exchange_is_not_written_to(
    trading: Exchange, settings: Settings
) -> None:
    settings = replace(settings, kafka=replace(settings.kafka, events_topic=EVENTS))
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
        with closing(desk.link()) as link:
            link.open([EVENTS])
            (frame,) = [events_of(message.value) for message in link.messages(EVENTS, 0, 1)]
            ahead = frame.records.copy()
            ahead["number"] += 10**6
            link.produce({
                EVENTS: [
                    pack(FrameKind.EVENTS, ahead, bytes(frame.blob), first=int(ahead["number"][0]), total=frame.total)
                ]
            })
    with Desk(settings) as desk:
        desk.turn_until_alert("has events up to 1,0")


@pytest.mark.parametrize("codec", [2, 3, 4], ids=["snappy", "lz4", "zstd"])
def test_a_compression_that_can_not_be_read_is_told(
    trading: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch, codec: int
) -> None:
    """A broker compresses all messages of a topic when its `compression.type` says so."""
    with Desk(settings) as desk:
        desk.turn_until(trading.event_number)
    with monkeypatch.context() as patched:
        patched.setattr(kafka_link, "batch", lambda *of: marked_as_compressed(batch(*of), codec))
        with Desk(settings) as desk:
            desk.send("deals", b"never a compressed text")
    monkeypatch.setattr(codecs, f"has_{('snappy', 'lz4', 'zstd')[codec - 2]}", lambda: False)
    with Desk(settings) as desk:
        desk.turn_until_alert("the topic deals has compressed messages")


def test_brokers_that_take_small_batches_only_get_small_ones(
    trading: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce, size_max = Link.produce, 40_000

    def produce_small(link: Link, values: Values, *of: Any) -> dict[str, int]:
        if any(sum(map(len, messages)) > size_max for messages in values.values()):
            raise TooLarge("more than it takes")
        return produce(link, values, *of)

    monkeypatch.setattr(Link, "produce", produce_small)
    trading.trade(400)
    with Desk(replace(settings, kafka=replace(settings.kafka, events_topic=EVENTS))) as desk:
        desk.turn_until(trading.event_number)
        assert desk.held() == desk.wanted()
        assert desk.event_numbers() == list(range(1, trading.event_number + 1))
        assert desk.alerts == []
        size_max = 10
        trading.trade(2)
        desk.turn_until_alert("more than it takes")


def test_what_is_listed_tells_no_sums(trading: Exchange, settings: Settings) -> None:
    now = replace(settings, kafka=replace(settings.kafka, start="now", events_topic=EVENTS))
    with Desk(now) as desk, closing(desk.link()) as link:
        listed = desk.catalog.markets
        desk.courier.turn(TURN_MS)
        link.open([catalog_topic(EVENTS)])
        message, *_ = link.messages(catalog_topic(EVENTS), 0, link.range_of(catalog_topic(EVENTS)).end)
    assets, markets, _ = catalog_of(message.value)
    assert [market.name for market in make(assets, markets).markets] == [market.name for market in listed]
    assert not any(assets[name].any() for name in assets.dtype.names or () if name.endswith(("_units", "y_count")))


def marked_as_compressed(data: bytes, codec: int) -> bytes:
    """A batch with another codec in its attributes (persist/kafka_records.py draws it)."""
    rest = codec.to_bytes(2, "big") + data[ATTRIBUTES_AT + 2 :]
    return data[: ATTRIBUTES_AT - 4] + crc32c(rest).to_bytes(4, "big") + rest


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

        def produce_late(link: Link, values: Values, *of: Any) -> dict[str, int]:
            if not sent:
                sent.append(True)
                desk.send("orders", *late)
            return produce(link, values, *of)

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
