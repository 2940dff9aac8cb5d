"""What no client should send, over real sockets: the process stays the same one, serves the others, logs nothing."""

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.process.exchange import PATIENCE_S, Running
from tests.process.test_market import MARKET
from tests.process.ws_client import CLOSE, FIN, TEXT, RawClient, connected, frame, gateway, handshake, raw_socket

PIPELINED_COUNT = 10_000
HUGE_SIZE = 1_000_000
NESTED_COUNT = 50_000
PROTOCOL_ERROR, TOO_BIG, POLICY, BAD_TEXT = 1002, 1009, 1008, 1007
INVALID_ARGUMENT, NOT_FOUND, TOO_MANY = 1, 4, 22


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("hostile"), ws={"handshake_timeout_s": 2.0}) as started:
        yield started


@pytest.fixture(autouse=True)
def unshaken(running: Running) -> Iterator[None]:
    """The process is the same one afterwards, has answered somebody else all the time, and has logged nothing."""
    before, is_over, failed = running.pid("ws-0"), threading.Event(), list[BaseException]()

    def go_on() -> None:
        try:
            with connected(running) as client:
                while not is_over.wait(0.02):
                    assert client.call("server.ping") == "pong"
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    yield
    is_over.set()
    thread.join()
    assert not failed, failed
    assert running.pid("ws-0") == before
    log = (running.settings.paths.logs_dir / "ws-0.log").read_text()
    assert "Traceback" not in log, log[-3000:]


def reply_to(running: Running, data: bytes) -> bytes:
    """All that the server sends to a connection that begins so, until it closes it."""
    with raw_socket(running.settings.ws.bind) as socket:
        received = b""
        try:
            socket.sendall(data)
            while part := socket.recv(1 << 16):
                received += part
        except ConnectionError:
            pass
        return received


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(range(256)) * 100, id="binary"),
        pytest.param(b"\r\n\r\n", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no headers"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="TLS"),
        pytest.param(handshake().replace(b"GET", b"POST"), id="POST"),
        pytest.param(handshake().replace(b"HTTP/1.1", b"HTTP/9.9"), id="version"),
        pytest.param(handshake().replace(b"-Version: 13", b"-Version: 99"), id="protocol version"),
        pytest.param(handshake().replace(b"dGhl", b"d\xff\x00"), id="key"),
        pytest.param(handshake("Content-Length: 5"), id="a body that does not come"),
        pytest.param(handshake("Transfer-Encoding: chunked"), id="chunks"),
        pytest.param(handshake("X: \xff\xfe\x00"), id="a header that is no text"),
        pytest.param(handshake(f"X: {'x' * HUGE_SIZE}"), id="a header of a million bytes"),
        pytest.param(b"GET /" + b"x" * HUGE_SIZE, id="an endless line"),
        pytest.param(handshake(*["X: y"] * 100_000), id="many headers"),
        pytest.param(handshake()[:-2], id="half a handshake"),
        pytest.param(b"G", id="a byte"),
    ],
)
def test_what_is_no_handshake_gets_no_connection(running: Running, data: bytes) -> None:
    received = reply_to(running, data)
    assert not received.startswith(b"HTTP/1.1 101"), received[:200]


def closing(client: RawClient) -> tuple[int, list[bytes]]:
    """The code with which the server closes, 0 without a close frame, and the texts before."""
    texts: list[bytes] = []
    for opcode, payload in client.wait_frames(lambda opcode, _: opcode == CLOSE):
        if opcode == CLOSE:
            return struct.unpack("!H", payload[:2])[0] if payload else 0, texts
        texts.append(payload)
    return 0, texts


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(b"{}", is_masked=False), PROTOCOL_ERROR, id="unmasked"),
        pytest.param(frame(b"", 0x83), PROTOCOL_ERROR, id="unknown opcode"),
        pytest.param(frame(b"", 0xF1), PROTOCOL_ERROR, id="reserved bits"),
        pytest.param(frame(b"x", 0x80), PROTOCOL_ERROR, id="a continuation of nothing"),
        pytest.param(frame(b"a", TEXT) + frame(b"b"), PROTOCOL_ERROR, id="a message within another"),
        pytest.param(frame(b"x" * 126, 0x89), PROTOCOL_ERROR, id="a long ping"),
        pytest.param(frame(b"x", 0x09), PROTOCOL_ERROR, id="a ping in parts"),
        pytest.param(frame(b"x", FIN | CLOSE), PROTOCOL_ERROR, id="a close frame of a byte"),
        pytest.param(frame(b"\x00\x00", FIN | CLOSE), PROTOCOL_ERROR, id="a close code that is none"),
        pytest.param(frame(b"\xff\xfe"), BAD_TEXT, id="no text"),
        pytest.param(frame(b'"\xed\xa0\x80"'), BAD_TEXT, id="half a surrogate pair"),
        pytest.param(frame(b"[" * HUGE_SIZE), TOO_BIG, id="a large message"),
        pytest.param(b"\x81\xff" + b"\x7f" * 12, TOO_BIG, id="nearly endless"),
        pytest.param(b"\x81\xff" + b"\xff" * 12, TOO_BIG, id="a negative size"),
        pytest.param(frame(b" " * 60_000, TEXT) + frame(b" " * 60_000, FIN), TOO_BIG, id="large in parts"),
    ],
)
def test_frames_that_are_wrong_end_their_connection_with_a_code(running: Running, data: bytes, code: int) -> None:
    client = RawClient(running.settings.ws.bind)
    client.socket.sendall(data)
    found, texts = closing(client)
    client.close()
    assert (found, texts) == (code, [])


