"""The application under a WSGI server that is not ours: the standard library's, which checks the protocol."""

import io
import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from bus.methods import METHODS
from conf.settings import Http, Settings
from gateways.app import Gateway

ORIGIN = "https://trade.example.com"
ASKED = b'{"id": 1, "method": "nope", "params": []}'


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    settings = Settings(instance="wsgi-test", data_dir=tmp_path, http=Http(body_max_size=1024, cors_origins=(ORIGIN,)))
    settings.paths.make()
    return Gateway(settings)


def ask(gateway: Gateway, method: str, path: str, body: bytes = b"", **more: str) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of the reply."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"CONTENT_LENGTH": str(len(body)), **more}
    environ["wsgi.input"] = io.BytesIO(body)
    setup_testing_defaults(environ)
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        told.extend([status, {name.lower(): value for name, value in headers}])
        return lambda data: None

    result = validator(gateway)(environ, start_response)
    data = b"".join(result)
    result.close()  # type: ignore[attr-defined]  # the validator's iterator has it
    return told[0], told[1], data


def test_requests_are_answered_on_any_path(gateway: Gateway) -> None:
    for path in ("/", "/health", "/a/b"):
        status, _, body = ask(gateway, "POST", path, ASKED, CONTENT_TYPE="application/json")
        assert status == "404 Not Found"
        assert json.loads(body)["error"]["code"] == 4


def test_without_a_matcher_there_is_a_reply_too(gateway: Gateway) -> None:
    asked = b'{"id": 1, "method": "order.cancel", "params": [1, "BTCUSD", 1]}'
    assert ask(gateway, "POST", "/", asked)[0].startswith("500")
    status, headers, body = ask(gateway, "GET", "/health")
    assert status.startswith("503")
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"status": "unavailable", "matcher": False, "sequence": None}


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("GET", b"", "400"),
        ("PUT", ASKED, "400"),
        ("POST", b"", "400"),
        ("POST", b"{", "400"),
        ("POST", b" " * 1025, "413"),
    ],
)
def test_refusals(gateway: Gateway, method: str, body: bytes, status: str) -> None:
    told, _, data = ask(gateway, method, "/", body)
    assert told.startswith(status)
    assert data == b""


def test_the_interface_is_described(gateway: Gateway) -> None:
    status, _, body = ask(gateway, "GET", "/openrpc.json")
    assert status == "200 OK"
    assert len(json.loads(body)["methods"]) == len(METHODS)


def test_a_browser_is_told_what_a_page_may(gateway: Gateway) -> None:
    status, headers, _ = ask(gateway, "OPTIONS", "/", HTTP_ORIGIN=ORIGIN)
    assert status.startswith("204")
    assert headers["access-control-allow-origin"] == ORIGIN
    assert ask(gateway, "OPTIONS", "/", HTTP_ORIGIN="https://evil.example.com")[0].startswith("400")
    assert ask(gateway, "OPTIONS", "/")[0].startswith("400")
