"""Assets and markets as operators write them: what is taken, and which sentence refuses the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from conf.markets import BadMarkets, Listing, load, parse, total_max_units

ASSETS = [{"name": "USD", "prec_save": 20, "prec_show": 8}, {"name": "BTC", "prec_save": 20}]
MARKET = {"name": "BTCUSD", "stock": {"name": "BTC", "prec": 8}, "money": {"name": "USD", "prec": 8}}


def listing(**changes: Any) -> Listing:
    """One market with some of its keys changed."""
    return parse({"assets": ASSETS, "markets": [MARKET | changes]})


def test_the_defaults_are_the_originals() -> None:
    made = listing()
    assert made.assets[1].prec_show == 20
    assert (made.markets[0].fee_prec, made.markets[0].min_amount) == (4, "0.01")


def test_unknown_keys_are_ignored_and_json_is_read_back() -> None:
    made = parse({"debug": True, "assets": ASSETS, "markets": [MARKET | {"note": 1}]})
    assert parse(json.loads(made.to_json())) == made


@pytest.mark.parametrize(
    ("written", "kept", "units", "prec"),
    [
        ("0.01", "0.01", 1, 2),
        ("1", "1", 1, 0),
        ("5.", "5", 5, 0),
        ("0.010", "0.010", 10, 3),
        ("007", "7", 7, 0),
        ("00.1", "0.1", 1, 1),
    ],
)
def test_a_least_amount_keeps_its_decimals_and_no_idle_zeros(written: str, kept: str, units: int, prec: int) -> None:
    market = listing(min_amount=written).markets[0]
    assert (market.min_amount, market.min_units, market.min_prec) == (kept, units, prec)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "name: 1 to 15 printable bytes"),
        ({"name": "B" * 16}, "name: 1 to 15 printable bytes"),
        ({"stock": {"name": "ETH", "prec": 8}}, "its asset ETH is not among the assets"),
        ({"stock": {"name": "USD", "prec": 8}}, "stock and money are both USD"),
        ({"stock": {"name": "BTC", "prec": 13}}, "stock prec \\+ money prec is 21, more than prec_save 20 of USD"),
        ({"fee_prec": 13}, "stock prec \\+ fee_prec is 21, more than prec_save 20 of BTC"),
        ({"fee_prec": -1}, "fee_prec: an integer from 0 to 18"),
        ({"fee_prec": True}, "fee_prec: an integer from 0 to 18"),
        ({"money": "USD"}, "an object is needed"),
        ({"min_amount": 0.01}, "a decimal number in quotes"),
        ({"min_amount": "1e-3"}, "a decimal number in quotes"),
        ({"min_amount": "-1"}, "a decimal number in quotes"),
        ({"min_amount": "0." + "1" * 19}, "more than 18 digits"),
    ],
)
def test_a_market_that_can_not_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadMarkets, match=sentence):
        listing(**changes)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "an object with the keys"),
        ({"assets": ASSETS}, "'markets': a list"),
        ({"assets": [], "markets": [MARKET]}, "'assets': a list"),
        ({"assets": [*ASSETS, ASSETS[0]], "markets": [MARKET]}, "asset USD is there 2 times"),
        ({"assets": ASSETS, "markets": [MARKET, MARKET]}, "market BTCUSD is there 2 times"),
        ({"assets": [{"name": "USD", "prec_save": 8, "prec_show": 9}], "markets": [MARKET]}, "from 0 to 8"),
        ({"assets": [{"name": "USD", "prec_save": 31}], "markets": [MARKET]}, "from 0 to 30"),
    ],
)
def test_a_document_that_can_not_be_is_refused(document: object, sentence: str) -> None:
    with pytest.raises(BadMarkets, match=sentence):
        parse(document)


def test_a_files_faults_name_the_file(tmp_path: Path) -> None:
    for name, text in (("m.json", "{"), ("m.toml", "= 1"), ("n.json", "[]")):
        file = tmp_path / name
        file.write_text(text)
        with pytest.raises(BadMarkets, match=name):
            load(file)


def test_toml_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "markets.toml"
    file.write_text(
        '[[assets]]\nname = "USD"\nprec_save = 20\nprec_show = 8\n[[assets]]\nname = "BTC"\nprec_save = 20\n'
        '[[markets]]\nname = "BTCUSD"\nstock = {name = "BTC", prec = 8}\nmoney = {name = "USD", prec = 8}\n'
    )
    assert load(file) == listing()


def test_fees_finer_than_the_balance_leave_less_room_for_totals() -> None:
    coarse = parse({"assets": [{"name": "USD", "prec_save": 16}, ASSETS[1]], "markets": [MARKET]})
    assert total_max_units(coarse, coarse.assets[0]) == 10 ** (37 - 4)
    assert total_max_units(coarse, coarse.assets[1]) == 10**37
