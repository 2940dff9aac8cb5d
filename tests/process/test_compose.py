"""The nginx of compose.yaml, before a whole exchange."""

import http.client
import json
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from tests.process.exchange import REPLY_TIMEOUT_S, exchange
from tests.process.nginx import HOST, Front, composed_nginx
from tests.process.ws_client import PLAIN, Client

BODY = json.dumps({"id": 5, "method": "market.list", "params": []}).encode()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("compose")
    with exchange(folder) as running, composed_nginx(folder / "nginx", running.settings) as front:
        yield front


def status(front: Front, method: str, target: str, origin: str) -> int:
    connection = http.client.HTTPConnection(HOST, front.plain_port, timeout=REPLY_TIMEOUT_S)
    try:
        connection.request(method, target, BODY if method == "POST" else None, {"Origin": origin})
        return connection.getresponse().status
    finally:
        connection.close()


def test_json_rpc_and_market_data(front: Front) -> None:
    reply = front.plain_request("POST", "/", BODY)
    assert (reply.status, json.loads(reply.body)["id"]) == (200, 5), front.log()
    assert front.plain_request("GET", "/health").status == 200
    assert front.plain_request("GET", "/pairs").status == 200


@pytest.mark.parametrize(
    ("method", "target", "wanted"), [("POST", "/", 403), ("POST", "/pairs", 403), ("GET", "/pairs", 200)]
)
def test_pages_in_browsers_get_market_data_only(front: Front, method: str, target: str, wanted: int) -> None:
    assert status(front, method, target, "https://elsewhere.example.com") == wanted


@pytest.mark.parametrize("path", ["/", "/ws"])
def test_websocket(front: Front, path: str) -> None:
    with connect(f"ws://{front.bind}{path}", **PLAIN) as socket:
        assert Client(socket).call("server.ping") == "pong"
