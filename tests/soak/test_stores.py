"""MySQL, Redis and Kafka against the journal: each check finds what is lost, doubled, changed or out of order."""

from decimal import Decimal
from typing import Any

import pytest

from tests.soak.checks.digests import Chain, difference, digest
from tests.soak.checks.stores import check_history, check_redis, check_topics

ROWS = [{"id": number, "price": Decimal("1.50")} for number in range(5)]


def chain(rows: list[Any]) -> Chain:
    return Chain(b"".join(map(digest, rows)))


def test_equal_numbers_have_the_same_digest_however_they_are_written() -> None:
    assert digest([Decimal("1.50"), Decimal("0E-30")]) == digest([Decimal("1.5"), Decimal(0)])
    assert digest(Decimal("1.50")) != digest(Decimal("1.51"))
    assert digest(Decimal(f"{10**40}.{'0' * 29}1")) != digest(Decimal(10**40))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ROWS[:4], ["4 instead of 5", "place 4", "1 missing"]),
        ([*ROWS, ROWS[0]], ["6 instead of 5", "1 doubled"]),
        ([*ROWS, {"id": 9}], ["1 unexpected"]),
        ([ROWS[1], ROWS[0], *ROWS[2:]], ["place 0", "the same ones in another order"]),
        ([{**ROWS[0], "price": Decimal("1.51")}, *ROWS[1:]], ["place 0", "1 missing", "1 unexpected"]),
        ([], ["0 instead of 5", "5 missing"]),
    ],
)
def test_a_difference_is_told_in_words(found: list[Any], words: list[str]) -> None:
    text = difference(chain(ROWS), chain(found))
    assert [word for word in words if word not in text] == []
    assert difference(chain(found), chain(found)) == ""


def test_a_table_or_topic_that_differs_is_named() -> None:
    wanted = {"order_detail_7": chain(ROWS), "deal_history_1": chain(ROWS)}
    assert check_history(wanted, dict(wanted)).agrees
    assert "10 rows" in check_history(wanted, dict(wanted)).text
    (fault,) = check_history(wanted, {"order_detail_7": chain(ROWS)}).faults
    assert fault.startswith("deal_history_1: 0 instead of 5")
    (fault,) = check_history(wanted, wanted | {"order_history_1": chain(ROWS[:1])}).faults
    assert fault.startswith("order_history_1: 1 instead of 0")
    assert check_topics({"deals": chain(ROWS)}, {"deals": chain(ROWS)}).agrees
    assert not check_topics({"deals": chain(ROWS)}, {"deals": chain([*ROWS, ROWS[4]])}).agrees


def keys() -> dict[str, Any]:
    return {
        "k:offset": "4",
        "k:BTCUSD:last": "1.50",
        "k:BTCUSD:deals": chain(ROWS),
        "k:BTCUSD:1m": {"60": [Decimal(1), Decimal(2)], "120": [Decimal(1), Decimal(3)]},
    }


def test_market_data_that_fits_agrees() -> None:
    assert check_redis(keys(), keys(), 9, {"number": 9}).agrees


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("k:offset", "3", "k:offset is 3, not 4"),
        ("k:BTCUSD:last", None, "k:BTCUSD:last is None, not 1.50"),
        ("k:BTCUSD:deals", chain(ROWS[1:]), "k:BTCUSD:deals: 4 instead of 5"),
        ("k:BTCUSD:1m", {"60": [Decimal(1), Decimal(2)]}, "k:BTCUSD:1m: 1 candles differ: 120 is None"),
        ("k:BTCUSD:1m", {**keys()["k:BTCUSD:1m"], "180": [Decimal(0)]}, "k:BTCUSD:1m: 1 candles differ: 180"),
        ("k:ETHUSD:last", "0", "k:ETHUSD:last is 0, not None"),
    ],
)
def test_market_data_that_does_not_fit_is_found(key: str, value: Any, text: str) -> None:
    (fault,) = check_redis(keys(), keys() | {key: value}, 9, {"number": 9}).faults
    assert fault.startswith(text)


@pytest.mark.parametrize("position", [None, {"number": 8}])
def test_a_position_that_is_not_the_last_is_found(position: Any) -> None:
    assert len(check_redis(keys(), keys(), 9, position).faults) == 1
