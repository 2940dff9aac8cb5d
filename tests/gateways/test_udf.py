"""The datafeed for TradingView's library: the shapes of its protocol, and what a chart that scrolls gets to see."""

import json
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.codes import Code
from conf.settings import Http, MarketData, Settings
from gateways.link import Link, NotConnected, TimedOut
from gateways.marketdata import MarketData as MarketDataOfPages
from gateways.state import State
from gateways.udf import RESOLUTIONS, SUPPORTED, Udf
from tests.gateways.making import FakeState
from tests.gateways.markets import DAY_S, Deal, FakeMarketData

MIDNIGHT = 1_699_920_000  # 2023-11-14, a Tuesday
NOW = MIDNIGHT + 22 * 3600


class Feed:
    """The pages over a stand-in for market data."""

    def __init__(self, *deals: Deal, zone: str = "UTC", row_max: int = 10_000, now: float = NOW) -> None:
        self.market = FakeMarketData(list(deals), now=now, row_max=row_max, zone=ZoneInfo(zone))
        self.state = FakeState()
        conf = Settings(http=Http(exchange_name="Pit & Co"), market=MarketData(time_zone=zone, kline_row_max=row_max))
        link = cast(Link, self.market)
        self.pages = Udf(conf, cast(State, self.state), MarketDataOfPages(link), lambda: self.market.now).pages

    def text(self, page: str, **query: object) -> str:
        status, body = self.pages[f"/udf/{page}"](urlencode(query))
        assert status == 200
        return body.decode()

    def get(self, page: str, **query: object) -> Any:
        return json.loads(self.text(page, **query))

    def history(self, resolution: str, to: object, **query: object) -> Any:
        return self.get("history", symbol="BTCBCH", resolution=resolution, to=to, **query)


def at(seconds_ago: float, price: str = "10", amount: str = "1") -> Deal:
    return Deal(NOW - seconds_ago, price, amount)


def utc(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=ZoneInfo("UTC")).timestamp())


def test_the_configuration_says_what_the_library_may_ask_for() -> None:
    assert Feed().get("config") == {
        "supports_search": True,
        "supports_group_request": False,
        "supports_marks": False,
        "supports_timescale_marks": False,
        "supports_time": True,
        "exchanges": [],
        "symbols_types": [],
        "supported_resolutions": list(SUPPORTED),
    }
    assert " ".join(SUPPORTED) == "1S 5S 15S 30S 1 3 5 15 30 60 120 240 360 720 1D 1W 1M"


def test_the_time_is_a_number_of_seconds() -> None:
    assert Feed(now=1445324591.9).text("time") == "1445324591"


def test_a_symbol_says_how_its_prices_and_its_bars_look() -> None:
    assert Feed().get("symbols", symbol="SATBCH") == {
        "name": "SATBCH",
        "ticker": "SATBCH",
        "description": "SAT / BCH",
        "type": "crypto",
        "exchange": "Pit & Co",
        "listed_exchange": "Pit & Co",
        "currency_code": "BCH",
        "session": "24x7",
        "timezone": "Etc/UTC",
        "format": "price",
        "pricescale": 10**6,
        "minmov": 1,
        "minmove2": 0,
        "volume_precision": 2,
        "visible_plots_set": "ohlcv",
        "data_status": "streaming",
        "supported_resolutions": list(SUPPORTED),
        "has_seconds": True,
        "seconds_multipliers": ["1", "5", "15", "30"],
        "has_intraday": True,
        "intraday_multipliers": ["1", "3", "5", "15", "30", "60", "120", "240", "360", "720"],
        "has_daily": True,
        "daily_multipliers": ["1"],
        "has_weekly_and_monthly": True,
        "weekly_multipliers": ["1"],
        "monthly_multipliers": ["1"],
    }


def test_a_symbol_may_have_its_exchange_before_it() -> None:
    feed = Feed(zone="Asia/Shanghai")
    assert feed.get("symbols", symbol="Pit & Co:BTCBCH") == feed.get("symbols", symbol="BTCBCH")
    assert feed.get("symbols", symbol="BTCBCH")["timezone"] == "Asia/Shanghai"


