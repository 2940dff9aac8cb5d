"""Every limit of [ws], exceeded by a real client over real sockets, and its counter on the Prometheus page; what is
agreed to in the handshake; and whoever says who a client is, when he refuses, hangs or does not run.

Two exchanges serve nearly all tests: one with low limits, one that has time and compresses.
"""

import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from tests.process.exchange import PATIENCE_S, REPLY_TIMEOUT_S, Running, free_ports
from tests.process.test_market import MARKET, RATES
from tests.process.ws_client import (
    CLOSE,
    FIN,
    LOOK_S,
    PING,
    TEXT,
    Client,
    RawClient,
    connected,
    first_frame,
    frame,
    gateway,
    handshake,
    metrics,
    raw_socket,
    trading,
)

SIZE_MAX = 1024  # the least setting
RATE = 10
BURST_COUNT = 10 * RATE
TOPIC_COUNT = 5
ADDRESS_COUNT = 3
CONNECTION_COUNT = 30
HANDSHAKE_S = 2.0
IDLE_S = 4.0
PING_S = 1.0
REPLAY_COUNT = 5
AUTH_S = 2.0
QUIET_S = 1.2  # for what should not come; two sweeps of deadlines are in it
ORIGINS = ["https://trade.example.com", "*.example.org"]
GOING_AWAY, POLICY, TOO_BIG = 1001, 1008, 1009
SWITCHING, BAD_REQUEST, FORBIDDEN, TOO_MANY = 101, 400, 403, 429
OK, INTERNAL, TIMEOUT, REFUSED, GONE, FULL, HASTY = 0, 2, 5, 11, 20, 21, 22  # codes of replies
USER = 7  # one of those who trade
REPLAYED = "ETHUSD"


class Service(ThreadingHTTPServer):
    """Who says who a client is: by token what is answered, and what he has been asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Question)
        self.asked: list[tuple[str, dict[str, str]]] = []  # path and headers
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Question(BaseHTTPRequestHandler):
    """`user-N` is user N; the other tokens are in ANSWERS, and `slow`."""

    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        token = self.headers["Authorization"]
        if token == "slow":
            self.server.is_over.wait(PATIENCE_S)
            return
        status, body = ANSWERS.get(token) or (200, user(int(token.removeprefix("user-"))))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def user(user_id: int) -> bytes:
    """The answer that somebody is a user."""
    return json.dumps({"code": 0, "message": None, "data": {"user_id": user_id}}).encode()


ANSWERS = {
    "old": (403, b'{"code": 7, "message": "\\"too\\" old \\u2603"}'),
    "no JSON": (200, b"<html>"),
    "an array": (200, b"[]"),
    "nobody": (200, user(0)),
    "without data": (200, b'{"code": 0, "message": null, "data": null}'),
    "without text": (200, b'{"code": 7, "message": null}'),
    "endless": (200, b" " * 1_000_000),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.is_over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An exchange with low limits; who says who a client is does not run."""
    (port,) = free_ports(1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        ws = {
            "auth_url": f"http://127.0.0.1:{nobody.getsockname()[1]}/auth",
            "metrics_bind": f"127.0.0.1:{port}",
            "message_max_size": SIZE_MAX,
            "request_rate_max": RATE,
            "subscription_count_max": TOPIC_COUNT,
            "connection_per_address_max": ADDRESS_COUNT,
            "connection_count_max": CONNECTION_COUNT,
            "handshake_timeout_s": HANDSHAKE_S,
            "origins": ORIGINS,
        }
        with gateway(tmp_path_factory.mktemp("strict"), ws=ws) as running:
            yield running


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Running]:
    """An exchange that pings, compresses and looks back a little."""
    (port,) = free_ports(1)
    ws = {
        "auth_url": f"{service.url}/auth",
        "sign_url": f"{service.url}/sign?by=test",
        "auth_timeout_s": AUTH_S,
        "metrics_bind": f"127.0.0.1:{port}",
        "idle_timeout_s": IDLE_S,
        "ping_interval_s": PING_S,
        "replay_event_max": REPLAY_COUNT,
        "compression": True,
    }
    with gateway(tmp_path_factory.mktemp("patient"), ws=ws) as running:
        yield running


