"""Who says who a client is: what its answers mean, and a real service that is slow, odd, gone or never done."""

import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import gevent
import pytest

from bus.codes import Code
from gateways.ws import auth
from gateways.ws.auth import AT_ONCE_MAX, REPLY_MAX_SIZE, Refusal, Verdict, Verifier, verdict
from gateways.ws.session import Signature, Token
from tests.gateways.ws.making import PATIENCE_S

GOOD = b'{"code": 0, "message": null, "data": {"user_id": 7}}'
SHORT_S = 0.3  # that the service has for an answer where it does not come; elsewhere it has PATIENCE_S

LARGE = b'{"code": 0, "data": {"user_id": 7}, "more": "' + b"x" * REPLY_MAX_SIZE + b'"}'
BAD = Code.INTERNAL_ERROR
VERDICTS: list[tuple[str, Verdict]] = [
    ('{"code": 0, "message": null, "data": {"user_id": 7}}', 7),
    ('{"data": {"user_id": 4294967295, "more": 1}, "code": 0}', 4_294_967_295),
    ('{"code": 0, "message": "fine", "data": {"user_id": 1}, "more": []}', 1),
    # it refuses
    ('{"code": 1, "message": "who?", "data": null}', Refusal("who?")),
    ('{"code": -1, "message": "", "data": {"user_id": 7}}', Refusal("")),
    ('{"code": 11, "message": "\\u20ac \\"x\\""}', Refusal('€ "x"')),
    ('{"code": 1, "message": null}', BAD),
    ('{"code": 1, "message": 5}', BAD),
    ('{"code": 1}', BAD),
    # it says nothing that can be understood
    ("", BAD),
    ("<html></html>", BAD),
    ("7", BAD),
    ("null", BAD),
    ("[]", BAD),
    ("{}", BAD),
    ('{"code": 0}', BAD),
    ('{"data": {"user_id": 7}}', BAD),
    ('{"code": null, "data": {"user_id": 7}}', BAD),
    ('{"code": "0", "data": {"user_id": 7}}', BAD),
    ('{"code": 0.0, "data": {"user_id": 7}}', BAD),
    ('{"code": false, "data": {"user_id": 7}}', BAD),
    ('{"code": true, "message": "who?"}', BAD),
    ('{"code": 0, "data": null}', BAD),
    ('{"code": 0, "data": 7}', BAD),
    ('{"code": 0, "data": "user_id"}', BAD),
    ('{"code": 0, "data": [7]}', BAD),
    ('{"code": 0, "data": {}}', BAD),
    ('{"code": 0, "data": {"user_id": 0}}', BAD),
    ('{"code": 0, "data": {"user_id": -7}}', BAD),
    ('{"code": 0, "data": {"user_id": 4294967296}}', BAD),
    ('{"code": 0, "data": {"user_id": 7.0}}', BAD),
    ('{"code": 0, "data": {"user_id": "7"}}', BAD),
    ('{"code": 0, "data": {"user_id": true}}', BAD),
    ('{"code": 0, "data": {"user_id": null}}', BAD),
    ('{"code": 0, "data": {"user_id": 7}} x', BAD),
]


@pytest.mark.parametrize(("body", "wanted"), VERDICTS)
def test_what_an_answer_means(body: str, wanted: Verdict) -> None:
    found = verdict(body.encode())
    assert found == wanted
    assert type(found) is type(wanted)


def test_an_answer_that_is_no_text_means_nothing() -> None:
    assert verdict(b'{"code": 1, "message": "\xff"}') == BAD


Answer = Callable[[BaseHTTPRequestHandler], None]