@pytest.mark.parametrize("symbol", ["", "btcbch", "Other:BTCBCH", "Pit & Co:", "x" * 65, "\x00", "\u00e9"])
def test_an_unknown_symbol_is_an_error(symbol: str) -> None:
    for page in ("symbols", "history"):
        answer = Feed().get(page, symbol=symbol, resolution="1", to=NOW, countback=1)
        assert answer["s"] == "error"
        assert answer["errmsg"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["SATBCH", "BTCBCH"]),
        ({"query": ""}, ["SATBCH", "BTCBCH"]),
        ({"query": "btcb"}, ["BTCBCH"]),
        ({"query": "BTC/B"}, ["BTCBCH"]),
        ({"query": "sat bch"}, ["SATBCH"]),
        ({"query": "BCH"}, ["SATBCH", "BTCBCH"]),
        ({"query": "TCB"}, ["BTCBCH"]),
        ({"query": "nope"}, []),
        ({"query": "BCH", "limit": 1}, ["SATBCH"]),
        ({"query": "BCH", "limit": 0}, []),
        ({"query": "BCH", "type": "crypto", "exchange": "Pit & Co"}, ["SATBCH", "BTCBCH"]),
        ({"query": "BCH", "type": "", "exchange": ""}, ["SATBCH", "BTCBCH"]),
        ({"query": "BCH", "type": "stock"}, []),
        ({"query": "BCH", "exchange": "NYSE"}, []),
    ],
)
def test_a_search_finds_names_and_pairs(query: dict[str, object], found: list[str]) -> None:
    assert [each["symbol"] for each in Feed().get("search", **query)] == found


def test_what_begins_with_the_text_is_found_first() -> None:
    assert Feed().get("search", query="B") == [
        {
            "symbol": "BTCBCH",
            "full_name": "Pit & Co:BTCBCH",
            "description": "BTC / BCH",
            "exchange": "Pit & Co",
            "ticker": "BTCBCH",
            "type": "crypto",
        },
        {
            "symbol": "SATBCH",
            "full_name": "Pit & Co:SATBCH",
            "description": "SAT / BCH",
            "exchange": "Pit & Co",
            "ticker": "SATBCH",
            "type": "crypto",
        },
    ]


def test_bars_are_columns_of_numbers_to_the_last_digit() -> None:
    deals = [at(600, "0.10000000000000000001", "3"), at(590, "1.2e-7", "2.5"), at(480, "7", "0.5")]
    text = Feed(*deals).text("history", symbol="BTCBCH", resolution="1", to=NOW - 420, countback=3)
    assert text == (
        f'{{"s":"ok","t":[{NOW - 600},{NOW - 540},{NOW - 480}],'
        '"o":[0.10000000000000000001,1.2e-7,7],"h":[0.10000000000000000001,1.2e-7,7],'
        '"l":[1.2e-7,1.2e-7,7],"c":[1.2e-7,1.2e-7,7],"v":[5.5,0,0.5]}'
    )


def test_from_is_included_and_to_is_not() -> None:
    feed = Feed(at(3600))
    assert feed.history("1", NOW - 60, **{"from": NOW - 180})["t"] == [NOW - 180, NOW - 120]
    assert feed.history("1", NOW - 59, **{"from": NOW - 181})["t"] == [NOW - 180, NOW - 120, NOW - 60]
    assert feed.history("1", f"{NOW - 59}.9", **{"from": f"{NOW - 181}.00001"})["t"][0] == NOW - 180


def test_a_number_of_bars_goes_before_from() -> None:
    feed = Feed(at(3600))
    for since in (NOW - 60, NOW - 7200, -5, "nonsense"):
        assert feed.history("1", NOW, countback=2, **{"from": since})["t"] == [NOW - 120, NOW - 60]
    assert len(feed.history("1", NOW, countback=0, **{"from": NOW - 600})["t"]) == 10


def test_to_may_be_in_the_future() -> None:
    feed = Feed(at(3600))
    for to in (NOW + 1, NOW + 10**6, 999_999_999_999_999):
        assert feed.history("1", to, countback=2)["t"] == [NOW - 60, NOW]
        assert feed.history("1", to, **{"from": NOW - 60})["t"] == [NOW - 60, NOW]
    answer = feed.history("1", NOW + 7200, **{"from": NOW + 3600})
    assert answer == {"s": "no_data", "nextTime": NOW}