REQUESTS = {
    "no JSON": b"{",
    "nested": b'{"id": 1, "method": "server.ping", "params": ' + b"[" * NESTED_COUNT + b"]" * NESTED_COUNT + b"}",
    "an array": b"[]",
    "a number": b"1",
    "null": b"null",
    "no method": b'{"id": 1, "params": []}',
    "no params": b'{"id": 1, "method": "server.ping"}',
    "params of another kind": b'{"id": 1, "method": "server.ping", "params": {}}',
    "a huge id": b'{"id": 1' + b"0" * 30 + b', "method": "server.ping", "params": []}',
    "a very huge id": b'{"id": 1' + b"0" * 5_000 + b', "method": "server.ping", "params": []}',
    "an id beyond 64 bits": b'{"id": 9223372036854775808, "method": "server.ping", "params": []}',
    "an id that is a text": b'{"id": "1", "method": "server.ping", "params": []}',
    "a fraction": b'{"id": 1.5, "method": "server.ping", "params": []}',
    "a method that is none": b'{"id": 1, "method": 5, "params": []}',
    "half a surrogate pair": b'{"id": 1, "method": "price.subscribe", "params": ["\\ud800"]}',
    "NUL": b'{"id": 1, "method": "price.subscribe", "params": ["\\u0000"]}',
    "binary": b"\x00\x01",
    "NaN": b'{"id": 1, "method": "server.ping", "params": [NaN]}',
}


def test_requests_that_are_wrong_are_refused_and_the_next_one_is_served(running: Running) -> None:
    client = RawClient(running.settings.ws.bind)
    for name, data in REQUESTS.items():
        client.socket.sendall(frame(data))
        client.send("server.ping", request_id=77)
        frames = client.wait_frames(lambda _, payload: json.loads(payload)["id"] == 77)
        replies = [json.loads(payload) for _, payload in frames]
        assert [reply["error"] and reply["error"]["code"] for reply in replies] == [INVALID_ARGUMENT, None], name
    client.close()


