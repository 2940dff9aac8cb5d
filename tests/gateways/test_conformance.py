"""Raw bytes to a real worker process, and the bytes that come back. No matcher runs: a method that nobody has is
answered (404), one of the engine's is not (500), and neither needs more.
"""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SERVE = """
import pathlib, sys
from conf.settings import load
from gateways.http import main
sys.exit(main(load(pathlib.Path(sys.argv[1]))))
"""
START_TIMEOUT_S = 30
REPLY_TIMEOUT_S = 30
REQUEST_TIMEOUT_S = 1.0
KEEP_ALIVE_S = 2.0
BODY_MAX = 4096
HEADER_MAX = 8192
CONNECTIONS_MAX = 50
ORIGIN = "https://trade.example.com"

ASKED = b'{"id": 1, "method": "nope", "params": []}'
TOLD = b'{"error": {"code": 4, "message": "method not found"}, "result": null, "id": 1}'
MONTHS = rb"January|February|March|April|May|June|July|August|September|October|November|December"
DATE = rb"Date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (%b) \d{4} \d\d:\d\d:\d\d GMT\r\n" % MONTHS
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\n"


class Server:
    """A gateway process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=REPLY_TIMEOUT_S)

    def say(self, *parts: bytes) -> bytes:
        """All that comes back until the server closes, for parts that are sent a moment apart."""
        with self.connect() as client:
            for part in parts:
                client.sendall(part)
                time.sleep(0.02 if len(parts) > 1 else 0)
            client.shutdown(socket.SHUT_WR)
            return rest(client)


def rest(client: socket.socket) -> bytes:
    """Everything up to the end."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def reply(client: socket.socket) -> bytes:
    """One reply, and nothing of the next."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(1)
        assert piece, data
        data += piece
    size = int(re.search(rb"Content-Length: (\d+)", data)[1])  # type: ignore[index]  # every reply has one
    while len(data) < data.index(b"\r\n\r\n") + 4 + size:
        data += client.recv(1)
    return data


def post(body: bytes = ASKED, more: bytes = b"", path: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"POST %b HTTP/%b\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (path, version, more, len(body), body)


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", data)]


@contextmanager
def serving(folder: Path, **more: object) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "bind": f'"127.0.0.1:{port}"',
        "body_max_size": BODY_MAX,
        "header_max_size": HEADER_MAX,
        "request_timeout_s": REQUEST_TIMEOUT_S,
        "keep_alive_s": KEEP_ALIVE_S,
        "connection_count_max": CONNECTIONS_MAX,
        "drain_timeout_s": 2.0,
        "cors_origins": f'["{ORIGIN}"]',
    } | more
    lines = [f'instance = "conformance-{port}"', 'data_dir = "data"', "[http]"]
    conf_file = folder / "tradepit.toml"
    conf_file.write_text("\n".join(lines + [f"{name} = {value}" for name, value in options.items()]))
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(conf_file)], cwd=REPO)
    server = Server(process, port)
    try:
        wait_until_it_listens(server)
        yield server
    finally:
        process.terminate()
        process.wait(REPLY_TIMEOUT_S)


def wait_until_it_listens(server: Server) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        assert server.process.poll() is None, "it ended"
        try:
            with server.connect() as client:
                client.sendall(post())
                reply(client)
            return
        except OSError:
            assert time.monotonic() < end, "it did not listen"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_a_reply_is_the_originals_to_the_byte(server: Server) -> None:
    data = server.say(post())
    assert re.fullmatch(re.escape(NOT_FOUND) + DATE + rb"Content-Length: 78\r\n\r\n" + re.escape(TOLD), data)


def test_an_empty_reply_too(server: Server) -> None:
    data = server.say(post(b'{"id": 1, "method": "asset.list", "params": []}'))
    assert re.fullmatch(rb"HTTP/1\.1 500 Internal Server Error\r\n" + DATE + rb"Content-Length: 0\r\n\r\n", data)


@pytest.mark.parametrize("path", [b"/", b"/health", b"/a/b?c=d", b"*", b"/%00%ff"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_path_and_version_do_not_matter(server: Server, path: bytes, version: bytes) -> None:
    assert server.say(post(path=path, version=version)).endswith(TOLD)


@pytest.mark.parametrize(
    ("more", "is_json"),
    [
        (b"Content-Type: application/json\r\n", True),
        (b"content-type: Application/JSON; charset=utf-8\r\n", True),
        (b"Accept: text/html, application/json\r\n", True),
        (b"Accept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n", False),
    ],
)
def test_the_content_type_is_told_to_who_speaks_json(server: Server, more: bytes, is_json: bool) -> None:
    data = server.say(post(more=more))
    assert (b"\r\nContent-Type: application/json\r\n" in data) is is_json
    assert data.endswith(TOLD)


def test_an_empty_body_has_no_type(server: Server) -> None:
    assert b"Content-Type" not in server.say(post(b"{}", b"Content-Type: application/json\r\n"))


def test_pages_of_allowed_origins_may_read(server: Server) -> None:
    origin = f"Origin: {ORIGIN}\r\n".encode()
    allowed = f"\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\nVary: Origin\r\n".encode()
    assert allowed in server.say(post(more=origin))
    assert b"Access-Control" not in server.say(post(more=b"Origin: https://evil.example.com\r\n"))
    asked = b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
    preflight = server.say(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n" + origin + asked)
    assert statuses(preflight) == [204]
    assert re.search(rb"(?i)\r\naccess-control-allow-headers: content-type\r\n", preflight)
    assert statuses(server.say(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n" + asked)) == [400]


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS"])
def test_what_is_not_post_is_refused_and_closed(server: Server, method: bytes) -> None:
    with server.connect() as client:
        client.sendall(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n" + post())
        data = rest(client)
    assert re.fullmatch(rb"HTTP/1\.1 400 Bad Request\r\n" + DATE + rb"Content-Length: 0\r\n\r\n", data)


@pytest.mark.parametrize("target", [b"*", b"http://x/", b"http://x/health", b"//", b"/?", b"x:1"])
def test_whatever_the_target(server: Server, target: bytes) -> None:
    data = server.say(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert re.fullmatch(rb"(HTTP/1\.1 400 Bad Request\r\n" + DATE + rb"Content-Length: 0\r\n\r\n)?", data)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"x" * BODY_MAX])
def test_a_bad_envelope_is_refused_and_closed(server: Server, body: bytes) -> None:
    with server.connect() as client:
        client.sendall(post(body) + post())
        data = rest(client)
    assert statuses(data) == [400]
    assert data.endswith(b"Content-Length: 0\r\n\r\n")


def test_health_says_that_no_matcher_answers(server: Server) -> None:
    data = server.say(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(data) == [503]
    assert data.endswith(b'{"status":"unavailable","matcher":false,"sequence":null}')


def test_the_description_of_the_interface(server: Server) -> None:
    data = server.say(b"GET /openrpc.json HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(data) == [200]
    assert b'"openrpc":"1.2.6"' in data


def test_a_connection_is_kept(server: Server) -> None:
    with server.connect() as client:
        for _ in range(3):
            client.sendall(post())
            assert reply(client).endswith(TOLD)


@pytest.mark.parametrize(("more", "version"), [(b"Connection: close\r\n", b"1.1"), (b"", b"1.0")])
def test_a_client_that_wants_the_connection_closed_gets_that(server: Server, more: bytes, version: bytes) -> None:
    with server.connect() as client:
        client.sendall(post(more=more, version=version))
        assert rest(client).endswith(TOLD)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    count = 500
    stream = b"".join(post(b'{"id": %d, "method": "nope", "params": []}' % number) for number in range(count))
    data = server.say(stream)
    assert [int(number) for number in re.findall(rb'"id": (\d+)}', data)] == list(range(count))


def test_a_request_in_single_bytes(server: Server) -> None:
    with server.connect() as client:
        for byte in post():
            client.sendall(bytes([byte]))
        assert reply(client).endswith(TOLD)


def test_chunks_are_joined(server: Server) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (ASKED[:1], ASKED[1:20], ASKED[20:])]
    assert server.say(head, *chunks, b"0\r\n\r\n").endswith(TOLD)


def test_leave_to_send_the_body_is_given(server: Server) -> None:
    head, _, body = post(more=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with server.connect() as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert reply(client).endswith(TOLD)


def test_leave_is_not_given_for_a_body_that_is_too_large(server: Server) -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX + 1)
    assert statuses(server.say(head)) == [413]


def test_the_largest_body_and_one_more(server: Server) -> None:
    fitting = ASKED + b" " * (BODY_MAX - len(ASKED))
    assert server.say(post(fitting)).endswith(TOLD)
    assert statuses(server.say(post(fitting + b" "))) == [413]


def test_a_refused_upload_still_reads_its_reply(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n")
        client.sendall(b"x" * 2_000_000)
        assert statuses(rest(client)) == [413]


def test_a_refused_client_that_goes_on_a_little_does_not_stay(server: Server) -> None:
    with server.connect() as client:
        client.sendall(post(b"{"))
        assert statuses(reply(client)) == [400]
        client.sendall(b"x")
        with pytest.raises(ConnectionError):  # what comes after the end is answered with a reset
            send_slowly(client, REPLY_TIMEOUT_S)


def send_slowly(client: socket.socket, count: int) -> None:
    """Two bytes at a time, with more between than the linger and a sweep take."""
    for _ in range(count):
        time.sleep(1.5)
        client.sendall(b"x")
        time.sleep(0.1)
        client.sendall(b"x")


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (431, b"POST / HTTP/1.1\r\nX: " + b"a" * 2 * HEADER_MAX),
        (431, b"POST / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n"),
        (414, b"POST /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n"),
        (417, b"POST / HTTP/1.1\r\nExpect: a miracle\r\n\r\n"),
    ],
)
def test_limits(server: Server, status: int, data: bytes) -> None:
    assert statuses(server.say(data)) == [status]


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\x00" * 1000,
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + post(),
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi" + post(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_garbage_is_closed_without_a_word(server: Server, data: bytes) -> None:
    with server.connect() as client:
        client.sendall(data)
        assert rest(client) == b""


def test_a_reply_reaches_a_client_that_has_said_all_it_had(server: Server) -> None:
    with server.connect() as client:
        client.sendall(post() + post())
        client.shutdown(socket.SHUT_WR)
        assert statuses(rest(client)) == [404, 404]


def test_half_a_request_and_the_end_is_just_the_end(server: Server) -> None:
    assert server.say(post()[:-5]) == b""


def test_a_slow_sender_is_closed_after_the_request_timeout(server: Server) -> None:
    with server.connect() as client:
        begun, is_closed = time.monotonic(), False
        for byte in post():
            try:
                client.sendall(bytes([byte]))
                client.settimeout(0.1)
                is_closed = not client.recv(1)
            except TimeoutError:
                continue
            except OSError:
                is_closed = True
            if is_closed:
                break
        assert is_closed
        assert time.monotonic() - begun > REQUEST_TIMEOUT_S * 0.8


def test_a_silent_connection_is_closed_after_the_keep_alive_time(server: Server) -> None:
    with server.connect() as client:
        client.sendall(post())
        reply(client)
        begun = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - begun > KEEP_ALIVE_S * 0.8


def fill(client: socket.socket, data: bytes) -> None:
    """Send until nobody takes it."""
    try:
        while True:
            client.sendall(data)
    except OSError:
        pass


def test_a_client_that_does_not_read_is_cut_off_and_holds_up_nobody(server: Server) -> None:
    asked = b"GET /openrpc.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(0.5)
        fill(client, asked)
        assert server.say(post()).endswith(TOLD)
        time.sleep(REQUEST_TIMEOUT_S + 1.5)
        with pytest.raises(ConnectionResetError):
            rest(client)


def test_with_no_room_left_idle_connections_make_way(server: Server) -> None:
    crowd = [server.connect() for _ in range(CONNECTIONS_MAX)]
    try:
        time.sleep(0.2)
        assert server.say(post()).endswith(TOLD)
    finally:
        for client in crowd:
            client.close()


def test_a_stopping_worker_answers_what_has_begun_and_closes_what_is_idle(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as idle, server.connect() as begun:
        idle.sendall(post())
        reply(idle)
        begun.sendall(post()[:-5])
        time.sleep(1.0)  # until it has been read
        server.process.send_signal(signal.SIGTERM)
        assert rest(idle) == b""
        begun.sendall(post()[-5:])
        assert rest(begun).endswith(TOLD)
        assert server.process.wait(REPLY_TIMEOUT_S) == 0
