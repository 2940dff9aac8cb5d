"""The pages of GET through the whole application: falcon, a link, the matcher's memory; only market data is a stand-in.

Whatever a query holds, there is an answer, and it is JSON.
"""

import json
import threading
from collections.abc import Iterator
from math import inf
from typing import Any

import gevent
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bus import catalog
from bus.calls import Outcome, Service
from bus.endpoints import address
from bus.messages import QueryKind
from bus.methods import Backend, Method
from engine.opening import Opened
from gateways.app import Gateway
from tests.engine.opened import deposits, opened, private_settings, puts
from tests.gateways.markets import Deal, FakeMarketData
from tests.gateways.test_app import ask

NOW = 1_700_000_000.0
PATIENCE_S = 30.0
PATHS = ("/pairs", "/tickers", "/orderbook", "/historical_trades")
UDF_PATHS = ("/udf/config", "/udf/symbols", "/udf/search", "/udf/history", "/udf/time")


class MarketProcess:
    """A thread that answers as the market process does, from a stand-in."""

    def __init__(self, place: str, engine: Opened, market: FakeMarketData) -> None:
        listed = catalog.make(*(engine.exchange.answer(kind).records for kind in (QueryKind.ASSETS, QueryKind.MARKETS)))
        self._market = market
        self._stops = threading.Event()
        self._context = zmq.Context()
        self._service = Service(place, Backend.MARKET, lambda: listed, self._context)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stops.set()
        self._thread.join()
        self._context.term()

    def _serve(self) -> None:
        with self._service:
            while not self._stops.is_set():
                self._service.turn(self._respond, wait_ms=20)

    def _respond(self, method: Method, values: list[Any]) -> Outcome:
        return self._market.call(method, [getattr(value, "name", value) for value in values])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    conf = private_settings(tmp_path_factory.mktemp("pages"))
    with opened(conf) as engine:
        engine.exchange.header["beat"] = inf
        engine.exchange.apply(deposits(), NOW)
        engine.exchange.apply(puts(9), NOW)
        place = address(conf.bus.bind, conf.paths.sockets_dir, "market")
        deal = Deal(NOW - 60, "100", "0.01", market="BTCUSD")
        process = MarketProcess(place, engine, FakeMarketData([deal], names=("BTCUSD",)))
        try:
            made = Gateway(conf)
            with gevent.Timeout(PATIENCE_S):
                while get(made, "/tickers")[0] != 200:  # the link connects
                    gevent.sleep(0.01)
            yield made
        finally:
            process.close()


def get(gateway: Gateway, path: str, query: str = "") -> tuple[int, Any]:
    status, headers, body = ask(gateway, "GET", path, QUERY_STRING=query)
    assert headers["content-type"] == "application/json"
    return int(status[:3]), json.loads(body)


def test_every_page_answers(gateway: Gateway) -> None:
    for path in (*PATHS, *UDF_PATHS):
        status, answer = get(gateway, path, "symbol=BTCUSD&ticker_id=BTC_USD&resolution=1&to=1700000000&countback=3")
        assert status == 200, path
        assert "errmsg" not in answer if isinstance(answer, dict) else answer, path


def test_a_page_shows_the_book_and_the_deals(gateway: Gateway) -> None:
    _, book = get(gateway, "/orderbook", "ticker_id=BTC_USD&depth=2")
    assert (book["asks"], book["bids"]) == ([["100", "0.01"]], [])
    _, history = get(gateway, "/udf/history", "symbol=BTCUSD&resolution=1&to=1700000000&countback=1")
    assert (history["t"], history["c"]) == ([1_699_999_980], [100])


def test_names_are_percent_decoded(gateway: Gateway) -> None:
    assert get(gateway, "/udf/symbols", "symbol=%42TC%55SD")[1]["name"] == "BTCUSD"
    assert [each["symbol"] for each in get(gateway, "/udf/search", "query=BTC+%2F+U")[1]] == []
    assert [each["symbol"] for each in get(gateway, "/udf/search", "query=BTC%2FU")[1]] == ["BTCUSD"]


def test_other_pages_are_not_there(gateway: Gateway) -> None:
    for path in ("/", "/udf", "/udf/", "/udf/marks", "/pairs/", "/PAIRS", "/ticker"):
        assert ask(gateway, "GET", path)[0].startswith("400"), path
    for method in ("HEAD", "PUT", "DELETE"):
        assert ask(gateway, method, "/pairs")[0].startswith("400")
    assert ask(gateway, "POST", "/pairs", b'{"id": 1, "method": "asset.list", "params": []}')[0].startswith("200")


NAMES = ("symbol", "resolution", "from", "to", "countback", "query", "limit", "type", "exchange", "ticker_id", "depth")
VALUES = (
    "BTCUSD",
    "BTC_USD",
    "1",
    "1D",
    "1M",
    "1S",
    "0",
    "-1",
    "1700000000",
    "9" * 15,
    "9" * 400,
    "1e5",
    "buy",
    "crypto",
)
_junk = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)
_pairs = st.tuples(
    st.one_of(st.sampled_from((*NAMES, "start_time", "end_time")), _junk), st.one_of(st.sampled_from(VALUES), _junk)
)
_queries = st.one_of(_junk, st.lists(_pairs, max_size=40).map(lambda pairs: "&".join(map("=".join, pairs))))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from((*PATHS, *UDF_PATHS)), query=_queries)
@example(path="/udf/history", query="symbol=%ff%fe&resolution=%00&to=%&countback=%zz")
@example(path="/udf/history", query="symbol=BTCUSD&resolution=1D&to=" + "9" * 15 + "&countback=" + "9" * 15)
@example(path="/udf/history", query="symbol=BTCUSD&resolution=1M&to=1700000000&from=-" + "9" * 15)
@example(path="/historical_trades", query="ticker_id=BTC_USD&limit=" + "9" * 15 + "&start_time=" + "9" * 15)
@example(path="/orderbook", query="&".join(["ticker_id=BTC_USD"] * 500))
def test_whatever_a_query_holds_the_answer_is_json(gateway: Gateway, path: str, query: str) -> None:
    status, answer = get(gateway, path, query)
    if path in UDF_PATHS:
        assert status == 200
        assert not isinstance(answer, dict) or answer.get("s", "ok") in ("ok", "no_data", "error")
    else:
        assert status in (200, 400, 404)
        assert (status == 200) is ("error" not in answer)
