"""Rows as JSON: keys in the original's order, numbers with its columns' decimals, details as jansson writes them."""

import json
from decimal import Decimal

import pytest

from persist import replies
from persist.store import Change, Deal, Order, Page

TIME = 1511401234.5

CHANGE = Change(TIME, 7, "BTC", "trade", Decimal("-0.0010000000000"), Decimal("9.5"), '{"a": "1", "i": 3}')
ORDER = Order(
    id=61,
    create_time=TIME,
    finish_time=1511401235.0,
    user_id=7,
    market="BTCUSD",
    source='the "web"',
    type=2,
    side=1,
    price=Decimal("0E-8"),
    amount=Decimal("0.50000000"),
    taker_fee=Decimal("0.0010"),
    maker_fee=Decimal("0.0000"),
    deal_stock=Decimal("0.50000000"),
    deal_money=Decimal("50.1337912050000000"),
    deal_fee=Decimal("0.05013379120500000000"),
)
DEAL = Deal(
    time=TIME,
    user_id=7,
    market="BTCUSD",
    deal_id=27,
    order_id=61,
    deal_order_id=46,
    side=1,
    role=2,
    price=Decimal("100.26758241"),
    amount=Decimal("0.50000000"),
    deal=Decimal("50.1337912050000000"),
    fee=Decimal("0.0501337912050000004999"),
    deal_fee=Decimal(0),
)


@pytest.mark.parametrize(
    ("value", "prec", "text"),
    [
        ("0", 8, "0"),
        ("0E-20", 16, "0"),
        ("-0", 8, "0"),
        ("1", 8, "1"),
        ("100", 8, "100"),
        ("1E+3", 8, "1000"),
        ("100.50000000", 8, "100.5"),
        ("0.00000001", 8, "0.00000001"),
        ("0.000000000000000100", 16, "0.0000000000000001"),
        ("0.000000005", 8, "0.00000001"),
        ("0.0000000049999999999999999999", 8, "0"),
        ("-0.000000005", 8, "-0.00000001"),
        ("-0.0000000049", 8, "0"),
        ("-0.00022861109236500", 8, "-0.00022861"),
        ("0.99999999500000000001", 8, "1"),
        ("0.00005", 4, "0.0001"),
        (
            "99999999999999999999999999999999999.12345678901234567",
            16,
            "99999999999999999999999999999999999.1234567890123457",
        ),
    ],
)
def test_numbers_are_rounded_half_away_from_zero_and_plain(value: str, prec: int, text: str) -> None:
    assert replies.number(Decimal(value), prec) == text


def test_a_change() -> None:
    assert replies.change(CHANGE) == (
        '{"time": 1511401234.5, "asset": "BTC", "business": "trade", "change": "-0.001", "balance": "9.5", '
        '"detail": {"a": "1", "i": 3}}'
    )


def test_an_order() -> None:
    assert replies.order(ORDER) == (
        '{"id": 61, "ctime": 1511401234.5, "ftime": 1511401235.0, "user": 7, "market": "BTCUSD", '
        '"source": "the \\"web\\"", "type": 2, "side": 1, "price": "0", "amount": "0.5", "taker_fee": "0.001", '
        '"maker_fee": "0", "deal_stock": "0.5", "deal_money": "50.133791205", "deal_fee": "0.050133791205"}'
    )


def test_a_deal_of_an_order_and_of_a_user() -> None:
    traded = '"price": "100.26758241", "amount": "0.5", "deal": "50.133791205", "fee": "0.050133791205"'
    assert replies.deal_of_order(DEAL) == (
        f'{{"time": 1511401234.5, "user": 7, "id": 27, "role": 2, {traded}, "deal_order_id": 46}}'
    )
    assert replies.deal_of_user(DEAL) == (
        f'{{"time": 1511401234.5, "user": 7, "id": 27, "side": 1, "role": 2, {traded}, "deal_order_id": 46, '
        '"market": "BTCUSD"}'
    )


def test_a_page_echoes_what_was_asked() -> None:
    assert replies.page([], replies.order, Page(-5, 101)) == '{"offset": -5, "limit": 101, "records": []}'
    text = replies.page([DEAL, DEAL], replies.deal_of_user, Page(0, 2))
    one = replies.deal_of_user(DEAL)
    assert text == f'{{"offset": 0, "limit": 2, "records": [{one}, {one}]}}'


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("{}", "{}"),
        ("", "{}"),
        ("no JSON", "{}"),
        ("[1, 2]", "{}"),
        ("null", "{}"),
        ('{"a": NaN}', "{}"),
        ('{"a": 9223372036854775808}', "{}"),
        ('{"a": "\\u0000"}', "{}"),
        ('{"a": "\ud800"}', '{"a": "?"}'),
        (' { "b":1 ,"a" : [ ] } ', '{"b": 1, "a": []}'),
        ('{"k": 1, "id": 2, "k": 3}', '{"k": 3, "id": 2}'),
        ('{"a": 1.10, "b": 1E+20, "c": 1e-7}', '{"a": 1.1000000000000001, "b": 1e20, "c": 9.9999999999999995e-8}'),
        ('{"text": "\\u00e4\\/\\u001f"}', '{"text": "ä/\\u001F"}'),
        ('{"a":' * 1500 + "1" + "}" * 1500, "{}"),
    ],
)
def test_a_detail_is_a_json_object_whatever_is_stored(stored: str, text: str) -> None:
    assert replies.detail(stored) == text
    json.loads(text)


def test_a_deep_or_long_detail_is_written_as_it_is() -> None:
    deep = '{"a": ' * 1000 + "{}" + "}" * 1000
    assert replies.detail(deep) == deep
    long = json.dumps({"a": "é" * 60_000}, ensure_ascii=False)
    assert replies.detail(long) == long
