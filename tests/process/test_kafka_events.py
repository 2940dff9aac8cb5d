"""market and ws with their events from Kafka: they answer and push what they do with those of the bus, whoever is
killed meanwhile.
"""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.golden import player, ws_player
from tests.process.broker import Broker
from tests.process.exchange import PATIENCE_S, POLL_S, Running, exchange, free_ports
from tests.process.test_golden_ws import MARKET, UNCACHED_HTTP, UNCACHED_WS, auth_url  # noqa: F401  # a fixture
from tests.process.test_kill import ASSETS, OFTEN, Killer
from tests.process.test_market import LOAD_S, OFTEN_FLUSHED, RATES, RECORDED, Varied, check_market, pid_of
from tests.process.test_market import MARKET as MARKET_NAME
from tests.process.test_ws_restart import check_kills
from tests.process.ws_client import Client, connected, gateway

KAFKA = {"events": "kafka"}
VICTIMS = ("market", "broker", "market", "matcher")
WS_VICTIMS = ("ws-0", "courier", "ws-0", "matcher", "ws-0")
USER, MAKER = 7, 8
TIMEOUT = 5


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
            with running.client() as client:
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
            if victim == "broker":  # it forgets all, and is sent only what comes: what it had must have been taken
                running.wait_stored("market")
                mortal_broker.kill()
                mortal_broker.start()
        assert check_market(running) > 100
        assert running.status()["market"]["restart_count"] == VICTIMS.count("market")


@pytest.mark.timeout(240)
def test_clients_are_told_each_event_from_kafka_once_whatever_is_killed(tmp_path: Path, broker: Broker) -> None:
    with gateway(tmp_path, supervisor=OFTEN, ws=KAFKA, kafka=kafka(broker)) as running:
        check_kills(running, WS_VICTIMS)


@pytest.mark.timeout(240)
def test_a_broker_that_is_away_at_the_start_holds_up_no_request_and_is_gone_on_with(
    tmp_path: Path, mortal_broker: Broker
) -> None:
    settings = {"ws": KAFKA, "market": {**OFTEN_FLUSHED, **KAFKA}, "kafka": kafka(mortal_broker)}
    mortal_broker.kill()
    with gateway(tmp_path, **settings) as running:
        trade(running, 1)
        with connected(running) as client:
            client.login(USER)
            assert client.call("server.ping") == "pong"
            assert client.call("order.query", MARKET_NAME, 0, 10)["records"] == []
            assert client.ask("order.subscribe", MARKET_NAME, {})["error"]["code"] == TIMEOUT
            mortal_broker.start()
            wait_for(running, lambda: client.ask("order.subscribe", MARKET_NAME, {"after": 0})["error"] is None)
            trade(running, 2)
            client.wait(lambda: len(client.of("order.update")) == 4)
        wait_for(running, lambda: len(asked(running, "market.deals", MARKET_NAME, 10, 0) or ()) == 2)
        assert running.alerts().count("events can't be read from Kafka") <= 2  # by each of the two, once


def five_ports() -> int:
    """The first of five free ports, one after the other."""
    while True:
        [first] = free_ports(1)
        with ExitStack() as probes, suppress(OSError, OverflowError):
            for port in range(first, first + 5):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@pytest.mark.timeout(240)
def test_another_host_runs_market_and_ws_from_kafka(tmp_path: Path, broker: Broker) -> None:
    """Two folders, two supervisors: what they share is Kafka and the ports of the bus."""
    [market_port] = free_ports(1)
    shared = {
        "bus": {"bind": f"tcp://127.0.0.1:{five_ports()}", "market": f"tcp://127.0.0.1:{market_port}"},
        "market": {**OFTEN_FLUSHED, **KAFKA},
        "kafka": kafka(broker),
    }
    here = {"run": ["matcher", "recorder", "history", "courier", "http"]}
    with (
        gateway(tmp_path / "near", supervisor=here, **shared) as near,
        gateway(tmp_path / "far", supervisor={"run": ["market", "ws"]}, ws=KAFKA, **shared) as far,
    ):
        assert [*far.status()] == ["market", "ws-0"]
        with connected(far) as client:
            client.login(USER)
            begin = client.call("order.subscribe", MARKET_NAME, {})["sequence"]
            client.call("deals.subscribe", MARKET_NAME)
            for count in range(1, 4):
                trade(near, count)
            client.wait(lambda: len(client.of("order.update")) == 6)
            client.wait(lambda: deal_ids(client) == {1, 2, 3})
            told = client.of("order.update")
        with connected(far) as client:  # and again, as one who was away
            client.login(USER)
            client.call("order.subscribe", MARKET_NAME, {"after": begin})
            assert client.of("order.update") == told
        wait_for(near, lambda: asked(near, "market.last", MARKET_NAME) == "10.00000000")
        killed = far.pid("market")
        os.kill(killed, signal.SIGKILL)
        trade(near, 4)
        wait_for(near, lambda: len(asked(near, "market.deals", MARKET_NAME, 10, 0) or ()) == 4)
        assert far.pid("market") != killed
        assert not [*far.settings.paths.events_dir.glob("*.events")]
        assert "Traceback" not in near.logs() + far.logs()


def deal_ids(client: Client) -> set[int]:
    """Of all deals that were told."""
    return {deal["id"] for _, deals in client.of("deals.update") for deal in deals}


def trade(running: Running, number: int) -> None:
    """A deal in which the user is first the maker: two events of his order."""
    for user, asset in ((USER, "USD"), (MAKER, "BTC")):
        running.call("balance.update", user, asset, "deposit", number, "1000", {})
    running.call("order.put_limit", USER, MARKET_NAME, 2, "1", "10", *RATES, "")
    running.call("order.put_limit", MAKER, MARKET_NAME, 1, "1", "10", *RATES, "")


def asked(running: Running, method: str, *params: object) -> Any:
    """The result; None when there is nobody to ask, which gets an empty body (CONTRACT 1.2)."""
    _, body = running.post(json.dumps({"id": 1, "method": method, "params": params}).encode())
    return json.loads(body)["result"] if body else None


def wait_for(running: Running, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, running.logs()
        time.sleep(POLL_S)
