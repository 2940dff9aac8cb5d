"""The topic of every event that the courier keeps: each event once, in order, with what is listed before it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bus import catalog
from bus.eventlog import Reader
from bus.kafka import MESSAGE_SIZE_MAX, catalog_of, catalog_topic, events_of, mark_of
from bus.messages import UPDATE_EVENT, EventKind
from engine.journal_reader import read_header
from tests.process.broker import Broker
from tests.process.exchange import PATIENCE_S, Running, exchange
from tests.process.load import Load
from tests.process.test_kafka_kill import LOAD_S, for_seconds, fund, trade, wait_alert
from tests.process.test_kill import OFTEN, Killer

KILL_COUNT = 2
DETAIL = "d" * 3000


@pytest.fixture
def topic() -> str:
    return f"events-{time.time_ns()}"


def told(broker: Broker, topic: str, mark: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, record without its place in the blob, and detail of each event in the topic."""
    for message in broker.rest(topic):
        assert len(message) <= MESSAGE_SIZE_MAX
        frame = events_of(message)
        assert frame.total == mark
        for record in frame.records:
            yield int(record["number"]), *parts(record, frame.blob)


def logged(running: Running) -> list[tuple[int, bytes, bytes]]:
    return [
        (int(record["number"]), *parts(record, frame.blob))
        for frame in Reader(running.settings.paths.events_dir).frames(0)
        for record in frame.records
    ]


def parts(record: np.void, blob: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
    if record["kind"] != EventKind.BALANCE_UPDATE:
        return record.tobytes(), b""
    update = np.frombuffer(record.tobytes(), UPDATE_EVENT).copy()
    offset, size = int(update["detail_offset"][0]), int(update["detail_size"][0])
    update["detail_offset"] = 0
    return update.tobytes(), bytes(blob[offset : offset + size])


def mark(running: Running) -> int:
    header = read_header(running.settings.paths.journal_dir)
    assert header is not None
    return mark_of(header.seed)


def test_every_event_is_there_once_with_its_detail_whenever_the_courier_is_killed(
    tmp_path: Path, broker: Broker, topic: str
) -> None:
    settings = {"brokers": broker.address, "events_topic": topic}
    with exchange(tmp_path, supervisor=OFTEN, kafka=settings) as running:
        load = Load(seed=21)
        fund(running, load)
        for number in range(KILL_COUNT):
            running.call("balance.update", 1, "USD", "deposit", 10_000 + number, "1", {"text": DETAIL})
            trade(running, load, Killer(running.pid("courier"), LOAD_S).is_done)
        running.wait_stored("courier")
        assert list(told(broker, topic, mark(running))) == logged(running)
        listings = broker.rest(catalog_topic(topic))
        assets, markets, exchange_mark = catalog_of(listings[-1])
        assert exchange_mark == mark(running)
        listed = [market.name for market in catalog.make(assets, markets).markets]
        assert listed == [row["name"] for row in running.call("market.list")]


def test_events_that_a_broker_has_lost_are_sent_again_so_that_no_number_is_missing(
    tmp_path: Path, mortal_broker: Broker, topic: str
) -> None:
    with exchange(tmp_path, kafka={"brokers": mortal_broker.address, "events_topic": topic}) as running:
        load = Load(seed=22)
        fund(running, load)
        trade(running, load, for_seconds(LOAD_S))
        running.wait_stored("courier")
        mortal_broker.kill()
        mortal_broker.start()
        trade(running, load, for_seconds(LOAD_S))
        wait_alert(running, "The events that it lacks are sent again")
        running.wait_stored("courier")
        assert list(told(mortal_broker, topic, mark(running))) == logged(running)


def test_the_topic_of_another_exchange_is_not_written_to(tmp_path: Path, broker: Broker, topic: str) -> None:
    settings = {"brokers": broker.address, "events_topic": topic}
    for name in ("one", "other"):
        with exchange(tmp_path / name, kafka=settings) as running:
            running.call("balance.update", 1, "USD", "deposit", 1, "1", {})
            if name == "one":
                running.wait_stored("courier")
                before = broker.rest(topic)
                assert before
            else:
                wait_alert(running, "holds events of another exchange")
                assert broker.rest(topic) == before


def test_what_is_listed_is_there_before_anything_happens_and_after_a_change(
    tmp_path: Path, broker: Broker, topic: str
) -> None:
    assets = [{"name": name, "prec_save": 8, "prec_show": 8} for name in ("USD", "BTC")]
    one, other = (
        {"name": name, "stock": {"name": stock, "prec": 4}, "money": {"name": money, "prec": 4}}
        for name, stock, money in (("BTCUSD", "BTC", "USD"), ("USDBTC", "USD", "BTC"))
    )
    listing = {"assets": assets, "markets": [one]}
    with exchange(tmp_path, kafka={"brokers": broker.address, "events_topic": topic}, listing=listing) as running:
        wait_listed(broker, topic, ["BTCUSD"])
        (tmp_path / "markets.json").write_text(json.dumps(listing | {"markets": [one, other]}))
        running.pit("restart", "matcher")
        wait_listed(broker, topic, ["BTCUSD", "USDBTC"])


def wait_listed(broker: Broker, topic: str, names: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if listings := broker.rest(catalog_topic(topic)):
            assets, markets, _ = catalog_of(listings[-1])
            if [each.name for each in catalog.make(assets, markets).markets] == names:
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)
