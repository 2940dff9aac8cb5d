"""market and ws with their events from Kafka: they answer and push what they do with those of the bus, whoever is
killed meanwhile.
"""

import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.golden import player, ws_player
from tests.process.broker import Broker
from tests.process.exchange import exchange
from tests.process.mirror import mirrored
from tests.process.test_golden_ws import MARKET, UNCACHED_HTTP, UNCACHED_WS, auth_url  # noqa: F401  # a fixture
from tests.process.test_kill import ASSETS, OFTEN, Killer
from tests.process.test_market import LOAD_S, OFTEN_FLUSHED, RECORDED, Varied, check_market, pid_of

KAFKA = {"events": "kafka"}
VICTIMS = ("market", "broker", "market", "matcher")


def kafka(broker: Broker) -> dict[str, Any]:
    return {"brokers": broker.address, "events_topic": f"events-{time.time_ns()}"}


def is_past(until_s: float) -> bool:
    return time.monotonic() > until_s


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", RECORDED[-1:], ids=lambda path: path.stem)
def test_market_data_from_kafka_is_the_recorded_one(path: Path, tmp_path: Path, broker: Broker) -> None:
    market = {**OFTEN_FLUSHED, **KAFKA, "skip_first_deal": True}
    with exchange(tmp_path, listing=player.listing(path), market=market, kafka=kafka(broker)) as running:
        host, _, port = running.settings.http.bind.rpartition(":")
        with mirrored(running.settings):
            calls = list(player.play(path, host, int(port), lambda: running.wait_stored("recorder", "market")))
    different = [call for call in calls if not call.agrees]
    assert not different, "\n".join(map(str, different))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", player.files("ws"), ids=lambda path: path.stem)
def test_clients_are_told_from_kafka_what_was_recorded(
    path: Path,
    tmp_path: Path,
    auth_url: str,  # noqa: F811
    broker: Broker,
) -> None:
    ws = {**UNCACHED_WS, **KAFKA, "auth_url": auth_url, "sign_url": auth_url}
    settings = {"http": UNCACHED_HTTP, "ws": ws, "market": MARKET, "kafka": kafka(broker)}
    with exchange(tmp_path, listing=player.listing(path), **settings) as running:
        recording, binds = ws_player.load(path), (running.settings.http.bind, running.settings.ws.bind)
        with mirrored(running.settings):
            ws_player.Player(recording, *binds, lambda: running.wait_stored("recorder", "market")).play()


@pytest.mark.timeout(300)
def test_market_data_from_kafka_forgets_nothing_when_it_or_the_broker_is_killed(
    tmp_path: Path, mortal_broker: Broker
) -> None:
    draw, load = random.Random(7), Varied(seed=7)
    market = {**OFTEN_FLUSHED, **KAFKA}
    with exchange(tmp_path, supervisor=OFTEN, market=market, kafka=kafka(mortal_broker)) as running:
        with running.client() as client:
            load.fund(client, ASSETS)
        for victim in VICTIMS:
            with mirrored(running.settings), running.client() as client:
                if victim == "broker":
                    until_s = time.monotonic() + LOAD_S
                    load.run(client, partial(is_past, until_s))
                else:
                    load.run(client, Killer(pid_of(victim, running), LOAD_S + draw.random() / 2).is_done)
                if victim == "matcher":
                    load.lose()
                else:
                    load.settle(client)
                pid_of("matcher", running)
            if victim == "broker":  # what is written to it again begins with the first event
                mortal_broker.kill()
                mortal_broker.start()
        with mirrored(running.settings):
            assert check_market(running) > 100
            assert running.status()["market"]["restart_count"] == VICTIMS.count("market")
