"""Clients that go on from where they were: whatever is killed, each of their orders' events comes once, in order.

What is told is compared with the event log, over all connections of a client.
"""

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from bus.messages import EVENT, EventKind
from bus.orders import order_text
from tests.process.exchange import PATIENCE_S, Running, free_ports
from tests.process.test_kill import ASSETS, OFTEN, Killer
from tests.process.test_market import MARKET, RATES, Varied, events, pid_of
from tests.process.ws_client import CLOSE, Client, RawClient, connected, gateway, metrics, trading

USER = 7  # one of those who trade
ASSET_NAMES = ("USD", "BTC")
VICTIMS = ("ws-0", "ws-0", "matcher", "ws-0", "market", "ws-0", "matcher", "ws-0")
LOAD_S = 0.5
RETRY_S = 0.05
CONNECTION_COUNT = 60
GOING_AWAY = 1001
CUT_OFF = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage)
_ORDER_AT: int = EVENT.fields["order"][1]  # type: ignore[index]  # named: numpy's stub allows None


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with gateway(tmp_path, supervisor=OFTEN) as started:
        yield started


class Persistent(threading.Thread):
    """A client that connects again whenever it is cut off, and goes on after the last number it knows."""

    def __init__(self, running: Running, channel: str, names: tuple[str, ...]) -> None:
        super().__init__()
        self.params: list[list[Any]] = []  # of all notifications over all connections
        self.connection_count = 0
        self.number: int | None = None  # up to which everything was told
        self.trouble: list[BaseException] = []
        self._running, self._channel, self._names = running, channel, names
        self._is_over = threading.Event()

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        assert not self.trouble, self.trouble

    def run(self) -> None:
        try:
            while not self._is_over.is_set():
                with suppress(*CUT_OFF), connected(self._running) as client:
                    self._follow(client)
                time.sleep(RETRY_S)
        except BaseException as error:
            self.trouble.append(error)

    def _follow(self, client: Client) -> None:
        client.login(USER)
        options = {} if self.number is None else {"after": self.number}
        try:
            reply = client.ask(f"{self._channel}.subscribe", *self._names, options)
            self._take(client)
            assert reply["error"] is None or reply["error"]["code"] in (2, 5), reply
            if reply["error"] is not None:
                return
            self.number = max(self.number or 0, reply["result"]["sequence"])
            self.connection_count += 1
            while not self._is_over.is_set():
                client.look(RETRY_S)
                self._take(client)
        finally:
            self._take(client)  # what came before it was cut off

    def _take(self, client: Client) -> None:
        for told in client.told:
            assert told.method == f"{self._channel}.update"
            self.params.append(told.params)
            self.number = max(self.number or 0, told.params[-1])
        client.told.clear()


def wanted_orders(running: Running, after_number: int) -> list[list[Any]]:
    """What order.update should have told of the user's orders after an event."""
    frames, listed = events(running)
    found = []
    for frame in frames:
        is_own = (frame.records["kind"] <= EventKind.ORDER_FINISH) & (frame.records["order"]["user_id"] == USER)
        for place in np.flatnonzero(is_own & (frame.records["number"] > after_number)).tolist():
            event = frame.records[place : place + 1]
            order = json.loads(order_text(event.tobytes(), _ORDER_AT, listed.market_by_index))
            found.append([int(event["kind"][0]), order, int(event["number"][0])])
    return found


@pytest.mark.timeout(240)
def test_whatever_is_killed_each_event_of_an_order_is_told_once(running: Running) -> None:
    check_kills(running, VICTIMS)


def check_kills(running: Running, victims: tuple[str, ...]) -> None:
    """Kill processes while somebody trades; each event of an order is told once, and the newest balances are."""
    load, draw = Varied(seed=21), random.Random(21)
    with running.client() as bus:
        load.fund(bus, ASSETS)
    orders, assets = Persistent(running, "order", (MARKET,)), Persistent(running, "asset", ASSET_NAMES)
    for follower in (orders, assets):
        follower.start()
    deadline = time.monotonic() + PATIENCE_S
    while orders.number is None or assets.number is None:
        assert time.monotonic() < deadline, running.logs()
        time.sleep(RETRY_S)
    begin_number = orders.number
    try:
        for victim in victims:
            with running.client() as bus:
                load.run(bus, Killer(pid_of(victim, running), LOAD_S + draw.random() / 5).is_done)
                if victim == "matcher":
                    load.lose()
                else:
                    load.settle(bus)
        pid_of("matcher", running)
        pid_of("ws-0", running)
        wanted = wanted_orders(running, begin_number)
        balances = running.call("balance.query", USER, *ASSET_NAMES)
        deadline = time.monotonic() + PATIENCE_S
        while (len(orders.params) < len(wanted) or newest(assets) != balances) and time.monotonic() < deadline:
            time.sleep(RETRY_S)
    finally:
        for follower in (orders, assets):
            follower.stop()
    numbers = [params[-1] for params in orders.params]
    assert numbers == [params[-1] for params in wanted]
    assert orders.params == wanted
    assert newest(assets) == balances
    assert orders.connection_count > victims.count("ws-0")
    assert running.status()["ws-0"]["restart_count"] == victims.count("ws-0")
    assert "Traceback" not in running.logs()


