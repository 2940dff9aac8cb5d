"""Conversations of WebSocket clients recorded from ViaBTC Exchange Server, played to a fresh exchange: the replies are
the same bytes, the pushes add up to the same (tests/golden/ws_player.py). No call is treated apart from the others.
"""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.golden import player, ws_player
from tests.process.exchange import exchange

RECORDED = player.files("ws")
# The original has left out the first deal of its life (CONTRACT 4.4, 10.1 D16).
MARKET = {"skip_first_deal": True, "flush_interval_s": 0.05}
# More time passed between the recorded calls than an answer is kept; here it does not.
UNCACHED_HTTP = {"depth_cache_ms": 0}
UNCACHED_WS = {"query_cache_ms": 0}
NOT_AN_ANSWER = '["not", "an", "answer"]'


class Authority(BaseHTTPRequestHandler):
    """The endpoint that the recorded server.auth asked: `user-N` is user N, `junk` gets what is no answer."""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "")
        body = (NOT_AN_ANSWER if token == "junk" else json.dumps(verdict(token))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def verdict(token: str) -> dict[str, object]:
    """What the endpoint says of a token."""
    if (found := re.fullmatch(r"user-(\d+)", token)) is not None:
        return {"code": 0, "message": None, "data": {"user_id": int(found[1])}}
    return {"code": 3, "message": "token refused", "data": None}


@pytest.fixture
def auth_url() -> Iterator[str]:
    """Where somebody answers about tokens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Authority) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/auth"
        server.shutdown()
        thread.join()


def test_there_is_something_to_play() -> None:
    assert RECORDED


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_clients_are_told_what_was_recorded(path: Path, tmp_path: Path, auth_url: str) -> None:
    ws = {**UNCACHED_WS, "auth_url": auth_url, "sign_url": auth_url}
    with exchange(tmp_path, listing=player.listing(path), http=UNCACHED_HTTP, ws=ws, market=MARKET) as running:
        settings = running.settings
        recording, binds = ws_player.load(path), (settings.http.bind, settings.ws.bind)
        ws_player.Player(recording, *binds, lambda: running.wait_stored(*settings.consumers)).play()
