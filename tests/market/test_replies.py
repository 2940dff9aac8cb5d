"""The text of answers about market data (CONTRACT 4.5, 11.9)."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bus.catalog import Catalog
from bus.codes import Code
from bus.messages import Side
from bus.methods import METHODS, check
from bus.parameters import Scope
from conf.settings import MarketData
from market.board import Board
from market.calendar import DAY_S
from market.replies import CHUNK_COUNT, Respondent
from market.schema import DEALS_KEPT_COUNT
from tests.market.making import Deal, catalog, frame

NOW = 1_510_000_070
LIMITS = MarketData(kline_row_max=100)
CONTRACT = (
    Deal(1_510_000_001.5, 800_000, 15_000, taker_side=Side.BID),
    Deal(1_510_000_001.9, 801_000, 15_000),
    Deal(1_510_000_065.25, 801_000, 5_000),
)


class Market:
    """A board with a clock that is asked by method name and parameters, as clients do."""

    def __init__(self, *deals: Deal, names: tuple[str, ...] = ("BTCBCH",), limits: MarketData = LIMITS) -> None:
        self.now = NOW
        self.board = Board(limits)
        self.board.know(catalog(*names))
        self.number = 1
        self.respond = Respondent(self.board, limits, lambda: self.now + 0.25)
        self.trade(*deals)

    @property
    def catalog(self) -> Catalog:
        return self.board.catalog

    def trade(self, *deals: Deal) -> None:
        self.board.apply([frame(deals, first=self.number, first_deal_id=self.number)])
        self.number += len(deals) + 1

    def ask(self, name: str, *params: Any) -> str:
        """The text of a result, or the name of a code."""
        values = check(METHODS[name], list(params), Scope(self.catalog))
        outcome = Code.INVALID_ARGUMENT if values is None else self.respond(METHODS[name], values)
        return outcome.name if isinstance(outcome, Code) else outcome


@pytest.fixture
def market() -> Market:
    return Market(*CONTRACT)


REFUSED = Code.INVALID_ARGUMENT.name


@pytest.mark.parametrize(
    ("name", "params", "wanted"),
    [
        ("market.last", ["BTCBCH"], '"8010.00"'),
        (
            "market.deals",
            ["BTCBCH", 2, 0],
            '[{"id": 3, "time": 1510000065.25, "price": "8010", "amount": "0.5", "type": "sell"}, '
            '{"id": 2, "time": 1510000001.9000001, "price": "8010", "amount": "1.5", "type": "sell"}]',
        ),
        (
            "market.deals",
            ["BTCBCH", 10_000, -5],
            '[{"id": 3, "time": 1510000065.25, "price": "8010", "amount": "0.5", "type": "sell"}, '
            '{"id": 2, "time": 1510000001.9000001, "price": "8010", "amount": "1.5", "type": "sell"}, '
            '{"id": 1, "time": 1510000001.5, "price": "8000", "amount": "1.5", "type": "buy"}]',
        ),
        ("market.deals", ["BTCBCH", 5, 3], "[]"),
        (
            "market.kline",
            ["BTCBCH", 1_510_000_000, 1_510_000_003, 1],
            '[[1510000001, "8000", "8010", "8010", "8000", "3", "24015", "BTCBCH"], '
            '[1510000002, "8010", "8010", "8010", "8010", "0", "0", "BTCBCH"], '
            '[1510000003, "8010", "8010", "8010", "8010", "0", "0", "BTCBCH"]]',
        ),
        (
            "market.kline",
            ["BTCBCH", 1_509_900_000, 9 * 10**18, 604_800],
            '[[1509926400, "8000", "8010", "8010", "8000", "3.5", "28020", "BTCBCH"]]',
        ),
        ("market.kline", ["BTCBCH", 1, 1_400_000_000, 1], "[]"),
        (
            "market.status",
            ["BTCBCH", 60],
            '{"period": 60, "last": "8010", "open": "8010", "close": "8010", "high": "8010", "low": "8010", '
            '"volume": "0.5", "deal": "4005"}',
        ),
        (
            "market.status",
            ["BTCBCH", 3],
            '{"period": 3, "last": "8010", "open": "0", "close": "0", "high": "0", "low": "0", '
            '"volume": "0", "deal": "0"}',
        ),
        (
            "market.status",
            ["BTCBCH", LIMITS.sec_max],
            '{"period": 604800, "last": "8010", "open": "8000", "close": "8010", "high": "8010", "low": "8000", '
            '"volume": "3.5", "deal": "28020"}',
        ),
        (
            "market.status_today",
            ["BTCBCH"],
            '{"open": "8000", "last": "8010", "high": "8010", "low": "8000", "volume": "3.5", "deal": "28020"}',
        ),
        (
            "market.tickers",
            [],
            '[{"name": "BTCBCH", "last": "8010", "open": "8000", "close": "8010", "high": "8010", "low": "8000", '
            '"volume": "3.5", "deal": "28020", "change": "0.12"}]',
        ),
        ("market.kline", ["BTCBCH", NOW + 1, NOW + 5, 1], REFUSED),  # the end is now
        ("market.kline", ["BTCBCH", 10, 5, 1], REFUSED),
        ("market.kline", ["BTCBCH", 0, 5, 1], REFUSED),
        ("market.kline", ["BTCBCH", "1", 5, 1], REFUSED),
        ("market.kline", ["BTCBCH", 5, 10, 7], REFUSED),
        ("market.kline", ["BTCBCH", 5, 10, 1 << 62], REFUSED),
        ("market.kline", ["BTCBCH", 5, 10, 2 * 604_800], REFUSED),
        ("market.kline", ["NOPE", 5, 10, 1], REFUSED),
        ("market.status", ["BTCBCH", LIMITS.sec_max + 1], REFUSED),
        ("market.status", ["BTCBCH", 0], REFUSED),
        ("market.deals", ["BTCBCH", 10_001, 0], REFUSED),
        ("market.tickers", ["NOPE"], REFUSED),
    ],
)
def test_answers(market: Market, name: str, params: list[Any], wanted: str) -> None:
    assert market.ask(name, *params) == wanted


def test_a_market_that_never_traded() -> None:
    market = Market(names=("NEW",))
    nothing = '"open": "0", "close": "0", "high": "0", "low": "0", "volume": "0", "deal": "0"'
    assert market.ask("market.last", "NEW") == '"0"'
    assert market.ask("market.deals", "NEW", 10, 0) == "[]"
    assert market.ask("market.kline", "NEW", 1, NOW, 60) == "[]"
    assert market.ask("market.status", "NEW", 60) == f'{{"period": 60, "last": "0", {nothing}}}'
    today = '{"open": "0", "last": "0", "high": "0", "low": "0", "volume": "0", "deal": "0"}'
    assert market.ask("market.status_today", "NEW") == today
    assert market.ask("market.tickers") == f'[{{"name": "NEW", "last": "0", {nothing}, "change": "0"}}]'


def test_today_goes_back_to_the_last_price_of_thirty_days(market: Market) -> None:
    market.now = NOW + 2 * DAY_S
    flat = '{"open": "8010", "last": "8010", "high": "8010", "low": "8010", "volume": "0", "deal": "0"}'
    assert market.ask("market.status_today", "BTCBCH") == flat
    market.now = NOW + 30 * DAY_S
    assert market.ask("market.status_today", "BTCBCH") == flat
    market.now = NOW + 31 * DAY_S
    assert json.loads(market.ask("market.status_today", "BTCBCH"))["last"] == "0"
    assert json.loads(market.ask("market.status", "BTCBCH", 60))["last"] == "8010"


def test_small_numbers_are_written_as_the_original_does() -> None:
    market = Market(Deal(NOW - 1, 1, 1))
    assert market.ask("market.last", "BTCBCH") == '"0.01"'
    (row,) = json.loads(market.ask("market.kline", "BTCBCH", NOW - 1, NOW - 1, 1))
    assert row[1:7] == ["0.01", "0.01", "0.01", "0.01", "0.0001", "0.000001"]
    finer = replace(market.catalog.markets[0], stock_prec=8, money_prec=8, deal_prec=16)
    outcome = market.respond(METHODS["market.kline"], [finer, NOW - 1, NOW - 1, 1])
    assert json.loads(str(outcome))[0][1:7] == ["1e-8", "1e-8", "1e-8", "1e-8", "1e-8", "1e-16"]


def test_tickers_are_of_the_markets_named_and_tell_a_fall() -> None:
    market = Market(
        Deal(NOW - 5, 300, 1, 0), Deal(NOW - 4, 299, 1, 0), Deal(NOW - 4, 7, 1, 1), names=("AB", "CD", "EF")
    )
    changes = {row["name"]: row["change"] for row in json.loads(market.ask("market.tickers"))}
    assert changes == {"AB": "-0.33", "CD": "0", "EF": "0"}
    assert [row["name"] for row in json.loads(market.ask("market.tickers", "EF", "AB"))] == ["EF", "AB"]


def test_a_market_that_is_named_often_is_looked_at_once() -> None:
    """A request has room for 100,000 names: the process would do nothing else for seconds."""
    market = Market(*CONTRACT, names=("AB", "EF"))
    once = market.ask("market.tickers", "EF", "AB")
    assert market.ask("market.tickers", *["EF", "AB"] * 50_000) == once


def test_more_rows_than_may_be_are_the_newest(market: Market) -> None:
    market.now = 1_510_000_500
    rows = json.loads(market.ask("market.kline", "BTCBCH", 1_510_000_000, market.now, 1))
    assert [row[0] for row in rows] == [*range(market.now - LIMITS.kline_row_max + 1, market.now + 1)]


def test_deals_are_the_same_whether_their_text_was_kept_or_not() -> None:
    market = Market()
    asked = [(1, 0), (CHUNK_COUNT, 0), (CHUNK_COUNT + 1, 250), (10_000, 0), (10_000, 333), (3, 10**18)]
    for count in (1, CHUNK_COUNT - 2, 30, 4 * CHUNK_COUNT, DEALS_KEPT_COUNT + 50, 1):
        market.trade(*(Deal(NOW, 100 + place % 7, 1 + place % 11) for place in range(count)))
        kept = market.board.tape(0).ticks.kept["deal_id"].tolist()
        for limit, last_id in asked:
            deals = json.loads(market.ask("market.deals", "BTCBCH", limit, last_id))
            wanted = [deal_id for deal_id in kept if deal_id > last_id][-limit:]
            assert [deal["id"] for deal in deals] == wanted[::-1]
    fresh = Respondent(market.board, LIMITS, lambda: NOW)
    everything = [market.catalog.markets[0], DEALS_KEPT_COUNT, 0]
    assert fresh(METHODS["market.deals"], everything) == market.respond(METHODS["market.deals"], everything)