def refused(limit: str) -> str:
    return f'ws_refused_total{{limit="{limit}"}}'


def closed(limit: str) -> str:
    return f'ws_closed_total{{limit="{limit}"}}'


@contextmanager
def counted(running: Running, name: str, count: int = 1) -> Iterator[None]:
    """What the block does counts so much, neither less nor more."""
    before = metrics(running)[name]
    yield
    wait_metric(running, name, before + count)
    assert metrics(running)[name] == before + count


def wait_metric(running: Running, name: str, value: float) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while metrics(running)[name] < value:
        assert time.monotonic() < deadline, metrics(running)
        time.sleep(LOOK_S)


def wait_connections(running: Running, count: int = 0, topic_count: int = 0) -> None:
    """Wait until there are so many and no more, and nothing is followed for those that have gone."""
    deadline = time.monotonic() + PATIENCE_S
    while ((found := metrics(running))["ws_connections"], found["ws_topics"]) != (count, topic_count):
        assert time.monotonic() < deadline, (found["ws_connections"], found["ws_topics"])
        time.sleep(LOOK_S)


@contextmanager
def raw(running: Running, *headers: str, source: str = "127.0.0.1", bind: str = "") -> Iterator[RawClient]:
    client = RawClient(bind or running.settings.ws.bind, *headers, source=source)
    try:
        yield client
    finally:
        client.close()


def status(client: RawClient) -> int:
    """Of the answer to its handshake."""
    return int(client.response.split(b" ", 2)[1])


def shaken(running: Running, *headers: str, source: str = "127.0.0.1", bind: str = "") -> int:
    """The answer to a handshake whose connection is closed at once."""
    with raw(running, *headers, source=source, bind=bind) as client:
        return status(client)


def ending(client: RawClient) -> tuple[int, list[Any]]:
    """The code with which the server closes, 0 without a close frame, and the messages before."""
    *before, last = client.wait_frames(lambda opcode, _: opcode == CLOSE)
    code = struct.unpack("!H", last[1][:2])[0] if last[0] == CLOSE else 0
    return code, [json.loads(payload) for opcode, payload in before if opcode == TEXT]


def ping(request_id: int, size: int = 0) -> bytes:
    """A request, with spaces up to a size."""
    return json.dumps({"id": request_id, "method": "server.ping", "params": []}).encode().ljust(size)


def code_of(reply: dict[str, Any]) -> int:
    return 0 if reply["error"] is None else int(reply["error"]["code"])


# Sizes, numbers of topics and requests ------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(ping(2, SIZE_MAX + 1)), id="whole"),
        pytest.param(frame(ping(2, 600), TEXT) + frame(b" " * 425, FIN), id="in two parts"),
        pytest.param(b"\x81\xfe" + struct.pack("!H", SIZE_MAX + 1) + bytes(4), id="its head alone"),
    ],
)
def test_a_message_may_be_so_long_and_no_longer(strict: Running, data: bytes) -> None:
    with counted(strict, closed("message_max_size")), raw(strict) as client:
        client.socket.sendall(frame(ping(1, SIZE_MAX)) + frame(ping(1, 600), TEXT) + frame(b" " * 424, FIN) + data)
        code, replies = ending(client)
    assert [reply["result"] for reply in replies] == ["pong", "pong"]
    assert code == TOO_BIG


def test_a_client_that_finds_our_messages_too_long_has_exceeded_no_limit(strict: Running) -> None:
    with counted(strict, closed("message_max_size"), 0), raw(strict) as client:
        client.socket.sendall(frame(struct.pack("!H", TOO_BIG), FIN | CLOSE))
        assert ending(client)[0] == TOO_BIG
        time.sleep(LOOK_S)


