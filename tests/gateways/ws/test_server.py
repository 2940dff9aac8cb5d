"""Accepting clients: who is counted by address and who is not, how many there may be, and how all are told to go."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from conf.settings import Ws
from gateways.ws.connection import Connection
from gateways.ws.frames import Message
from gateways.ws.metrics import Metrics
from gateways.ws.server import SWEEP_INTERVAL_S, Server, listen
from tests.gateways.ws.making import session, wait
from tests.gateways.ws.peer import Peer
from tests.gateways.ws.raw_client import BINARY, CLOSE, TEXT, closing, frame

SWITCHING = "HTTP/1.1 101 Switching Protocols"
TOO_MANY = "HTTP/1.1 429 Too Many Requests"
GOING_AWAY = 1001
MAX = 2


class Running:
    """A server that sends back what it is sent, and its clients."""

    def __init__(self, **settings: Any) -> None:
        self.ended: list[Connection] = []
        self.peers: list[Peer] = []
        self._listener = listen("127.0.0.1:0")
        self.address = self._listener.getsockname()
        self.metrics = Metrics()
        self.server = Server(
            Ws(**settings),
            self._listener,
            self.metrics,
            session=session,
            take=lambda connection, message: connection.push(Message(message.decode())),
            caught_up=lambda _: None,
            end=self.ended.append,
        )
        self.server.start()

    def connect(self) -> Peer:
        """A client that has said nothing yet."""
        peer = Peer(socket.create_connection(self.address))
        self.peers.append(peer)
        return peer

    def shaken(self, *headers: str) -> Peer:
        """One whose handshake is accepted."""
        peer = self.connect()
        assert peer.shake(*headers) == SWITCHING
        return peer

    def refused(self, *headers: str) -> None:
        """One whose handshake is not."""
        peer = self.connect()
        assert peer.shake(*headers) == TOO_MANY
        wait(lambda: (peer.read(), peer.is_over)[1])
        peer.close()

    def value(self, name: str, **labels: str) -> float | None:
        """Of the metrics."""
        return self.metrics._registry.get_sample_value(f"ws_{name}", labels)

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.server.stop(1.0)
        assert self.value("connections") == 0
        assert not self.server._counts


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with contextlib.closing(Running(**request.param)) as made:
        yield made


def having(**settings: Any) -> pytest.MarkDecorator:
    """The fixture with these settings."""
    return pytest.mark.parametrize("running", [settings], indirect=True)


def echo(peer: Peer) -> None:
    peer.send(frame(TEXT, b"x"))
    [found] = peer.wait_frames(1)
    assert found.payload == b"x"


@having(connection_per_address_max=MAX, proxies=())
def test_connections_of_an_address_are_limited_and_counted_down(running: Running) -> None:
    peers = [running.shaken() for _ in range(MAX)]
    running.refused()
    running.refused()
    assert running.value("refused_total", limit="connection_per_address_max") == 2
    peers[0].send(closing(1000))
    peers[0].wait_over()
    peers[0].close()
    wait(lambda: running.value("connections") == 1)
    peers[0] = running.shaken()
    running.refused()
    for peer in peers:
        peer.close()
    wait(lambda: running.value("connections") == 0)
    assert running.server._counts == {}
    for peer in [running.shaken() for _ in range(MAX)]:
        echo(peer)


@having(connection_per_address_max=MAX, proxies=())
def test_those_who_have_not_shaken_hands_are_limited_too_and_count_for_nobody_else(running: Running) -> None:
    silent = [running.connect() for _ in range(MAX)]
    wait(lambda: running.value("connections") == MAX)
    one_more = running.connect()
    wait(lambda: (one_more.read(), one_more.is_over)[1])
    assert running.value("refused_total", limit="connection_per_address_max") == 1
    silent[0].send(b"nonsense\r\n\r\n")
    wait(lambda: (silent[0].read(), silent[0].is_over)[1])
    silent[0].close()
    wait(lambda: running.value("connections") == MAX - 1)
    for _ in range(MAX):
        running.shaken()
    running.refused()


@having(connection_per_address_max=MAX, proxies=("127.0.0.1",))
def test_behind_a_proxy_the_clients_own_addresses_count(running: Running) -> None:
    for _ in range(MAX):
        running.shaken("X-Real-IP: 10.0.0.1")
        running.shaken("x-real-ip: 2001:db8::1")
    for address in ("10.0.0.1", "2001:db8::1"):
        running.refused(f"X-Real-IP: {address}")
    running.shaken("X-Real-IP: 10.0.0.2")


@having(connection_per_address_max=MAX, proxies=("127.0.0.1",))
def test_a_proxy_that_does_not_tell_is_not_counted(running: Running) -> None:
    for _ in range(2 * MAX):
        running.shaken()


@having(connection_per_address_max=MAX, proxies=("10.1.1.1",))
def test_nobody_else_can_say_which_address_counts(running: Running) -> None:
    for number in range(MAX):
        running.shaken(f"X-Real-IP: 10.0.0.{number}")
    running.refused("X-Real-IP: 10.0.0.99")


@having(connection_count_max=MAX)
def test_more_connections_than_there_may_be_wait(running: Running) -> None:
    first, *_ = [running.shaken() for _ in range(MAX)]
    waiting = running.connect()
    shaking = gevent.spawn(waiting.shake)
    wait(lambda: running.value("refused_total", limit="connection_count_max"))
    assert not shaking.dead
    first.close()
    assert shaking.get(timeout=10.0) == SWITCHING
    echo(waiting)


@having(origins=("https://trade.example.com",))
def test_a_strange_origin_is_refused_and_leaves_nothing(running: Running) -> None:
    peer = running.connect()
    assert peer.shake("Origin: https://evil.example.com").startswith("HTTP/1.1 403")
    assert running.value("refused_total", limit="origins") == 1
    peer.close()
    running.shaken("Origin: https://trade.example.com")
    running.shaken()


@having()
def test_a_server_that_stops_tells_everybody_and_waits_for_them(running: Running) -> None:
    polite, silent, unshaken = running.shaken(), running.shaken(), running.connect()
    wait(lambda: running.value("connections") == 3)
    stopping = gevent.spawn(running.server.stop, 0.5)
    for peer in (polite, silent):
        [last] = peer.wait_frames(1)
        assert (last.opcode, last.code) == (CLOSE, GOING_AWAY)
    assert unshaken.wait_over() == []
    polite.send(closing(GOING_AWAY))
    assert polite.wait_over() == []
    polite.close()
    wait(lambda: running.value("connections") == 1)
    assert not stopping.dead
    stopping.get(timeout=10.0)
    assert running.value("connections") == 0
    assert len(running.ended) == 3
    with pytest.raises(ConnectionError):
        running.connect()


@having(request_rate_max=1)
def test_each_connection_is_told_of_as_ended_once(running: Running) -> None:
    closing_one, vanishing, flooding, wrong = (running.shaken() for _ in range(4))
    closing_one.send(closing(1000))
    vanishing.close()
    flooding.send(frame(TEXT, b"x") * 100)
    wrong.send(b"\xff" * 10)
    wait(lambda: len(running.ended) == 4)
    for peer in (closing_one, flooding, wrong):
        peer.close()
    wait(lambda: running.value("connections") == 0)
    assert len(set(running.ended)) == len(running.ended) == 4


@having(connection_count_max=1)
def test_a_server_that_is_full_stops_in_good_order(running: Running) -> None:
    first, _ = running.shaken(), running.connect()
    wait(lambda: running.value("refused_total", limit="connection_count_max"))
    running.server.stop(2 * SWEEP_INTERVAL_S)
    [last] = first.wait_frames(1)
    assert (last.opcode, last.code) == (CLOSE, GOING_AWAY)


@having()
def test_a_mistake_of_ours_ends_the_connection_that_it_happened_in(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    unlucky, other = running.shaken(), running.shaken()
    unlucky.send(frame(BINARY, b"\xff"))  # which this server's `take` cannot decode
    unlucky.wait_over()
    echo(other)
    assert "UnicodeDecodeError" in capsys.readouterr().err
