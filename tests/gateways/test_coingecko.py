"""CoinGecko's pages: the shapes of its standard, exact numbers, limits."""

import json
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlencode

import numpy as np
import pytest

from bus import catalog
from bus.catalog import Catalog
from bus.codes import Code
from bus.messages import LEVEL_VIEW, QueryKind
from bus.parameters import DEALS_MAX, PAGE_MAX
from engine.views import Answered
from gateways.coingecko import CoinGecko
from gateways.link import Link, NotConnected, TimedOut
from gateways.marketdata import MarketData
from gateways.state import State
from tests.gateways.making import CATALOG, FakeState, asset_views, market_views
from tests.gateways.markets import Deal, FakeMarketData

NOW = 1_700_000_000.0
UNIT = 10**8


class Site:
    """The pages over stand-ins."""

    def __init__(self, *deals: Deal, asks: int = 0, bids: int = 0) -> None:
        self.market = FakeMarketData(list(deals), now=NOW)
        self.state = Book(asks, bids)
        market_data = MarketData(cast(Link, self.market))
        self.turns: list[int] = []
        self.pages = CoinGecko(
            cast(State, self.state), market_data, lambda: self.market.now, lambda: self.turns.append(1)
        ).pages

    def get(self, path: str, expected_status: int = 200, **query: object) -> Any:
        status, body = self.pages[path](urlencode(query))
        assert status == expected_status, body
        return json.loads(body)


class Book(FakeState):
    """Levels at prices around 100."""

    def __init__(self, asks: int, bids: int) -> None:
        super().__init__()
        self.listed = CATALOG
        self.ask_count, self.bid_count = asks, bids

    def catalog(self) -> Catalog:
        return replace(super().catalog(), markets=self.listed.markets)

    def answer(self, kind: QueryKind, **asked: int) -> Answered:
        self.asked.append({"kind": kind, **asked})
        asks = [((101 + place) * UNIT, (place + 1, 0)) for place in range(min(self.ask_count, asked["limit"]))]
        bids = [((99 - place) * UNIT, (UNIT, 0)) for place in range(min(self.bid_count, asked["limit"]))]
        return Answered(np.array(asks + bids, LEVEL_VIEW), len(asks))


def test_pairs() -> None:
    assert Site().get("/pairs") == [
        {"ticker_id": "SAT_BCH", "base": "SAT", "target": "BCH"},
        {"ticker_id": "BTC_BCH", "base": "BTC", "target": "BCH"},
    ]


def test_a_ticker_of_24_hours() -> None:
    old = Deal(NOW - 90_000, "200", "5")
    deals = (Deal(NOW - 3600, "50", "1"), Deal(NOW - 1800, "51.3", "2"), Deal(NOW - 900, "49.2", "0.5"))
    assert Site(old, *deals, asks=3, bids=2).get("/tickers")[1] == {
        "ticker_id": "BTC_BCH",
        "base_currency": "BTC",
        "target_currency": "BCH",
        "last_price": "49.2",
        "base_volume": "3.5",
        "target_volume": "177.20",
        "bid": "99",
        "ask": "101",
        "high": "51.3",
        "low": "49.2",
    }


def test_a_ticker_without_deals_or_orders_is_zero() -> None:
    ticker = Site().get("/tickers")[0]
    assert {ticker[name] for name in ("last_price", "base_volume", "target_volume", "bid", "ask", "high", "low")} == {
        "0"
    }


def test_a_market_that_market_data_does_not_know_yet_is_left_out() -> None:
    site = Site()
    site.market._tickers = lambda *markets: []  # type: ignore[method-assign]
    assert site.get("/tickers") == []


def test_an_order_book() -> None:
    site = Site(asks=2, bids=2)
    assert site.get("/orderbook", ticker_id="BTC_BCH") == {
        "ticker_id": "BTC_BCH",
        "timestamp": "1700000000000",
        "bids": [["99", "1"], ["98", "1"]],
        "asks": [["101", "0.00000001"], ["102", "0.00000002"]],  # 1e-8 elsewhere
    }
    assert site.state.asked == [{"kind": QueryKind.DEPTH, "market": 0, "limit": PAGE_MAX, "interval": 0}]


@pytest.mark.parametrize(
    ("depth", "levels"), [(0, 101), (1, 1), (2, 1), (100, 50), (200, 100), (500, 101), (10**14, 101)]
)
def test_a_depth_is_that_of_both_sides(depth: int, levels: int) -> None:
    book = Site(asks=500, bids=500).get("/orderbook", ticker_id="BTC_BCH", depth=depth)
    assert (len(book["bids"]), len(book["asks"])) == (levels, levels)


def test_trades_by_the_side_of_the_taker() -> None:
    deals = (Deal(NOW - 3.25, "50.1", "0.1", "buy"), Deal(NOW - 2, "1.5e-7", "1e-8", "sell"), Deal(NOW - 1, "50", "2"))
    trades = Site(*deals).get("/historical_trades", ticker_id="BTC_BCH")
    assert trades == {
        "buy": [
            {
                "trade_id": 3,
                "price": "50",
                "base_volume": "2",
                "target_volume": "100",
                "trade_timestamp": "1699999999000",
                "type": "buy",
            },
            {
                "trade_id": 1,
                "price": "50.1",
                "base_volume": "0.1",
                "target_volume": "5.01",
                "trade_timestamp": "1699999996750",
                "type": "buy",
            },
        ],
        "sell": [
            {
                "trade_id": 2,
                "price": "0.00000015",
                "base_volume": "0.00000001",
                "target_volume": "0.0000000000000015",
                "trade_timestamp": "1699999998000",
                "type": "sell",
            }
        ],
    }