def test_a_connection_may_follow_so_many_topics(strict: Running) -> None:
    markets = [f"M{number}" for number in range(TOPIC_COUNT)]
    with connected(strict) as client, counted(strict, refused("subscription_count_max"), 4):
        client.call("price.subscribe", *markets)
        assert code_of(client.ask("deals.subscribe", MARKET)) == FULL
        assert code_of(client.ask("price.subscribe", *markets, MARKET)) == FULL
        assert metrics(strict)["ws_topics"] == TOPIC_COUNT, "what was followed before still is"
        client.call("price.subscribe", *markets[:3], *markets[:2])
        client.call("kline.subscribe", MARKET, 60)
        client.call("book.subscribe", MARKET, 5)
        client.call("book.subscribe", MARKET, 6)  # in place of the one before
        assert code_of(client.ask("book.subscribe", "ETHUSD", 5)) == FULL
        assert code_of(client.ask("depth.subscribe", MARKET, 5, "0")) == FULL
        client.call("kline.unsubscribe")
        client.call("depth.subscribe", MARKET, 5, "0")
    wait_connections(strict)


def test_who_asks_too_much_at_once_is_answered_as_much_as_is_allowed_and_goes_on(strict: Running) -> None:
    with raw(strict) as client, counted(strict, closed("request_rate_max"), 0):
        before = metrics(strict)[refused("request_rate_max")]
        count = BURST_COUNT + 5
        client.socket.sendall(b"".join(frame(ping(number)) for number in range(count)))
        replies = wait_replies(client, count - 1)
        assert [reply["id"] for reply in replies] == list(range(count))
        assert [code_of(reply) for reply in replies[:BURST_COUNT]] == [OK] * BURST_COUNT
        codes = [code_of(reply) for reply in replies]
        assert set(codes) <= {OK, HASTY}
        assert metrics(strict)[refused("request_rate_max")] == before + codes.count(HASTY)
        time.sleep(QUIET_S)  # much more is allowed by now
        client.socket.sendall(frame(ping(count)))
        (reply,) = wait_replies(client, count)
        assert code_of(reply) == OK


def wait_replies(client: RawClient, last_id: int) -> list[dict[str, Any]]:
    """The next messages, up to the reply to a request."""
    frames = client.wait_frames(lambda opcode, payload: opcode == CLOSE or json.loads(payload)["id"] == last_id)
    assert frames[-1][0] == TEXT, frames[-1]
    return [json.loads(payload) for _, payload in frames]


def test_pings_are_limited_too(strict: Running) -> None:
    with counted(strict, closed("request_rate_max")), raw(strict) as client:
        client.socket.sendall(frame(b"", FIN | PING) * (3 * BURST_COUNT))
        assert ending(client) == (POLICY, [])


def test_who_goes_on_asking_is_refused_and_then_disconnected(strict: Running) -> None:
    with counted(strict, closed("request_rate_max")), raw(strict) as client:
        before = metrics(strict)[refused("request_rate_max")]
        client.socket.sendall(b"".join(frame(ping(number)) for number in range(3 * BURST_COUNT)))
        code, replies = ending(client)
        for number in range(3):
            client.socket.sendall(frame(ping(number)) * 50)  # it does not even stop then
            time.sleep(LOOK_S)
        client.socket.sendall(frame(struct.pack("!H", POLICY), FIN | CLOSE))
    codes = [code_of(reply) for reply in replies]
    assert code == POLICY
    assert [reply["id"] for reply in replies] == list(range(len(replies)))
    assert codes[:BURST_COUNT] == [OK] * BURST_COUNT
    assert codes.count(HASTY) >= BURST_COUNT / 2
    assert metrics(strict)[refused("request_rate_max")] >= before + codes.count(HASTY)


# Connections --------------------------------------------------------------------


def test_an_address_may_have_so_many_connections_the_proxy_says_whose_they_are(strict: Running) -> None:
    with ExitStack() as stack, counted(strict, refused("connection_per_address_max"), 3):

        def connect(address: str) -> RawClient:
            return stack.enter_context(raw(strict, f"X-Real-IP: {address}"))

        clients = [connect("192.0.2.1") for _ in range(ADDRESS_COUNT)]
        clients += [connect(f"2001:db8::{number}") for number in range(ADDRESS_COUNT)]
        assert [*map(status, clients)] == [SWITCHING] * 2 * ADDRESS_COUNT
        assert shaken(strict, "X-Real-IP: 192.0.2.1") == TOO_MANY
        assert shaken(strict, "X-Real-IP: 2001:db8:0:0:ffff::9") == TOO_MANY, "a household has the network"
        assert shaken(strict, "X-Real-IP: 192.0.2.2") == SWITCHING
        assert shaken(strict, "X-Real-IP: 2001:db8:0:1::1") == SWITCHING
        assert status(connect("")) == status(connect("192.0.2.9")) == SWITCHING
        assert shaken(strict) == SWITCHING, "where it comes from is not known, so it is not counted"
        wait_connections(strict, len(clients) + 2)
        clients[0].close()
        wait_connections(strict, len(clients) + 1)
        assert status(connect("192.0.2.1")) == SWITCHING
        assert shaken(strict, "X-Real-IP: 192.0.2.1") == TOO_MANY
    wait_connections(strict)


