"""The pages of GET of a whole exchange: what was traded is on all of them, in the same figures."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateways.udf import SUPPORTED
from tests.process.exchange import REPLY_TIMEOUT_S, Running, exchange

PATIENCE_S = 60
DOCUMENT = Path(__file__).parents[2] / "docs/market-data.md"
ORIGIN = "https://trade.example.com"
RATES = ("0.002", "0.001")


def get(running: Running, path: str, **query: object) -> tuple[int, Any]:
    """Status and decoded body of a page, which is JSON and may be read by a page of our origin."""
    connection = http.client.HTTPConnection(running.settings.http.bind, timeout=REPLY_TIMEOUT_S)
    try:
        connection.request("GET", f"{path}?{urlencode(query)}", headers={"Origin": ORIGIN})
        reply = connection.getresponse()
        assert reply.getheader("Content-Type") == "application/json"
        assert reply.getheader("Access-Control-Allow-Origin") == ORIGIN
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def page(running: Running, path: str, **query: object) -> Any:
    """The body of a page that must be there."""
    status, body = get(running, path, **query)
    assert status == 200, f"{path}: {status} {body}{running.logs()}"
    return body


def tell(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal to a process, unless it has been ended for not answering."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def until(condition: Callable[[], bool], running: Running) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, running.logs()
        time.sleep(0.02)


def has_traded(running: Running) -> bool:
    status, tickers = get(running, "/tickers")
    return status == 200 and any(each["ticker_id"] == "ETH_USD" and each["base_volume"] == "3" for each in tickers)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with exchange(tmp_path_factory.mktemp("pages"), http={"cors_origins": [ORIGIN]}) as started:
        started.call("balance.update", 1, "ETH", "deposit", 1, "10", {})
        started.call("balance.update", 2, "USD", "deposit", 1, "20000", {})
        for side, amount, price in ((1, "2", "2000"), (2, "3", "2000"), (1, "2.5", "1999.5"), (2, "1.25", "1990")):
            started.call("order.put_limit", side, "ETHUSD", side, amount, price, *RATES, "test")
        until(lambda: has_traded(started), started)
        yield started


def test_tickers_and_pairs(running: Running) -> None:
    assert {"ticker_id": "ETH_USD", "base": "ETH", "target": "USD"} in page(running, "/pairs")
    tickers = {each["ticker_id"]: each for each in page(running, "/tickers")}
    assert tickers["ETH_USD"] == {
        "ticker_id": "ETH_USD",
        "base_currency": "ETH",
        "target_currency": "USD",
        "last_price": "2000",
        "base_volume": "3",
        "target_volume": "6000",
        "bid": "1990",
        "ask": "1999.5",
        "high": "2000",
        "low": "2000",
    }
    assert tickers["BTC_USD"]["last_price"] == "0"


def test_the_order_book(running: Running) -> None:
    book = page(running, "/orderbook", ticker_id="ETH_USD", depth=100)
    assert (book["asks"], book["bids"]) == ([["1999.5", "1.5"]], [["1990", "1.25"]])
    assert abs(int(book["timestamp"]) / 1000 - time.time()) < PATIENCE_S


def test_the_trades(running: Running) -> None:
    trades = page(running, "/historical_trades", ticker_id="ETH_USD")
    assert [(each["trade_id"], each["base_volume"]) for each in trades["buy"]] == [(1, "2")]
    assert [(each["trade_id"], each["base_volume"]) for each in trades["sell"]] == [(2, "1")]
    (bought,) = trades["buy"]
    assert (bought["price"], bought["target_volume"], bought["type"]) == ("2000", "4000", "buy")
    deals = running.call("market.deals", "ETHUSD", 10, 0)
    assert int(bought["trade_timestamp"]) == round(deals[-1]["time"] * 1000)


def test_a_chart(running: Running) -> None:
    assert page(running, "/udf/config")["supports_search"]
    assert [each["symbol"] for each in page(running, "/udf/search", query="eth/u")] == ["ETHUSD"]
    symbol = page(running, "/udf/symbols", symbol="tradepit:ETHUSD")
    assert (symbol["ticker"], symbol["pricescale"], symbol["timezone"]) == ("ETHUSD", 10**8, "Etc/UTC")
    assert abs(page(running, "/udf/time") - time.time()) < PATIENCE_S


@pytest.mark.parametrize("resolution", SUPPORTED)
def test_bars_of_every_resolution(running: Running, resolution: str) -> None:
    ahead = int(time.time()) + 100
    bars = page(running, "/udf/history", symbol="ETHUSD", resolution=resolution, to=ahead, countback=9990)
    assert bars["s"] == "ok"
    assert sum(bars["v"]) == 3
    assert bars["v"][0] > 0
    assert {*bars["o"], *bars["h"], *bars["l"], *bars["c"]} == {2000}
    assert bars["t"] == sorted(set(bars["t"]))
    query = {"symbol": "ETHUSD", "resolution": resolution}
    assert page(running, "/udf/history", **query, to=ahead, countback=1)["t"][0] >= bars["t"][-1]
    assert page(running, "/udf/history", **query, to=bars["t"][0], countback=300) == {"s": "no_data"}
    assert page(running, "/udf/history", **query, to=bars["t"][0], **{"from": 1}) == {"s": "no_data"}
    later = page(running, "/udf/history", **query, to=ahead * 2, **{"from": ahead + 40 * 86_400})
    assert (later["s"], later["nextTime"] >= bars["t"][-1]) == ("no_data", True)
    assert page(running, "/udf/history", symbol="BTCUSD", resolution=resolution, to=ahead, countback=9) == {
        "s": "no_data"
    }


def test_bars_of_long_ago_are_not_kept_and_not_asked_for_again(running: Running) -> None:
    for resolution in SUPPORTED:
        query = {"symbol": "ETHUSD", "resolution": resolution, "to": 1_000_000_000}
        for range_ in ({"countback": 300}, {"from": 999_000_000}):
            assert page(running, "/udf/history", **query, **range_) == {"s": "no_data"}, resolution


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_what_the_document_asks_is_answered(running: Running) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    script = "".join(block for block in blocks if "curl" in block).replace("127.0.0.1:8080", running.settings.http.bind)
    script = re.sub(r"^(curl .*)$", r"\1; echo", script, flags=re.MULTILINE)
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == 7 + 5 + 4
    assert all(reply["error"] is None for reply in replies[:7])
    assert not any("errmsg" in reply or "error" in reply for reply in replies[7:] if isinstance(reply, dict))


def test_without_market_data_it_is_told_and_afterwards_it_is_there_again(running: Running) -> None:
    pid = running.pid("market")
    tell(pid, signal.SIGSTOP)
    try:
        asked = {"symbol": "ETHUSD", "resolution": "1", "to": int(time.time()) + 100, "countback": 5}
        assert get(running, "/tickers") == (503, {"error": "the service is not available"})
        assert page(running, "/udf/history", **asked) == {"s": "error", "errmsg": "the service is not available"}
        assert page(running, "/orderbook", ticker_id="ETH_USD")["bids"]
        assert page(running, "/udf/symbols", symbol="ETHUSD")["name"] == "ETHUSD"
    finally:
        tell(pid, signal.SIGCONT)
    tell(pid, signal.SIGKILL)
    until(lambda: running.status()["market"]["pid"] not in (pid, None), running)
    until(lambda: has_traded(running), running)


def test_a_page_that_is_asked_wrongly_leaves_its_connection_open(running: Running) -> None:
    """A proxy sends its next request there."""
    connection = http.client.HTTPConnection(running.settings.http.bind, timeout=60)
    try:
        connection.connect()
        sock = connection.sock
        for _ in range(2):
            connection.request("GET", "/historical_trades")
            reply = connection.getresponse()
            assert reply.status == 400
            assert reply.read()
        assert connection.sock is sock
    finally:
        connection.close()
