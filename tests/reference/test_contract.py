"""The twin itself, held to every worked example of CONTRACT 11 that is about the engine."""

import pytest

from bus.codes import Code
from bus.messages import Side
from conf.markets import parse
from tests.reference.exchange import Twin
from tests.reference.records import from_wide, limit, to_wide, update
from tests.reference.transcript import play, tidy

LISTING = parse({
    "assets": [
        {"name": "BTC", "prec_save": 12, "prec_show": 8},
        {"name": "BCH", "prec_save": 20, "prec_show": 8},
        {"name": "XYZ", "prec_save": 12, "prec_show": 8},
        {"name": "USDT", "prec_save": 12, "prec_show": 8},
    ],
    "markets": [
        {
            "name": "BTCBCH",
            "stock": {"name": "BTC", "prec": 8},
            "money": {"name": "BCH", "prec": 8},
            "fee_prec": 4,
            "min_amount": "0.001",
        },
        {
            "name": "XYZUSDT",
            "stock": {"name": "XYZ", "prec": 4},
            "money": {"name": "USDT", "prec": 8},
            "fee_prec": 4,
            "min_amount": "0.001",
        },
    ],
})

EXAMPLES = {
    "11.1 a limit buy crosses two makers, 11.2 a partial fill, a rest, a cancel": """
        > rates 0.002 0.001
        > ann gets 10 BTC
        total 10 BTC
        > bob gets 10 BTC
        total 10 BTC
        > cat gets 100000 BCH
        total 100000 BCH
        > ann sells 1.5 at 8000
        put 1: ann sells 1.5 at 8000, left 1.5
        > bob sells 2 at 8010
        put 2: bob sells 2 at 8010, left 2
        > balances ann
        BTC 8.5 frozen 1.5
        > balances bob
        BTC 8 frozen 2
        > cat buys 3 at 8020
        deal 1: 1.5 at 8000, ann 1 to cat 3
        finish 1: ann sells 1.5 at 8000, left 0, traded 1.5 for 12000, fee 12
        deal 2: 1.5 at 8010, bob 2 to cat 3
        update 2: bob sells 2 at 8010, left 0.5, traded 1.5 for 12015, fee 12.015
        finish 3: cat buys 3 at 8020, left 0, traded 3 for 24015, fee 0.006
        > balances ann
        BTC 8.5 frozen -
        BCH 11988 frozen -
        > balances bob
        BTC 8 frozen 0.5
        BCH 12002.985 frozen -
        > balances cat
        BTC 2.994 frozen -
        BCH 75985 frozen -

        > cat buys 1 at 8020
        deal 3: 0.5 at 8010, bob 2 to cat 4
        finish 2: bob sells 2 at 8010, left 0, traded 2 for 16020, fee 16.02
        put 4: cat buys 1 at 8020, left 0.5, traded 0.5 for 4005, fee 0.001
        > balances cat
        BTC 3.493 frozen -
        BCH 67970 frozen 4010
        > balances bob
        BTC 8 frozen -
        BCH 16003.98 frozen -
        > cat cancels 4
        finish 4: cat buys 1 at 8020, left 0.5, traded 0.5 for 4005, fee 0.001
        > balances cat
        BTC 3.493 frozen -
        BCH 71980 frozen -
        > cat cancels 4
        refused: order not found
    """,
    "11.3 a market buy, whose amount is money, 11.4 a market sell": r"""
        > ann gets 1 BTC
        total 1 BTC
        > bob gets 1 BTC
        total 1 BTC
        > cat gets 1000 BCH
        total 1000 BCH
        > rates 0.002 0.001
        > ann sells 0.1 at 3000
        put 1: ann sells 0.1 at 3000, left 0.1
        > bob sells 1 at 3333.33
        put 2: bob sells 1 at 3333.33, left 1
        > cat buys for 1000 at market      # 700 buy 0.21000021 at 3333.33
        deal 1: 0.1 at 3000, ann 1 to cat 3
        finish 1: ann sells 0.1 at 3000, left 0, traded 0.1 for 300, fee 0.3
        deal 2: 0.21000021 at 3333.33, bob 2 to cat 3
        update 2: bob sells 1 at 3333.33, left 0.78999979, traded 0.21000021 for 699.9999999993, fee 0.6999999999993
        finish 3: cat buys for 1000 at market, left 0.0000000007, \
            traded 0.31000021 for 999.9999999993, fee 0.00062000042
        > balances cat
        BTC 0.30938020958 frozen -
        BCH 0.0000000007 frozen -
        > balances bob
        BTC - frozen 0.78999979
        BCH 699.2999999993007 frozen -

        > bob cancels 2
        finish 2: bob sells 1 at 3333.33, left 0.78999979, traded 0.21000021 for 699.9999999993, fee 0.6999999999993
        > dan gets 5000 BCH
        total 5000 BCH
        > dan buys 1 at 2900
        put 4: dan buys 1 at 2900, left 1
        > ann sells 0.5 at market
        deal 3: 0.5 at 2900, ann 5 to dan 4
        update 4: dan buys 1 at 2900, left 0.5, traded 0.5 for 1450, fee 0.0005
        finish 5: ann sells 0.5 at market, left 0, traded 0.5 for 1450, fee 2.9
        > balances ann
        BTC 0.4 frozen -
        BCH 1746.8 frozen -                # 299.7 + 1447.1
        > balances dan
        BTC 0.4995 frozen -
        BCH 2100 frozen 1450

        > ann sells 0.0005 at market
        refused: amount too small
        > ann buys for 99999 at market
        refused: order balance not enough
        > ann buys for 1 at market
        refused: no enough trader
        > ann sells 0.0005 at 1
        refused: amount too small
        > eve sells 0.0005 at 1
        refused: order balance not enough
    """,
    "11.5 a fee with more decimals than the balance that pays it": """
        > market XYZUSDT
        > ann gets 2 XYZ
        total 2 XYZ
        > bob gets 1 USDT
        total 1 USDT
        > bob buys 1.2345 at 0.12345678
        put 1: bob buys 1.2345 at 0.12345678, left 1.2345
        > balances bob
        USDT 0.84759260509 frozen 0.15240739491
        > rates 0.0015 0
        > ann sells 1.2345 at 0.1
        deal 1: 1.2345 at 0.12345678, ann 2 to bob 1
        finish 1: bob buys 1.2345 at 0.12345678, left 0, traded 1.2345 for 0.15240739491, fee 0
        finish 2: ann sells 1.2345 at 0.1, left 0, traded 1.2345 for 0.15240739491, fee 0.000228611092365
        > balances ann
        XYZ 0.7655 frozen -
        USDT 0.152178783817 frozen -
    """,
    "11.6 the smallest numbers": """
        > ann gets 0.00000012 BTC
        total 0.00000012 BTC
        > bob gets 1 BTC
        total 1 BTC
        > cat gets 1 BCH
        total 1 BCH
        > cat buys 0.001 at 0.00000001
        put 1: cat buys 0.001 at 0.00000001, left 0.001
        > bob sells 0.001 at 0.00000001
        deal 1: 0.001 at 0.00000001, bob 2 to cat 1
        finish 1: cat buys 0.001 at 0.00000001, left 0, traded 0.001 for 0.00000000001, fee 0
        finish 2: bob sells 0.001 at 0.00000001, left 0, traded 0.001 for 0.00000000001, fee 0
        > balances bob
        BTC 0.999 frozen -
        BCH 0.00000000001 frozen -
    """,
    "11.7 balance updates": """
        > ann gets 1.2345 BTC as deposit 100
        total 1.2345 BTC
        > ann gets 1.2345 BTC as deposit 100
        refused: repeat update
        > ann gives 1.23450001 BTC
        refused: update balance not enough
        > ann gives 1.2345 BTC
        total 0 BTC
        > balances ann
        > ann gets 1.2345 BTC as deposit 100
        refused: repeat update
        > wait 86399.5
        > ann gets 1.2345 BTC as deposit 100
        refused: repeat update
        > wait 0.5
        > ann gets 1.2345 BTC as deposit 100
        total 1.2345 BTC
    """,
    "11.8 depth merged": """
        > ann gets 10 BTC
        total 10 BTC
        > bob gets 100000 BCH
        total 100000 BCH
        > ann sells 1 at 8000.005
        put 1: ann sells 1 at 8000.005, left 1
        > ann sells 2 at 8000.01
        put 2: ann sells 2 at 8000.01, left 2
        > ann sells 1 at 8000.011
        put 3: ann sells 1 at 8000.011, left 1
        > bob buys 1 at 7999.999
        put 4: bob buys 1 at 7999.999, left 1
        > bob buys 2 at 7999.99
        put 5: bob buys 2 at 7999.99, left 2
        > bob buys 1 at 7999.98
        put 6: bob buys 1 at 7999.98, left 1
        > depth 101 by 0.01
        ask 8000.02 1
        ask 8000.01 3
        bid 7999.99 3
        bid 7999.98 1
        > depth 101 by 0
        ask 8000.011 1
        ask 8000.01 2
        ask 8000.005 1
        bid 7999.999 1
        bid 7999.99 2
        bid 7999.98 1
        > depth 1 by 0.01
        ask 8000.01 3
        bid 7999.99 3
        > depth 0 by 0
    """,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_example(name: str) -> None:
    assert play(Twin(LISTING), LISTING, EXAMPLES[name]) == tidy(EXAMPLES[name])


def test_every_step_of_the_first_deal_follows_from_its_totals() -> None:
    """The history rows of 11.1, from the totals that the deal event carries and the exact fee."""
    twin = Twin(LISTING)
    btc, bch = 10**8, 10**8
    twin.apply([update(1, 0, 10 * btc, 1), update(3, 1, 100_000 * bch, 1)], 1.0)
    sell = limit(1, 0, Side.ASK, 15 * btc // 10, 8000 * bch, 20, 10)
    buy = limit(3, 0, Side.BID, 15 * btc // 10, 8000 * bch, 20, 10)
    deal = twin.apply([sell, buy], 2.0).events[1]
    assert {name: deal[name] for name in deal if name.endswith("total_units")} == {
        "bid_money_total_units": 88_000 * 10**20,
        "bid_stock_total_units": 1_497 * 10**9,  # 1.5 and then 0.003 of fee
        "ask_stock_total_units": 85 * 10**11,
        "ask_money_total_units": 11_988 * 10**20,  # 12000 and then 12 of fee
    }


@pytest.mark.parametrize("number", [0, 1, -1, 2**63, -(2**63), 2**64, 10**37, -(10**37), 2**127 - 1, -(2**127)])
def test_wide_numbers_survive_their_halves(number: int) -> None:
    low, high = from_wide(number)
    assert -(2**63) <= low < 2**63
    assert to_wide(low, high) == number


def test_a_business_id_of_another_asset_user_or_business_is_no_repeat() -> None:
    first = update(1, 0, 5, 100)
    others = (update(2, 0, 5, 100), update(1, 1, 5, 100), update(1, 0, 5, 101), update(1, 0, 5, 100, b"reward"))
    results = Twin(LISTING).apply([first, *others, first], 1.0).results
    assert [result["code"] for result in results] == [Code.OK] * 5 + [Code.REPEAT_UPDATE]