def test_ipv4_addresses_written_as_ipv6_are_counted_each_for_itself(strict: Running) -> None:
    """So nginx writes them when it listens on both with one socket."""
    with ExitStack() as stack:
        for number in range(ADDRESS_COUNT + 1):
            client = stack.enter_context(raw(strict, f"X-Real-IP: ::ffff:192.0.2.{number}"))
            assert status(client) == SWITCHING
    wait_connections(strict)


def test_a_listener_for_both_families_knows_its_proxies_and_counts_ipv4_addresses(tmp_path: Path) -> None:
    """There a client of IPv4 comes from ::ffff:127.0.0.1."""
    port, metrics_port = free_ports(2)
    ws = {"bind": f"[::]:{port}", "connection_per_address_max": 1, "metrics_bind": f"127.0.0.1:{metrics_port}"}
    with gateway(tmp_path, ws=ws) as running, ExitStack() as stack:
        bind = f"127.0.0.1:{port}"
        for source in ("127.0.0.2", "127.0.0.3"):
            assert status(stack.enter_context(raw(running, source=source, bind=bind))) == SWITCHING
            assert shaken(running, source=source, bind=bind) == TOO_MANY
        for address in ("X-Real-IP: 192.0.2.1", "X-Real-IP: 192.0.2.2"):
            assert status(stack.enter_context(raw(running, address, bind=bind))) == SWITCHING
            assert shaken(running, address, bind=bind) == TOO_MANY


def test_nobody_but_a_proxy_is_believed_where_he_comes_from(strict: Running) -> None:
    with ExitStack() as stack, counted(strict, refused("connection_per_address_max"), 2):
        for number in range(ADDRESS_COUNT):
            client = stack.enter_context(raw(strict, f"X-Real-IP: 192.0.2.{number}", source="127.0.0.2"))
            assert status(client) == SWITCHING
        assert shaken(strict, "X-Real-IP: 192.0.2.99", source="127.0.0.2") == TOO_MANY
        assert shaken(strict, source="127.0.0.2") == TOO_MANY
        assert shaken(strict, "X-Real-IP: 127.0.0.2", source="127.0.0.3") == SWITCHING
    wait_connections(strict)


def test_when_all_places_are_taken_others_wait_until_one_is_free(strict: Running) -> None:
    wait_connections(strict)
    name = refused("connection_count_max")
    before = metrics(strict)[name]
    with ExitStack() as stack:
        clients = [stack.enter_context(raw(strict)) for _ in range(CONNECTION_COUNT)]
        assert [*map(status, clients)] == [SWITCHING] * CONNECTION_COUNT
        waiting = [stack.enter_context(raw_socket(strict.settings.ws.bind)) for _ in range(2)]
        for sock in waiting:
            sock.sendall(handshake())
            sock.settimeout(QUIET_S)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(REPLY_TIMEOUT_S)
        assert metrics(strict)["ws_connections"] == CONNECTION_COUNT
        for client in clients[:2]:
            client.send("server.ping")  # who is there is served all the time
            assert wait_replies(client, 1)[0]["result"] == "pong"
        for client, sock in zip(clients, waiting, strict=False):
            client.close()
            assert sock.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
    wait_metric(strict, name, before + 1)
    wait_connections(strict)