def test_there_are_as_many_bars_as_market_data_gives_rows() -> None:
    feed = Feed(at(DAY_S), row_max=100)
    for query in ({"countback": 5000}, {"from": 0}):
        times = feed.history("1", NOW, **query)["t"]
        assert times[-1] == NOW - 60
        assert times == list(range(times[0], NOW, 60))
        assert 90 <= len(times) <= 100
    assert all(len(params) == 4 and 0 < params[1] <= params[2] for _, params in feed.market.calls)


@pytest.mark.parametrize("resolution", SUPPORTED)
def test_before_the_first_deal_a_chart_is_told_to_stop(resolution: str) -> None:
    feed = Feed(at(2 * 3600))
    first = feed.history(resolution, NOW + 1, countback=9990)["t"][0]
    assert first <= NOW - 2 * 3600
    for query in ({"countback": 300}, {"from": first - 10**7}):
        assert feed.history(resolution, first, **query) == {"s": "no_data"}


def test_a_market_without_deals_has_no_data() -> None:
    feed = Feed()
    for resolution in RESOLUTIONS:
        assert feed.history(resolution, NOW, countback=300) == {"s": "no_data"}
    for to in (1, 0, -1, -(10**14)):
        assert feed.history("1", to, countback=300) == {"s": "no_data"}
        assert feed.history("1D", to, **{"from": to}) == {"s": "no_data"}


def test_a_long_gap_is_flat() -> None:
    feed = Feed(Deal(utc(2023, 1, 10, 5), "5", "1"), Deal(utc(2023, 11, 1, 5), "6", "1"))
    assert feed.history("1D", utc(2023, 11, 1), countback=3)["c"] == [5, 5, 5]
    answer = feed.history("1D", utc(2023, 11, 1), countback=300)
    assert answer["t"] == list(range(utc(2023, 1, 10), utc(2023, 11, 1), DAY_S))
    assert feed.history("1M", utc(2023, 11, 1), **{"from": utc(2023, 6, 1)})["v"] == [0] * 5


def test_a_range_between_two_bars_names_the_one_before() -> None:
    answer = Feed(at(3600)).history("60", NOW - 1800, **{"from": NOW - 2400})
    assert answer == {"s": "no_data", "nextTime": NOW - 3600}


@pytest.mark.parametrize(("zone", "first_hour"), [("Asia/Shanghai", -8), ("America/New_York", 5), ("UTC", 0)])
def test_a_day_carries_its_date_in_utc_wherever_it_begins(zone: str, first_hour: int) -> None:
    begins = utc(2023, 11, 10) + first_hour * 3600
    feed = Feed(Deal(begins - 1, "5", "1"), Deal(begins, "6", "1"), Deal(begins + DAY_S - 1, "7", "1"), zone=zone)
    answer = feed.history("1D", utc(2023, 11, 11), countback=9)
    assert answer["t"] == [utc(2023, 11, 9), utc(2023, 11, 10)]
    assert (answer["o"], answer["c"]) == ([5, 6], [5, 7])
    assert feed.history("1W", utc(2023, 11, 11), countback=9)["t"] == [utc(2023, 11, 6)]
    assert feed.history("1M", utc(2023, 11, 11), countback=9)["t"] == [utc(2023, 11, 1)]
    assert feed.history("60", utc(2023, 11, 12), countback=9)["t"][-1] == utc(2023, 11, 11, 23)


def test_today_is_there_before_its_date_has_come_in_utc() -> None:
    feed = Feed(at(3 * DAY_S), zone="Asia/Shanghai")  # NOW is 6 o'clock in the morning of the 15th there
    for to in (NOW, NOW + 1, utc(2023, 11, 16)):
        assert feed.history("1D", to, countback=2)["t"] == [utc(2023, 11, 14), utc(2023, 11, 15)]
    assert feed.history("1D", utc(2023, 11, 15), countback=1)["t"] == [utc(2023, 11, 14)]
    assert feed.history("1D", utc(2023, 11, 14), countback=1)["t"] == [utc(2023, 11, 13)]