def nested(count: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(count):
        found = [found]
    return found


Call = tuple[str, list[Any]]

CALLS: list[Call] = [
    *((f"{channel}.subscribe", [name]) for channel in ("price", "deals", "state", "today", "book") for name in "é☃"),
    *((f"{channel}.subscribe", [["BTCUSD"], {}, None, 1e300]) for channel in ("price", "deals", "state", "today")),
    *((f"{channel}.subscribe", nested(500)) for channel in ("price", "deals", "kline", "depth", "book")),
    *((f"{channel}.query", nested(500)) for channel in ("price", "deals", "state", "today", "kline", "depth")),
    *((f"{channel}.query", []) for channel in ("price", "deals", "state", "today", "kline", "depth", "order", "asset")),
    *(("kline.subscribe", [MARKET, interval]) for interval in (7, 1 << 31, 1 << 40, (1 << 63) - 1, 0, -1, True, "60")),
    ("kline.subscribe", ["no such market", 60]),
    ("kline.query", [MARKET, -(1 << 63), (1 << 63) - 1, 1]),
    ("kline.query", [MARKET, 0, (1 << 63) - 1, (1 << 63) - 1]),
    ("deals.query", [MARKET, (1 << 63) - 1, -(1 << 63)]),
    *(("depth.subscribe", [MARKET, 5, merge]) for merge in ("1e-8", "0e0", "1e99999", "-0", "nan", "0.00", "", " 0")),
    *(("depth.subscribe", [MARKET, limit, "0"]) for limit in (0, -1, 101, (1 << 63) - 1, True, None)),
    *(("book.subscribe", [MARKET, limit]) for limit in (0, -1, 101, (1 << 63) - 1, True, None)),
    ("book.unsubscribe", [{}, [], None, 1.5]),
    ("server.auth", ["x\r\nX-Other: y", "web"]),
    ("server.auth", ["é", "web"]),
    ("server.auth", ["x" * 90_000, "web"]),
    ("server.auth", ["x", "y" * 32]),
    ("server.auth", [1, 2]),
    ("server.sign", ["&access_id=1#", "x", 1]),
    ("server.sign", ["x", "y", 0]),
    ("server.sign", ["☃" * 10_000, "y", -(1 << 63)]),
    ("order.subscribe", [MARKET, {"after": 0}]),
    ("asset.history", [1, 2, 3]),
    ("order.history", []),
    ("server.stop", []),
    ("__class__", []),
]
OWN_CALLS: list[Call] = [
    *((f"{channel}.subscribe", [{"after": after}]) for channel in ("order", "asset") for after in (-1, 1.5, "1", True)),
    *((f"{channel}.subscribe", [{"after": (1 << 63) - 1}]) for channel in ("order", "asset")),
    *((f"{channel}.subscribe", [{"after": 0, "before": 1}]) for channel in ("order", "asset")),
    *((f"{channel}.subscribe", [{}, MARKET]) for channel in ("order", "asset")),
    *((f"{channel}.subscribe", [{}]) for channel in ("order", "asset")),
    *((f"{channel}.subscribe", nested(500)) for channel in ("order", "asset")),
    ("order.query", [MARKET, -1, 10]),
    ("order.query", nested(500)),
    ("order.history", [MARKET, 0, 0, 0, 101, 0]),
    ("order.history", nested(500)),
    ("asset.query", [["USD"], None]),
    ("asset.history", ["USD", "", -(1 << 63), (1 << 63) - 1, 0, 10]),
]


def test_whatever_params_say_there_is_an_answer(running: Running) -> None:
    with connected(running) as client:
        for method, params in CALLS:
            reply = client.ask(method, *params)
            assert set(reply) == {"error", "result", "id"}, method
        client.login(1)
        for method, params in OWN_CALLS:
            reply = client.ask(method, *params)
            assert set(reply) == {"error", "result", "id"}, method
        client.look(1.5)  # the loops look at what was subscribed
        for channel in ("price", "deals", "state", "today", "kline", "depth"):  # and they all go on
            params = {"kline": [MARKET, 60], "depth": [MARKET, 5, "0"]}.get(channel, [MARKET])
            client.call(f"{channel}.subscribe", *params)
        client.call("book.subscribe", MARKET, 5)
        client.told.clear()
        for user, asset in ((1, "BTC"), (2, "USD")):
            running.call("balance.update", user, asset, "deposit", 1, "100", {})
            running.call("order.put_limit", user, MARKET, user, str(user), "1", "0", "0", "")
        wanted = {f"{name}.update" for name in ("price", "deals", "state", "today", "kline", "depth", "book")}
        client.wait(lambda: {told.method for told in client.told} >= wanted)


def test_requests_that_come_with_the_handshake_are_answered(running: Running) -> None:
    """In the original they are lost (CONTRACT 5.1)."""
    pings = b"".join(
        frame(json.dumps({"id": number, "method": "server.ping", "params": []}).encode()) for number in range(50)
    )
    with raw_socket(running.settings.ws.bind) as socket:
        socket.sendall(handshake() + pings)
        received, deadline = b"", time.monotonic() + PATIENCE_S
        while received.count(b'"pong"') < 50 and time.monotonic() < deadline:
            received += socket.recv(1 << 16)
    assert [received.find(b'"id": %d}' % number) > 0 for number in range(50)] == [True] * 50


def test_a_handshake_in_single_bytes_is_one(running: Running) -> None:
    with raw_socket(running.settings.ws.bind) as socket:
        for byte in handshake():
            socket.sendall(bytes((byte,)))
        assert socket.recv(1 << 16).startswith(b"HTTP/1.1 101 ")


def flood(running: Running, payload: Callable[[int], bytes]) -> tuple[int, list[bytes]]:
    """Send many frames at once, as far as they are taken; the code at the end, and the texts before."""
    client = RawClient(running.settings.ws.bind)
    data = b"".join(frame(payload(number)) for number in range(PIPELINED_COUNT))

    def send() -> None:
        try:
            client.socket.sendall(data)
        except OSError:
            return

    client.socket.settimeout(PATIENCE_S)
    sender = threading.Thread(target=send)
    sender.start()
    found = closing(client)
    sender.join()
    client.close()
    return found


@pytest.mark.parametrize("method", ["server.ping", "price.query", "depth.query", "state.subscribe", "asset.query"])
def test_ten_thousand_requests_at_once_are_answered_or_refused_and_then_the_connection_ends(
    running: Running, method: str
) -> None:
    params: dict[str, list[Any]] = {"depth.query": [MARKET, 5, "0"], "server.ping": [], "asset.query": []}
    request = {"method": method, "params": params.get(method, [MARKET])}
    code, texts = flood(running, lambda number: json.dumps({"id": number, **request}).encode())
    assert code == POLICY
    replies = [reply for text in texts if (reply := json.loads(text))["id"] is not None]
    ids = [reply["id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    refused = [reply for reply in replies if reply["error"] and reply["error"]["code"] == TOO_MANY]
    assert len(refused) > 100
    if method == "server.ping":
        assert ids == list(range(len(ids)))
        assert len([reply for reply in replies if reply["result"] == "pong"]) > 500


def test_many_connections_that_say_nothing_are_closed_in_time(running: Running) -> None:
    sockets = [raw_socket(running.settings.ws.bind) for _ in range(200)]
    for number, socket in enumerate(sockets):
        socket.sendall(handshake()[: number % 100])
    for socket in sockets:
        assert socket.recv(1) == b""
        socket.close()