def test_a_handshake_must_come_in_time(strict: Running) -> None:
    parts = (b"", b"G", handshake()[:-2])
    with ExitStack() as stack, counted(strict, closed("handshake_timeout_s"), len(parts)):
        begin = time.monotonic()
        sockets = [stack.enter_context(raw_socket(strict.settings.ws.bind)) for _ in parts]
        for sock, data in zip(sockets, parts, strict=True):
            sock.sendall(data)
        for sock in sockets:
            assert sock.recv(1) == b""
        assert time.monotonic() - begin > HANDSHAKE_S / 2


def test_who_says_nothing_is_sent_pings_and_then_disconnected_but_not_who_answers_them(patient: Running) -> None:
    with connected(patient) as answering, raw(patient) as silent:
        with counted(patient, closed("idle_timeout_s")):
            frames = silent.wait_frames(lambda opcode, _: opcode == CLOSE)
            time.sleep(QUIET_S)  # it does not take part in closing, and is counted once all the same
        assert [opcode for opcode, _ in frames[:-1]] == [PING] * (len(frames) - 1)
        assert len(frames) > 1
        assert struct.unpack("!H", frames[-1][1][:2])[0] == GOING_AWAY
        assert answering.call("server.ping") == "pong"


def test_nothing_is_followed_for_who_subscribes_after_the_close_frame(patient: Running) -> None:
    """It would be followed for ever, and what it is told be kept for ever."""
    with raw(patient) as client:
        assert ending(client)[0] == GOING_AWAY
        client.send("deals.subscribe", MARKET)
        client.send("depth.subscribe", MARKET, 5, "0")
        client.send("server.auth", f"user-{USER}", "web")
        client.send("order.subscribe", MARKET)
        time.sleep(LOOK_S)
    wait_connections(patient)


# The handshake ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        pytest.param([], SWITCHING, id="a program"),
        pytest.param(["Origin: https://trade.example.com"], SWITCHING, id="listed"),
        pytest.param(["Origin: HTTPS://Trade.Example.Com"], SWITCHING, id="in other letters"),
        pytest.param(["Origin: https://a.b.example.org"], SWITCHING, id="a subdomain"),
        pytest.param(["Origin: http://a.example.org"], SWITCHING, id="a subdomain without TLS"),
        pytest.param(["Origin: https://example.org"], FORBIDDEN, id="the domain itself"),
        pytest.param(["Origin: https://badexample.org"], FORBIDDEN, id="another domain that ends so"),
        pytest.param(["Origin: https://a.example.org.evil.net"], FORBIDDEN, id="one that begins so"),
        pytest.param(["Origin: https://evil.net/.example.org"], FORBIDDEN, id="a path"),
        pytest.param(["Origin: http://trade.example.com"], FORBIDDEN, id="listed with TLS only"),
        pytest.param(["Origin: https://trade.example.com:444"], FORBIDDEN, id="another port"),
        pytest.param(["Origin: https://tradeXexample.com"], FORBIDDEN, id="a point is a point"),
        pytest.param(["Origin: null"], FORBIDDEN, id="null"),
        pytest.param(["Origin: "], FORBIDDEN, id="nothing"),
        pytest.param(["Origin: https://evil.net", f"Origin: {ORIGINS[0]}"], BAD_REQUEST, id="two"),
    ],
)
def test_pages_of_other_origins_are_refused(strict: Running, headers: list[str], wanted: int) -> None:
    with counted(strict, refused("origins"), int(wanted == FORBIDDEN)):
        assert shaken(strict, *headers) == wanted


