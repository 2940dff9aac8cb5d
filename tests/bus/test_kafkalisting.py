"""What is listed, from a real broker: the last message counts, what comes later is seen, what is missing is told."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from bus import kafkalisting, kafkatopics, retrying
from bus.kafka import catalog_topic
from bus.kafkalisting import KafkaListing
from bus.messages import ASSET_VIEW, MARKET_VIEW
from tests.bus.kafka_writer import MARK, Writer
from tests.bus.making import frame
from tests.process.broker import Broker

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafkatopics, "ANSWER_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(kafkatopics, "CONNECT_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(kafkalisting, "LOOK_S", 0.2)
    monkeypatch.setattr(kafkalisting, "POLL_S", 0.1)
    monkeypatch.setattr(kafkalisting, "MISSING_S", 0.5)
    monkeypatch.setattr(retrying, "PAUSE_MOST_S", 0.5)


class Watching:
    """A listing and what it told."""

    def __init__(self, broker: Broker) -> None:
        self.topic = f"events-{time.time_ns()}"
        self.told: list[str] = []
        self.listing = KafkaListing(broker.address, self.topic, self.told.append)
        self.listing.start()

    def wait(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline_s, self.told
            assert self.listing.error is None
            time.sleep(0.01)

    def goes_to(self, number: int) -> bool:
        return self.listing.end_number == number

    @property
    def names(self) -> list[str] | None:
        """Of the markets that are listed."""
        return None if self.listing.catalog is None else [market.name for market in self.listing.catalog.markets]


@pytest.fixture
def watching(mortal_broker: Broker) -> Iterator[Watching]:
    made = Watching(mortal_broker)
    yield made
    made.listing.close()
    made.wait(lambda: not made.listing.is_alive)


def records(*names: str) -> tuple[Any, Any]:
    assets, markets = np.zeros(2, ASSET_VIEW), np.zeros(len(names), MARKET_VIEW)
    assets["name"] = b"S", b"M"
    markets["name"], markets["money"] = [name.encode() for name in names], 1
    return assets, markets


def test_the_last_listing_counts_and_later_ones_are_seen(mortal_broker: Broker, watching: Watching) -> None:
    watching.wait(lambda: any("has no message yet" in told for told in watching.told))
    assert watching.names is None
    with Writer(mortal_broker.address, watching.topic) as writer:
        writer.listing(*records("AB"))
        writer.listing(*records("AB", "CD"))
        watching.wait(lambda: watching.names == ["AB", "CD"])
        assert watching.listing.mark == MARK
        writer._send(catalog_topic(writer.topic), [b"no listing"])
        watching.wait(lambda: any("tells nothing" in told for told in watching.told))
        writer.listing(*records("AB", "CD", "EF"))
        watching.wait(lambda: watching.names == ["AB", "CD", "EF"])


def test_how_far_events_go_is_known(mortal_broker: Broker, watching: Watching) -> None:
    with Writer(mortal_broker.address, watching.topic) as writer:
        writer.listing(*records("AB"))
        watching.wait(lambda: watching.listing.end_number == 0)
        for last in (5, 10):
            writer.frames(frame(last - 4, 5))
            watching.wait(partial(watching.goes_to, last))


def test_what_was_known_stays_when_the_broker_is_away_and_is_read_anew(
    mortal_broker: Broker, watching: Watching
) -> None:
    with Writer(mortal_broker.address, watching.topic) as writer:
        writer.listing(*records("AB"))
        writer.frames(frame(1, 5))
        watching.wait(lambda: watching.names == ["AB"] and watching.listing.end_number == 5)
    mortal_broker.kill()
    watching.wait(lambda: any("can't be read" in told for told in watching.told))
    assert watching.names == ["AB"]
    mortal_broker.start()
    with Writer(mortal_broker.address, watching.topic) as writer:
        writer.frames(frame(1, 3))
        writer.listing(*records("CD"))
        watching.wait(lambda: watching.names == ["CD"] and watching.listing.end_number == 3)