@pytest.mark.parametrize(
    "query",
    [
        {"resolution": "1"},
        {"resolution": "1", "to": NOW},
        {"resolution": "1", "countback": 1},
        {"resolution": "1", "to": "x", "countback": 1},
        {"resolution": "1", "to": "1e9", "countback": 1},
        {"resolution": "1", "to": "9" * 16, "countback": 1},
        {"resolution": "1", "to": NOW, "countback": -1},
        {"resolution": "1", "to": NOW, "countback": "\u0661"},
        {"resolution": "1", "to": NOW, "from": "0x1"},
        {"resolution": "2", "to": NOW, "countback": 1},
        {"resolution": "", "to": NOW, "countback": 1},
        {"resolution": "1d", "to": NOW, "countback": 1},
        {"to": NOW, "countback": 1},
    ],
)
def test_a_wrong_query_is_an_error_that_says_why(query: dict[str, object]) -> None:
    answer = Feed(at(60)).get("history", symbol="BTCBCH", **query)
    assert answer["s"] == "error"
    assert any(name in answer["errmsg"] for name in ("from", "to", "countback", "resolution"))


def test_a_query_has_limits() -> None:
    feed = Feed(at(60))
    assert feed.history("1", NOW, countback=1, unknown="x" * 1000)["s"] == "ok"
    assert feed.history("1", NOW, countback=1, unknown="x" * 3000)["s"] == "error"
    assert feed.history("1", NOW, countback=1, **{f"x{number}": 1 for number in range(40)})["s"] == "error"


@pytest.mark.parametrize("fails", [NotConnected, TimedOut, Code.INTERNAL_ERROR, Code.SERVICE_UNAVAILABLE])
def test_without_market_data_bars_are_an_error(fails: Any) -> None:
    feed = Feed(at(60))
    feed.market.fails = fails
    assert feed.history("1", NOW, countback=1) == {"s": "error", "errmsg": "the service is not available"}
    assert feed.get("symbols", symbol="BTCBCH")["name"] == "BTCBCH"


def test_without_the_matcher_symbols_are_an_error() -> None:
    feed = Feed()
    feed.state.fails = NotConnected
    for page in ("symbols", "search", "history"):
        assert feed.get(page, symbol="BTCBCH")["s"] == "error"
    assert feed.get("config")["supports_search"]


def scrolled(feed: Feed, resolution: str, page_size: int) -> list[tuple[int, float]]:
    """Time and volume of all the bars that a chart gets to see when it scrolls to the left until there is nothing."""
    seen: list[tuple[int, float]] = []
    to = int(feed.market.now) + 1
    for _ in range(2000):
        answer = feed.history(resolution, to, countback=page_size)
        if answer["s"] == "no_data" and "nextTime" not in answer:
            return seen
        if answer["s"] == "no_data":
            assert answer["nextTime"] < to
            to = answer["nextTime"] + 1
            continue
        assert answer["s"] == "ok"
        assert len(answer["t"]) <= page_size
        seen = [*zip(answer["t"], answer["v"], strict=True), *seen]
        to = answer["t"][0]
    raise AssertionError("there is no end to it")


@settings(max_examples=60, deadline=None)
@given(
    resolution=st.sampled_from(["1S", "30S", "1", "15", "240", "1D", "1W", "1M"]),
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York"]),
    hour=st.integers(0, 47),
    ages=st.lists(st.integers(0, 150), min_size=1, max_size=5),
    page_size=st.integers(1, 90),
    row_max=st.sampled_from([100, 10_000]),
)
def test_who_scrolls_sees_every_deal_once(
    resolution: str, zone: str, hour: int, ages: list[int], page_size: int, row_max: int
) -> None:
    now = NOW + hour * 3600 + 1234
    interval = RESOLUTIONS[resolution].interval
    step = min(interval, DAY_S) if interval < 7 * DAY_S else 5 * DAY_S
    deals = [Deal(now - age * step, "10", "1") for age in sorted(ages, reverse=True)]
    seen = scrolled(Feed(*deals, zone=zone, row_max=row_max, now=now), resolution, page_size)
    times = [time for time, _ in seen]
    assert times == sorted(set(times))
    assert sum(volume for _, volume in seen) == len(deals)