@pytest.mark.parametrize(
    ("headers", "wanted", "agreed"),
    [
        pytest.param([], SWITCHING, b"", id="none"),
        pytest.param(["chat"], SWITCHING, b"chat", id="ours"),
        pytest.param(["other, chat"], SWITCHING, b"chat", id="among others"),
        pytest.param(["other", "chat"], SWITCHING, b"chat", id="in two headers"),
        pytest.param(["other"], BAD_REQUEST, b"", id="another"),
        pytest.param(["chats, xchat"], BAD_REQUEST, b"", id="similar ones"),
    ],
)
def test_who_offers_subprotocols_must_offer_ours(
    strict: Running, headers: list[str], wanted: int, agreed: bytes
) -> None:
    with raw(strict, *(f"Sec-WebSocket-Protocol: {each}" for each in headers)) as client:
        assert status(client) == wanted
        lines = client.response.split(b"\r\n")
    found = [line for line in lines if line.lower().startswith(b"sec-websocket-protocol:")]
    assert found == [b"Sec-WebSocket-Protocol: " + agreed] * bool(agreed)


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.mark.parametrize(
    ("offer", "is_agreed"),
    [
        pytest.param(DEFLATE, True, id="plain"),
        pytest.param(f"{DEFLATE}; client_max_window_bits", True, id="a browser's"),
        pytest.param(f"{DEFLATE}; server_max_window_bits=9; client_max_window_bits=8", True, id="small windows"),
        pytest.param(
            f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover", True, id="what is done anyway"
        ),
        pytest.param(f"{DEFLATE}; server_max_window_bits=8", False, id="a window that zlib has not"),
        pytest.param(f"{DEFLATE}; server_max_window_bits=16", False, id="a window that is none"),
        pytest.param(f"{DEFLATE}; level=9", False, id="an unknown parameter"),
        pytest.param(f"{DEFLATE}; server_max_window_bits=8, permessage-deflate", True, id="the second offer"),
        pytest.param("Sec-WebSocket-Extensions: x-webkit-deflate-frame", False, id="another extension"),
    ],
)
def test_compression_is_agreed_to_when_it_is_set(
    strict: Running, patient: Running, offer: str, is_agreed: bool
) -> None:
    with raw(patient, offer) as client, raw(strict, offer) as other:
        assert (b"permessage-deflate" in client.response) == is_agreed
        assert b"permessage-deflate" not in other.response
        data, is_compressed = pong(client)
        plain, is_plain_compressed = pong(other)
    assert (is_compressed, is_plain_compressed) == (is_agreed, False)
    if is_agreed:
        bits = 9 if "server_max_window_bits=9" in offer else 12
        data = zlib.decompressobj(-bits).decompress(data + b"\x00\x00\xff\xff")
    assert data == plain == b'{"error": null, "result": "pong", "id": 1}'


def pong(client: RawClient) -> tuple[bytes, bool]:
    """The payload of the reply to a request, and whether it is compressed."""
    client.send("server.ping")
    while (found := first_frame(client.received)) is None:
        client.received += client.socket.recv(1 << 16)
    return found[1], bool(client.received[0] & 0x40)


def test_whoever_compresses_is_told_the_same(patient: Running) -> None:
    with connected(patient) as plain, connected(patient, compression="deflate") as small:
        clients = (plain, small)
        assert [len(client.socket.protocol.extensions) for client in clients] == [0, 1]
        for client in clients:
            client.login(USER)
            for channel in ("deals", "price", "state", "order"):
                client.call(f"{channel}.subscribe", MARKET)
            client.call("asset.subscribe", "USD", "BTC")
            client.call("depth.subscribe", MARKET, 100, "0")
            client.call("book.subscribe", MARKET, 100)
        with trading(patient, seed=51):
            plain.wait(lambda: len(plain.of("order.update")) > 300 and len(plain.of("book.update")) > 10)
        deadline = time.monotonic() + PATIENCE_S
        while not is_same(patient, *clients) and time.monotonic() < deadline:
            for client in clients:
                client.look(QUIET_S)
        assert is_same(patient, *clients)
        assert len({told.method for told in plain.told}) == 7
    log = (patient.settings.paths.logs_dir / "ws-0.log").read_text()
    assert "Traceback" not in log, log[-3000:]


def is_same(running: Running, plain: Client, small: Client) -> bool:
    """Whether both have been told the same of each kind; states may be left out for who does not read for a moment."""
    whole = ["deals.update", "order.update", "asset.update"]
    conflated = ["price.update", "state.update", "depth.update", "book.update"]
    if not metrics(running)["ws_conflated_total"]:
        whole += conflated
    return all(plain.of(method) == small.of(method) for method in whole)


