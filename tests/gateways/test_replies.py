"""Number text and key order of results: the worked examples of CONTRACT 11."""

from typing import Any

import numpy as np
import pytest

from bus.messages import ASSET_VIEW, BALANCE_VIEW, LEVEL_VIEW, MARKET_VIEW, OrderType, Presence, Records
from bus.orders import order_text
from bus.text import halves
from gateways import replies
from tests.gateways.making import BTCBCH, CATALOG, asset_views, market_views, order_record

E8, E16 = 10**8, 10**16


def shown(record: Records) -> str:
    return order_text(record.tobytes(), 0, CATALOG.market_by_index)


def numbers(**fields: Any) -> str:
    """left, deal_stock, deal_money, deal_fee of an order."""
    return shown(order_record(**fields)).partition('"left": ')[2].rstrip("}")


def test_a_resting_order_in_full() -> None:
    record = order_record(
        price_units=8000 * E8,
        amount_units=15 * 10**7,
        left_units=15 * 10**7,
        taker_rate_units=20,
        maker_rate_units=10,
    )
    assert shown(record) == (
        '{"id": 1, "market": "BTCBCH", "source": "web", "type": 1, "side": 1, "user": 7, "ctime": 1511401234.0, '
        '"mtime": 1511401234.0, "price": "8000", "amount": "1.5", "taker_fee": "0.002", "maker_fee": "0.001", '
        '"left": "1.5", "deal_stock": "0", "deal_money": "0", "deal_fee": "0"}'
    )


ORDERS: list[tuple[str, dict[str, Any], str]] = [
    (
        "11.1: a buyer's fee is stock",
        {
            "side": 2,
            "amount_units": 3 * E8,
            "deal_stock_units": 3 * E8,
            "deal_money_units": 24015 * E16,
            "deal_fee_units": 6 * 10**9,
        },
        '"0e-8", "deal_stock": "3", "deal_money": "24015", "deal_fee": "0.006"',
    ),
    (
        "11.1: a seller's fee is money",
        {
            "side": 1,
            "amount_units": 2 * E8,
            "left_units": E8 // 2,
            "deal_stock_units": 15 * 10**7,
            "deal_money_units": 12015 * E16,
            "deal_fee_units": 12015 * 10**17,
        },
        '"0.5", "deal_stock": "1.5", "deal_money": "12015", "deal_fee": "12.015"',
    ),
    (
        "11.3: what a market buy did not spend",
        {
            "type": OrderType.MARKET,
            "side": 2,
            "amount_units": 1000 * E8,
            "deal_stock_units": 31000021,
            "deal_money_units": 9999999999993000000,
            "deal_fee_units": 620000420,
        },
        '"7.000000e-10", "deal_stock": "0.31000021", "deal_money": "999.9999999993", "deal_fee": "0.00062000042"',
    ),
    (
        "a market buy that spent all",
        {
            "type": OrderType.MARKET,
            "side": 2,
            "amount_units": 10 * E8,
            "deal_stock_units": E8,
            "deal_money_units": 10 * E16,
        },
        '"0e-16", "deal_stock": "1", "deal_money": "10", "deal_fee": "0e-12"',
    ),
    (
        "a market buy that could buy nothing",
        {"type": OrderType.MARKET, "side": 2, "amount_units": 10 * E8},
        '"10", "deal_stock": "0", "deal_money": "0", "deal_fee": "0"',
    ),
    (
        "11.6: no fee, and a tiny price",
        {"side": 1, "amount_units": 100_000, "deal_stock_units": 100_000, "deal_money_units": 100_000},
        '"0e-8", "deal_stock": "0.001", "deal_money": "1.00000e-11", "deal_fee": "0e-20"',
    ),
    (
        "11.5: few decimals print a plain zero",
        {"market": 1, "side": 1, "amount_units": 100, "deal_stock_units": 100, "deal_money_units": E8},
        '"0", "deal_stock": "1", "deal_money": "1", "deal_fee": "0e-12"',
    ),
    (
        "more than 64 bits",
        {"side": 2, "amount_units": E8, "deal_stock_units": E8, "deal_money_units": 10**30 + 1},
        '"0e-8", "deal_stock": "1", "deal_money": "100000000000000.0000000000000001", "deal_fee": "0e-12"',
    ),
]