def deals_of_an_hour() -> list[Deal]:
    return [Deal(NOW - 3600 + second, "2", "3", "sell" if second % 3 else "buy") for second in range(3600)]


def ids(trades: dict[str, list[dict[str, Any]]]) -> list[int]:
    return sorted((trade["trade_id"] for side in trades.values() for trade in side), reverse=True)


def test_a_limit_takes_the_newest() -> None:
    site = Site(*deals_of_an_hour())
    assert ids(site.get("/historical_trades", ticker_id="BTC_BCH", limit=3)) == [3600, 3599, 3598]
    assert len(ids(site.get("/historical_trades", ticker_id="BTC_BCH"))) == 200
    assert not site.turns
    assert len(ids(site.get("/historical_trades", ticker_id="BTC_BCH", limit=0))) == 3600
    assert len(site.turns) == 7  # others had theirs
    assert len(ids(site.get("/historical_trades", ticker_id="BTC_BCH", limit=10**14))) == 3600
    assert [params[1] for _, params in site.market.calls] == [3, 200, DEALS_MAX, DEALS_MAX]


def test_one_side_only() -> None:
    trades = Site(*deals_of_an_hour()).get("/historical_trades", ticker_id="BTC_BCH", type="buy", limit=2)
    assert list(trades) == ["buy"]
    assert ids(trades) == [3598, 3595]


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_time_range_in_seconds_or_milliseconds_includes_its_ends(unit: int) -> None:
    site = Site(*deals_of_an_hour())
    begin, end = int(NOW - 3600) * unit, int(NOW - 3590) * unit
    assert ids(site.get("/historical_trades", ticker_id="BTC_BCH", start_time=begin, end_time=end)) == [
        *range(11, 0, -1)
    ]
    assert ids(site.get("/historical_trades", ticker_id="BTC_BCH", start_time=end, end_time=begin)) == []
    assert ids(site.get("/historical_trades", ticker_id="BTC_BCH", start_time=int(NOW - 1) * unit)) == [3600]
    assert ids(site.get("/historical_trades", ticker_id="BTC_BCH", end_time=begin)) == [1]


@pytest.mark.parametrize("path", ["/orderbook", "/historical_trades"])
def test_an_unknown_ticker_is_not_found(path: str) -> None:
    for ticker_id in ("BTCBCH", "btc_bch", "BCH_BTC", "\x00", "\u00e9"):
        assert list(Site().get(path, 404, ticker_id=ticker_id)) == ["error"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/orderbook", {}),
        ("/orderbook", {"ticker_id": ""}),
        ("/orderbook", {"ticker_id": "x" * 65}),
        ("/orderbook", {"ticker_id": "BTC_BCH", "depth": "x"}),
        ("/orderbook", {"ticker_id": "BTC_BCH", "depth": -1}),
        ("/historical_trades", {"ticker_id": "BTC_BCH", "limit": -1}),
        ("/historical_trades", {"ticker_id": "BTC_BCH", "limit": "1e3"}),
        ("/historical_trades", {"ticker_id": "BTC_BCH", "type": "both"}),
        ("/historical_trades", {"ticker_id": "BTC_BCH", "start_time": "2024-01-01"}),
        ("/historical_trades", {"ticker_id": "BTC_BCH", "end_time": -1}),
        ("/tickers", {"x": "y" * 3000}),
        ("/pairs", {f"x{number}": 1 for number in range(40)}),
    ],
)
def test_a_wrong_query_is_a_bad_request(path: str, query: dict[str, object]) -> None:
    assert list(Site().get(path, 400, **query)) == ["error"]


@pytest.mark.parametrize("fails", [NotConnected, TimedOut, Code.INTERNAL_ERROR])
def test_what_is_away_is_told(fails: Any) -> None:
    site = Site()
    site.market.fails = fails
    site.get("/tickers", 503)
    site.get("/historical_trades", 503, ticker_id="BTC_BCH")
    site.get("/pairs")
    site.state.fails = NotConnected
    for path in ("/pairs", "/orderbook"):
        assert site.get(path, 503, ticker_id="BTC_BCH") == {"error": "the service is not available"}


def test_two_markets_of_a_pair_have_two_tickers() -> None:
    rows = np.concatenate([market_views(), market_views()[:1]])
    rows[2]["name"], rows[2]["rank"] = b"BTCBCH2", 2
    site = Site()
    site.state.listed = catalog.make(asset_views(), rows)
    assert [pair["ticker_id"] for pair in site.get("/pairs")] == ["SAT_BCH", "BTC_BCH", "BTC_BCH_BTCBCH2"]
    site.get("/orderbook", ticker_id="BTC_BCH_BTCBCH2")
    assert site.state.asked[-1]["market"] == 2