def test_a_message_is_measured_as_it_is_when_it_is_not_compressed(patient: Running) -> None:
    with connected(patient, compression="deflate") as client, counted(patient, closed("message_max_size")):
        size_max = patient.settings.ws.message_max_size
        client.socket.send(ping(1, size_max).decode())
        assert json.loads(client.socket.recv(REPLY_TIMEOUT_S))["result"] == "pong"
        client.socket.send(ping(2, 1000 * size_max).decode())
        with pytest.raises(ConnectionClosed) as raised:
            client.socket.recv(REPLY_TIMEOUT_S)
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == TOO_BIG


# Who somebody is, and what he has missed ----------------------------------------


def test_how_far_back_a_client_may_go_on_from(patient: Running) -> None:
    patient.call("balance.update", USER, "USD", "deposit", 1, "1000", {})
    with connected(patient) as client, counted(patient, refused("replay_event_max"), 2):
        client.login(USER)
        sequence = client.call("order.subscribe", REPLAYED, {})["sequence"]
        for _ in range(REPLAY_COUNT + 3):
            patient.call("order.put_limit", USER, REPLAYED, 2, "0.01", "1", *RATES, "")
        client.wait(lambda: len(client.of("order.update")) == REPLAY_COUNT + 3)
        told = client.of("order.update")
        for channel, name in (("order", REPLAYED), ("asset", "USD")):
            reply = client.ask(f"{channel}.subscribe", name, {"after": sequence})
            assert reply["error"] == {"code": GONE, "message": "events are gone"}
        newest = told[-1][-1]
        client.told.clear()
        reply = client.call("order.subscribe", REPLAYED, {"after": newest - REPLAY_COUNT})
        assert reply == {"status": "success", "sequence": newest}
        assert client.of("order.update") == [each for each in told if each[-1] > newest - REPLAY_COUNT]


def test_without_somebody_who_knows_a_client_stays_nobody(strict: Running) -> None:
    with connected(strict) as client:
        reply = client.ask("server.auth", f"user-{USER}", "web")
        assert reply["error"] == {"code": INTERNAL, "message": "internal error"}
        assert code_of(client.ask("order.subscribe", MARKET)) == 6
    assert "does not answer" in strict.alerts()


def test_who_does_not_answer_in_time_is_not_waited_for_however_many_ask(patient: Running) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(patient)) for _ in range(12)]
        for client in clients:
            client.socket.send(json.dumps({"id": 1, "method": "server.auth", "params": ["slow", "web"]}))
            client.socket.send(ping(2).decode())
        for client in clients:
            replies = [json.loads(client.socket.recv(REPLY_TIMEOUT_S)) for _ in range(2)]
            assert [(reply["id"], code_of(reply)) for reply in replies] == [(1, TIMEOUT), (2, OK)]
        for client in clients:
            client.login(USER)


@pytest.mark.parametrize("method", ["server.auth", "server.sign"])
def test_a_refusal_comes_with_its_text_and_changes_nothing(patient: Running, method: str) -> None:
    def ask(client: Client, proof: str) -> dict[str, Any]:
        return client.ask(method, *((proof, "web") if method == "server.auth" else ("id", proof, 1)))

    with connected(patient) as client:
        assert ask(client, "old")["error"] == {"code": REFUSED, "message": '"too" old \u2603'}
        assert code_of(client.ask("asset.query")) == 6
        assert code_of(ask(client, f"user-{USER}")) == OK
        for proof in ANSWERS:
            assert code_of(ask(client, proof)) == (REFUSED if proof == "old" else INTERNAL), proof
        client.call("asset.query")


def test_what_the_two_services_are_asked(patient: Running, service: Service) -> None:
    with connected(patient) as client:
        client.call("server.auth", f"user-{USER}", "web")
        client.call("server.sign", "id & more=\u2603?#", f"user-{USER}", -77)
    (path, headers), (sign_path, sign_headers) = service.asked[-2:]
    assert path == "/auth"
    split = urlsplit(sign_path)
    assert split.path == "/sign"
    assert parse_qs(split.query) == {"by": ["test"], "access_id": ["id & more=\u2603?#"], "tonce": ["-77"]}
    for each in (headers, sign_headers):
        found = {name.lower(): value for name, value in each.items()}
        assert found["authorization"] == f"user-{USER}"
        assert found["accept-language"] == "en_US"
        assert found["content-type"] == "application/json"