def newest(follower: Persistent) -> dict[str, Any]:
    """The last balance of each asset that was told."""
    found: dict[str, Any] = {}
    for balances, _ in follower.params:
        found |= balances
    return found


def trade_once(running: Running, business_id: int) -> None:
    """A deal in which the user buys: his USD and his BTC change."""
    for user, asset in ((USER, "USD"), (USER + 1, "BTC")):
        running.call("balance.update", user, asset, "deposit", business_id, "1000", {})
    running.call("order.put_limit", USER + 1, MARKET, 1, "1", "10", *RATES, "")
    running.call("order.put_limit", USER, MARKET, 2, "1", "10", *RATES, "")


def test_a_client_that_is_cut_off_between_two_balances_is_told_the_second_one_when_it_is_back(
    running: Running,
) -> None:
    """Both follow from one event. Whoever has seen the first only and names its number has to get the second."""
    with connected(running) as client:
        client.login(USER)
        sequence = client.call("asset.subscribe", *ASSET_NAMES, {})["sequence"]
        trade_once(running, 1)
        client.wait(lambda: {name for balances, _ in client.of("asset.update") for name in balances} == {"USD", "BTC"})
        client.look(0.5)
        told = client.of("asset.update")
    with connected(running) as client:  # and likewise when they come from the log
        client.login(USER)
        client.call("asset.subscribe", *ASSET_NAMES, {"after": sequence})
        missed = client.of("asset.update")
    last = {name: balance for balances, _ in told for name, balance in balances.items()}
    for all_told in (told, missed):
        for seen_count in range(len(all_told)):
            known = {name: balance for balances, _ in all_told[:seen_count] for name, balance in balances.items()}
            after = max([sequence, *(number for _, number in all_told[:seen_count])])
            with connected(running) as client:
                client.login(USER)
                client.call("asset.subscribe", *ASSET_NAMES, {"after": after})
                for balances, _ in client.of("asset.update"):
                    known |= balances
            assert known == last, f"of {all_told} the first {seen_count} were seen"


def test_clients_are_told_that_the_server_goes_when_it_is_restarted(running: Running) -> None:
    with connected(running) as one, connected(running) as other:
        one.call("deals.subscribe", MARKET)
        before = running.pid("ws-0")
        running.pit("restart", "ws-0")
        for client in (one, other):
            with pytest.raises(ConnectionClosed) as closed:
                client.look(PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == GOING_AWAY
            assert closed.value.rcvd.reason
    assert pid_of("ws-0", running) != before
    with connected(running) as client:
        assert client.call("server.ping") == "pong"


def test_nothing_comes_after_the_close_frame(running: Running) -> None:
    """RFC 6455, 5.5.1; here when the server goes in the middle of trade."""
    with trading(running, seed=22):
        client = RawClient(running.settings.ws.bind)
        client.send("deals.subscribe", MARKET)
        client.wait_frames(lambda _, payload: b"deals.update" in payload)
        stopping = threading.Thread(target=running.pit, args=("restart", "ws-0"))
        stopping.start()
        frames = client.wait_frames(lambda opcode, _: False)
        stopping.join()
    client.close()
    opcodes = [opcode for opcode, _ in frames]
    assert opcodes.index(CLOSE) == len(opcodes) - 1, opcodes[opcodes.index(CLOSE) :]


def test_two_processes_share_the_port_and_both_push(tmp_path: Path) -> None:
    with gateway(tmp_path, supervisor=OFTEN, ws={"workers": 2, "metrics_bind": free_pair()}) as running:
        clients = [RawClient(running.settings.ws.bind) for _ in range(CONNECTION_COUNT)]
        counts = [metrics(running, index)["ws_connections"] for index in range(2)]
        assert sum(counts) == CONNECTION_COUNT
        assert min(counts) > CONNECTION_COUNT / 10
        for client in clients:
            client.send("deals.subscribe", MARKET)
            client.wait_frames(lambda _, payload: b"success" in payload)
        trade_once(running, 1)
        for client in clients:
            found = client.wait_frames(lambda _, payload: b"deals.update" in payload)
            assert json.loads(found[-1][1])["params"][1][0]["id"] == 1
        for index in range(2):
            assert metrics(running, index)["ws_topics"] == 1
        os.kill(running.pid("ws-1"), signal.SIGKILL)
        left = [client for client in clients if not ended(client)]
        assert len(left) == counts[0]
        trade_once(running, 2)
        for client in left:
            client.wait_frames(lambda _, payload: b"deals.update" in payload)
        for client in clients:
            client.close()
        pid_of("ws-1", running)


def ended(client: RawClient) -> bool:
    """Whether the server has gone; one that is there answers."""
    with suppress(OSError):
        client.send("server.ping", request_id=99)
        found = client.wait_frames(lambda _, payload: b"pong" in payload)
        return client.is_closed or not found
    return True


def free_pair() -> str:
    """An address whose port and the next one nobody listens on."""
    while True:
        (port,) = free_ports(1)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 1))
            return f"127.0.0.1:{port}"
