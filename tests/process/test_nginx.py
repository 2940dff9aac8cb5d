"""The example for nginx (conf/nginx.conf) as it stands, but for places: a real nginx before a whole exchange."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conf.settings import Settings
from gateways.pages import pages
from gateways.ws.connection import SOCKET_BUFFER_SIZE
from tests.process.exchange import PATIENCE_S, Running, exchange
from tests.process.nginx import EXAMPLE, NAME, Front, nginx

STRANGER = "127.0.0.2"  # the example lets 127.0.0.1 alone send JSON-RPC
CROWD = "127.0.0.3"
NEIGHBOUR = "127.0.0.4"
SILENT = "127.0.0.5"
ORIGIN = "https://charts.example.com"
INSIDE_PAGES = {"/health", "/openrpc.json"}
PER_ADDRESS_MAX = 3
PING_INTERVAL_S = 1.0
READ_TIMEOUT_S = 6.0  # of nginx: longer than the time between two pings, even on a busy machine
SHORT_TIMEOUT = "300ms"  # shorter
BODY_MAX_SIZE = 1 << 20
UNIT_S = {"ms": 0.001, "s": 1, "m": 60}
RATES = ("0.002", "0.001")
VICTIM = 666
DEPOSIT = json.dumps({"id": 1, "method": "balance.update", "params": [VICTIM, "BTC", "theft", 1, "10", {}]}).encode()


def directive(name: str, number: int = 0) -> str:
    """What the example says of this, the first time or a later one."""
    found: list[str] = re.findall(rf"^\s*{name} ([^;]+);", EXAMPLE.read_text(), re.MULTILINE)
    return found[number]


def seconds(text: str) -> float:
    """A time of nginx's."""
    found = re.fullmatch(r"(\d+)(ms|s|m)", text, re.ASCII)
    assert found is not None, text
    return int(found[1]) * UNIT_S[found[2]]


def test_its_numbers_are_those_of_the_settings() -> None:
    settings, text = Settings(), EXAMPLE.read_text()
    assert f"upstream tradepit_http {{\n    server {settings.http.bind};" in text
    assert f"upstream tradepit_ws {{\n    server {settings.ws.bind};" in text
    assert directive("client_max_body_size") == "1m"
    assert settings.http.body_max_size == BODY_MAX_SIZE
    assert directive("limit_conn tradepit_clients") == str(settings.ws.connection_per_address_max)
    assert directive("listen", 1) == f"443 ssl sndbuf={SOCKET_BUFFER_SIZE // 1024}k"
    assert seconds(directive("keepalive_timeout")) < settings.http.keep_alive_s
    assert seconds(directive("client_body_timeout")) == settings.http.request_timeout_s
    assert seconds(directive("send_timeout")) == settings.ws.slow_timeout_s
    http_timeout, ws_timeout = directive("proxy_read_timeout"), directive("proxy_read_timeout", 1)
    assert seconds(http_timeout) > settings.history.query_timeout_s
    assert seconds(ws_timeout) > 2 * settings.ws.ping_interval_s