@pytest.mark.parametrize(("fields", "text"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS])
def test_numbers_of_orders(fields: dict[str, Any], text: str) -> None:
    assert numbers(**fields) == text


def test_a_market_order_has_no_price_and_no_maker_fee() -> None:
    text = shown(order_record(type=OrderType.MARKET, amount_units=E8, left_units=E8, taker_rate_units=20))
    assert '"price": "0", "amount": "1", "taker_fee": "0.002", "maker_fee": "0", "left": "1"' in text


def test_times_and_sources_are_told_as_they_are() -> None:
    text = shown(order_record(mtime=1492697467.1411841, source='"\u00e9\\'.encode()))
    assert '"source": "\\"\u00e9\\\\"' in text
    assert '"ctime": 1511401234.0, "mtime": 1492697467.1411841' in text


def balance(asset: int, available: int | None, freeze: int | None) -> tuple[Any, ...]:
    states = [Presence.ABSENT if units is None else Presence.PRESENT for units in (available, freeze)]
    return (asset, *states, halves(available or 0), halves(freeze or 0))


def test_balances_are_cut_to_what_is_shown_and_a_zero_tells_where_it_comes_from() -> None:
    records = np.array([balance(0, 999_999_999, None), balance(1, 9999, 10**36), balance(2, 0, 0)], BALANCE_VIEW)
    wanted = [CATALOG.asset_by_index[index] for index in (0, 1, 2, 0)]
    assert replies.balances(records, wanted) == (
        '{"BTC": {"available": "0.00099999", "freeze": "0"}, '
        '"BCH": {"available": "0e-8", "freeze": "10000000000000000"}, '
        '"SAT": {"available": "0", "freeze": "0"}}'
    )


def test_a_user_without_any_balance_has_zeros() -> None:
    nothing = np.zeros(0, BALANCE_VIEW)
    assert replies.balances(nothing, CATALOG.assets[:1]) == '{"BCH": {"available": "0", "freeze": "0"}}'


def test_depth_splits_levels_into_asks_and_bids() -> None:
    records = np.array([(8000 * E8, (E8, 0)), (12, (1, 0)), (0, (0, 1))], LEVEL_VIEW)
    assert replies.depth(records, 2, BTCBCH) == (
        '{"asks": [["8000", "1"], ["1.2e-7", "1e-8"]], "bids": [["0e-8", "184467440737.09551616"]]}'
    )


def test_sums_of_assets() -> None:
    records = asset_views()
    assert records.dtype == ASSET_VIEW
    records[0]["entry_count"] = records[0]["available_count"] = 2
    records[0]["available_units"] = halves(3 * 10**12)
    records[1]["entry_count"] = 3
    records[1]["available_count"], records[1]["freeze_count"] = 2, 1
    records[1]["available_units"], records[1]["freeze_units"] = halves(10**22), halves(1)
    assert replies.asset_summary(records, CATALOG.assets) == (
        '[{"name": "BCH", "total_balance": "100.00000000000000000001", "available_count": 2, '
        '"available_balance": "100", "freeze_count": 1, "freeze_balance": "1e-20"}, '
        '{"name": "BTC", "total_balance": "3", "available_count": 2, "available_balance": "3", '
        '"freeze_count": 0, "freeze_balance": "0"}, '
        '{"name": "SAT", "total_balance": "0", "available_count": 0, "available_balance": "0", '
        '"freeze_count": 0, "freeze_balance": "0"}]'
    )


def test_sums_and_terms_of_markets() -> None:
    records = market_views()
    assert records.dtype == MARKET_VIEW
    records[0]["ask_count"], records[0]["ask_units"] = 3, halves(10**20)
    assert replies.market_summary(records, CATALOG.markets[1:]) == (
        '[{"name": "BTCBCH", "ask_count": 3, "ask_amount": "1000000000000", "bid_count": 0, "bid_amount": "0"}]'
    )
    assert replies.market_list(records, CATALOG.markets) == (
        '[{"name": "SATBCH", "stock": "SAT", "money": "BCH", "fee_prec": 4, "stock_prec": 2, "money_prec": 6, '
        '"min_amount": "1"}, {"name": "BTCBCH", "stock": "BTC", "money": "BCH", "fee_prec": 4, "stock_prec": 8, '
        '"money_prec": 8, "min_amount": "0.001"}]'
    )