def answering(body: bytes = GOOD, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class Service:
    """A service that answers as it is told to, and keeps what it is asked."""

    def __init__(self) -> None:
        self.answer: Answer = answering()
        self.asked: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # named by the base
                service.asked.append((
                    self.command,
                    self.path,
                    {key.lower(): each for key, each in self.headers.items()},
                ))
                try:
                    service.answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Asking:
    """A verifier, and what it tells of the services."""

    def __init__(self, url: str, timeout_s: float = PATIENCE_S, sign: str = "/sign") -> None:
        self.told: list[str] = []
        self.verifier = Verifier(f"{url}/auth", f"{url}{sign}", timeout_s, self.told.append)

    def token(self, token: str = "secret") -> Verdict:
        return self.verifier.verify(Token(token))


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


def test_a_token_stands_in_the_header(service: Service) -> None:
    asking = Asking(service.url)
    assert asking.token("Bearer x y") == 7
    [(method, path, headers)] = service.asked
    assert (method, path) == ("GET", "/auth")
    assert headers["authorization"] == "Bearer x y"
    assert headers["accept-language"] == "en_US"
    assert headers["content-type"] == "application/json"
    assert asking.told == []


SIGNATURES = [
    ("/sign", "id", 1, "/sign"),
    ("/sign?app=5", "id", -1, "/sign"),
    ("/sign", "a b&tonce=2#/?%€\r\n+", 1 << 62, "/sign"),
    ("/sign", "", 1, "/sign"),
]


@pytest.mark.parametrize(("url_path", "access_id", "tonce", "path"), SIGNATURES)
def test_a_signature_is_asked_with_its_parameters(
    service: Service, url_path: str, access_id: str, tonce: int, path: str
) -> None:
    asking = Asking(service.url, sign=url_path)
    assert asking.verifier.verify(Signature(access_id, "proof", tonce)) == 7
    [(method, target, headers)] = service.asked
    parts = urlsplit(target)
    assert (method, parts.path, parts.fragment) == ("GET", path, "")
    given = parse_qsl(urlsplit(url_path).query)
    assert parse_qsl(parts.query, keep_blank_values=True) == [*given, ("access_id", access_id), ("tonce", str(tonce))]
    assert headers["authorization"] == "proof"


@pytest.mark.parametrize("status", [200, 201, 400, 401, 404, 500, 503])
def test_the_status_means_nothing(service: Service, status: int) -> None:
    asking = Asking(service.url)
    service.answer = answering(status=status)
    assert asking.token() == 7
    service.answer = answering(b'{"code": 1, "message": "who?"}', status)
    assert asking.token() == Refusal("who?")


def test_a_redirection_is_not_followed(service: Service) -> None:
    service.answer = answering(b"", 302, Location=f"{service.url}/elsewhere")
    assert Asking(service.url).token() == BAD
    assert [path for _, path, _ in service.asked] == ["/auth"]


def test_nothing_is_remembered(service: Service) -> None:
    asking = Asking(service.url)
    for number in range(1, 4):
        service.answer = answering(GOOD.replace(b"7", b"%d" % number))
        assert asking.token() == number
    assert len(service.asked) == 3


def test_a_service_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        asking = Asking(url)
        assert asking.token() == BAD
    [told] = asking.told
    assert told.startswith(f"{url}/auth does not answer")
    assert capfd.readouterr().err == "", "whoever asks could fill the log"


def test_a_service_whose_name_nobody_knows() -> None:
    assert Asking("http://name.invalid").token() == BAD


def test_what_is_told_does_not_name_the_client(service: Service) -> None:
    service.answer = sleeping
    asking = Asking(service.url, SHORT_S)
    assert asking.verifier.verify(Signature("access", "proof", 5)) == Code.SERVICE_TIMEOUT
    [told] = asking.told
    assert told.startswith(f"{service.url}/sign did not answer")
    assert "access" not in told
    assert "proof" not in told


def sleeping(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3 * SHORT_S)


def half(handler: BaseHTTPRequestHandler) -> None:
    """Promises more than comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:-2])
    handler.close_connection = True


def less(handler: BaseHTTPRequestHandler) -> None:
    """The same, though what comes could be a whole answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(2 * len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD)
    handler.close_connection = True


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
    handler.close_connection = True


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end, as quick as it can be taken."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 10_000)


ODD = [half, less, nonsense, hanging_up, endless, answering(LARGE), answering(b"x" * 10_000_000)]


@pytest.mark.parametrize("answer", ODD)
def test_an_odd_answer_means_nothing_and_the_next_one_is_taken(service: Service, answer: Answer) -> None:
    asking = Asking(service.url)
    for _ in range(AT_ONCE_MAX + 1):  # if each kept a thread, none would be left
        service.answer = answer
        assert asking.token() == BAD
        service.answer = answering()
        assert asking.token() == 7


def test_a_large_answer_is_one(service: Service) -> None:
    service.answer = answering(GOOD + b" " * (REPLY_MAX_SIZE - len(GOOD)))
    assert Asking(service.url).token() == 7


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """A body without an end, of which a byte comes every now and then."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        time.sleep(SHORT_S / 5)


def dripping_before(handler: BaseHTTPRequestHandler) -> None:
    """The same of a header."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(SHORT_S / 5)


KEPT = pytest.mark.xfail(reason="each byte of a header renews urllib3's time limit, so the thread is kept")


@pytest.mark.parametrize("answer", [sleeping, dripping, pytest.param(dripping_before, marks=KEPT)])
def test_what_does_not_come_in_time_is_not_waited_for_and_holds_up_no_later_one(
    service: Service, answer: Answer
) -> None:
    asking = Asking(service.url, SHORT_S)
    service.answer = answer
    began_s = time.monotonic()
    claims = [gevent.spawn(asking.token) for _ in range(AT_ONCE_MAX)]
    assert [each.get() for each in claims] == [Code.SERVICE_TIMEOUT] * AT_ONCE_MAX
    assert time.monotonic() - began_s < 5 * SHORT_S
    assert all("did not answer within" in told for told in asking.told)
    service.answer = answering()
    gevent.sleep(2 * SHORT_S)
    assert asking.token() == 7


def test_more_than_can_be_asked_at_once_are_all_answered(service: Service) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.02)
        answering(GOOD.replace(b"7", handler.headers["Authorization"].encode()))(handler)

    service.answer = slow
    asking = Asking(service.url)
    claims = [gevent.spawn(asking.token, str(number)) for number in range(1, 5 * AT_ONCE_MAX)]
    assert [each.get() for each in claims] == [*range(1, 5 * AT_ONCE_MAX)]


def test_more_than_may_wait_are_refused_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "WAITING_MAX", 3)
    asking = Asking(service.url)
    claims = [gevent.spawn(asking.token) for _ in range(5)]
    found = [each.get() for each in claims]
    assert found == [7] * 3 + [Code.SERVICE_UNAVAILABLE] * 2
    assert asking.token() == 7


def test_the_loop_goes_on_while_somebody_is_asked(service: Service) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.2)
        answering()(handler)

    service.answer = slow
    claim = gevent.spawn(Asking(service.url).token)
    turns = 0
    while not claim.dead:
        gevent.sleep(0.001)
        turns += 1
    assert claim.get() == 7
    assert turns > 10