def test_the_lines_to_edit_are_marked() -> None:
    marked = re.findall(r"^\s*(\w+) .*; # yours", EXAMPLE.read_text(), re.MULTILINE)
    assert marked == ["server_name", "server_name", "ssl_certificate", "ssl_certificate_key", "allow"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    ws = {
        "connection_per_address_max": PER_ADDRESS_MAX,
        "ping_interval_s": PING_INTERVAL_S,
        "idle_timeout_s": PATIENCE_S,
    }
    http = {"cors_origins": [ORIGIN], "body_max_size": BODY_MAX_SIZE}
    with exchange(tmp_path_factory.mktemp("exchange"), ws=ws, http=http) as started:
        yield started


@pytest.fixture(scope="module")
def front(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front") / "nginx"
    with nginx(
        folder, running.settings, {"proxy_read_timeout 90s;": f"proxy_read_timeout {READ_TIMEOUT_S:g}s;"}
    ) as made:
        yield made


def call(front: Front, method: str, *params: Any) -> Any:
    """The result of a call by HTTPS, which must succeed."""
    reply = front.request("POST", "/", json.dumps({"id": 1, "method": method, "params": params}).encode())
    assert reply.status == 200, f"{reply}{front.log()}"
    document = json.loads(reply.body)
    assert document["error"] is None, document
    return document["result"]


def test_a_client_is_told_by_wss_of_an_order_by_https(front: Front) -> None:
    call(front, "balance.update", 1, "BTC", "deposit", 1, "10", {})
    with front.connected() as client:
        assert client.call("server.ping") == "pong"
        client.call("depth.subscribe", "BTCUSD", 10, "0")
        client.wait(lambda: len(client.of("depth.update")) == 1)
        call(front, "order.put_limit", 1, "BTCUSD", 1, "2", "50000", *RATES, "test")
        client.wait(lambda: len(client.of("depth.update")) == 2)
        assert client.of("depth.update")[1] == [False, {"asks": [["50000", "2"]]}, "BTCUSD"]


def test_a_silent_client_stays_because_of_pings(front: Front, running: Running, tmp_path: Path) -> None:
    hasty = {"proxy_read_timeout 90s;": f"proxy_read_timeout {SHORT_TIMEOUT};"}
    with (
        nginx(tmp_path / "hasty", running.settings, hasty) as other,
        other.connected() as client,
        pytest.raises(ConnectionClosed),
    ):
        client.look(PATIENCE_S)
    with front.coming_from(SILENT).connected() as client:
        client.look(READ_TIMEOUT_S + 2)
        assert client.call("server.ping") == "pong"


def test_clients_are_counted_by_their_address_whatever_they_claim(front: Front) -> None:
    crowd = front.coming_from(CROWD)
    with ExitStack() as stack:
        for number in range(PER_ADDRESS_MAX):
            client = stack.enter_context(crowd.connected({"X-Real-IP": f"203.0.113.{number}"}))
            assert client.call("server.ping") == "pong"
        with pytest.raises(InvalidStatus) as refused, crowd.connected({"X-Real-IP": "203.0.113.99"}):
            pass
        assert refused.value.response.status_code == 429
        assert b"too many connections from this address" in (refused.value.response.body or b"")
        neighbour = stack.enter_context(front.coming_from(NEIGHBOUR).connected({"X-Real-IP": CROWD}))
        assert neighbour.call("server.ping") == "pong"


@pytest.mark.parametrize(
    "target",
    [
        *("/", "//", "/x", "/ws", "/ws/", "/WS", "/health", "/pairs", "/pairs/", "/tickers", "/udf/config", "/udf/../"),
        *("/udf/%2e%2e/", "/udf/..%2f", "/udf/config%00", "/udf/config%0a", "/pairs?x", f"https://{NAME}/pairs"),
    ],
)
def test_strangers_may_not_post_to_any_path(front: Front, target: str) -> None:
    stranger = front.coming_from(STRANGER)
    for headers in ({}, {"X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "Upgrade": "websocket"}):
        reply = stranger.request("POST", target, DEPOSIT, headers)
        assert 400 <= reply.status < 500, reply
        assert b"result" not in reply.body
    assert call(front, "balance.query", VICTIM, "BTC") == {"BTC": {"available": "0", "freeze": "0"}}


def test_a_page_in_a_browser_that_may_post_may_not(front: Front) -> None:
    assert front.request("POST", "/", DEPOSIT, {"Origin": ORIGIN}).status == 403


def test_strangers_may_get_market_data_and_nothing_else(front: Front) -> None:
    nothing: Any = None
    stranger = front.coming_from(STRANGER)
    for path in pages(Settings(), nothing, nothing, dict):
        status = stranger.request("GET", path).status
        assert (status == 403) == (path in INSIDE_PAGES), f"{path}: {status}"
        assert status < 500
    for path in ("/", "/metrics", "/udf/", "/udf/../health", "/udf/%2e%2e/health"):
        assert stranger.request("GET", path).status == 403, path
    assert stranger.request("GET", "/udf/symbols?symbol=BTCUSD").status == 200
    assert front.request("GET", "/health").status == 200


def test_a_page_that_was_kept_is_kept_for_each_origin(front: Front) -> None:
    for headers, allowed in (({}, None), ({"Origin": ORIGIN}, ORIGIN), ({"Origin": "https://evil.example"}, None)):
        reply = front.request("GET", "/udf/config", headers=headers)
        assert (reply.status, reply.headers.get("Access-Control-Allow-Origin")) == (200, allowed)


@pytest.mark.parametrize(("size", "status"), [(BODY_MAX_SIZE, 200), (BODY_MAX_SIZE + 1, 413)])
def test_both_have_the_same_limit_for_a_body(front: Front, running: Running, size: int, status: int) -> None:
    body = b'{"id": 1, "method": "market.list", "params": []}'.ljust(size)
    assert front.request("POST", "/", body).status == status
    assert running.post(body)[0] == status


def test_without_tls_one_is_sent_to_where_it_is(front: Front) -> None:
    reply = front.plain_request("GET", "/pairs?x=1")
    assert (reply.status, reply.headers["Location"]) == (301, f"https://{NAME}/pairs?x=1")
    assert front.plain_request("POST", "/", DEPOSIT).status == 301


@pytest.mark.parametrize(("version", "is_taken"), [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_old_tls_is_refused(front: Front, version: str, is_taken: bool) -> None:
    command = ["openssl", "s_client", "-connect", front.bind, "-servername", NAME, f"-{version}"]
    done = subprocess.run(
        [*command, "-cipher", "DEFAULT@SECLEVEL=0"], input=b"", capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode == 0) == is_taken, done.stderr


def test_all_that_it_has_open_is_its_own(front: Front) -> None:
    master = psutil.Process(front.pid)
    for process in (master, *master.children()):
        assert {Path(each.path).is_relative_to(front.folder) for each in process.open_files()} <= {True}
    assert len(master.children()) >= 2
