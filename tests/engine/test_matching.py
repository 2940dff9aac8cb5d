"""What the exchange does, told as a trader sees it (see tests/reference/transcript.py), by the engine and by the twin.

BTC is traded for USD with 4 decimals of each, rates have 4 decimals, the least amount is 0.01 BTC. GEM is traded whole,
for BTC. BTCFINE has prices so fine that fees get more decimals than USD keeps.
Everybody starts with 100 BTC and 100000 USD (ann to dan); eve has nothing.
"""

import textwrap
from collections.abc import Callable

import pytest

from conf.markets import Listing, parse
from tests.engine.driver import Driver
from tests.reference.exchange import Twin
from tests.reference.records import update
from tests.reference.transcript import Venue, play, tidy

LISTING = parse({
    "assets": [
        {"name": "BTC", "prec_save": 8, "prec_show": 4},
        {"name": "USD", "prec_save": 12, "prec_show": 4},
        {"name": "GEM", "prec_save": 2, "prec_show": 0},
    ],
    "markets": [
        {
            "name": "BTCUSD",
            "stock": {"name": "BTC", "prec": 4},
            "money": {"name": "USD", "prec": 4},
            "fee_prec": 4,
            "min_amount": "0.01",
        },
        {
            "name": "GEMBTC",
            "stock": {"name": "GEM", "prec": 0},
            "money": {"name": "BTC", "prec": 4},
            "fee_prec": 2,
            "min_amount": "1",
        },
        {
            "name": "BTCFINE",
            "stock": {"name": "BTC", "prec": 4},
            "money": {"name": "USD", "prec": 8},
            "fee_prec": 4,
            "min_amount": "0.0001",
        },
    ],
})

SCENARIOS = {
    "an order that crosses nothing rests and freezes what it may cost": """
        > ann sells 2 at 101
        put 1: ann sells 2 at 101, left 2
        > bob buys 3 at 99.5
        put 2: bob buys 3 at 99.5, left 3
        > book
        ask 101 2 ann 1
        bid 99.5 3 bob 2
        > balances ann
        BTC 98 frozen 2
        USD 100000 frozen -
        > balances bob
        BTC 100 frozen -
        USD 99701.5 frozen 298.5
    """,
    "the price of a deal is the maker's: a buyer who bids too much keeps the difference": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob buys 1 at 120
        deal 1: 1 at 100, ann 1 to bob 2
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 0
        finish 2: bob buys 1 at 120, left 0, traded 1 for 100, fee 0
        > balances bob
        BTC 101 frozen -
        USD 99900 frozen -
    """,
    "the price of a deal is the maker's: a seller who asks too little gets more": """
        > ann buys 1 at 120
        put 1: ann buys 1 at 120, left 1
        > bob sells 1 at 100
        deal 1: 1 at 120, bob 2 to ann 1
        finish 1: ann buys 1 at 120, left 0, traded 1 for 120, fee 0
        finish 2: bob sells 1 at 100, left 0, traded 1 for 120, fee 0
    """,
    "equal prices cross": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob buys 1 at 100
        deal 1: 1 at 100, ann 1 to bob 2
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 0
        finish 2: bob buys 1 at 100, left 0, traded 1 for 100, fee 0
    """,
    "one unit of price apart does not cross": """
        > ann sells 1 at 100.0001
        put 1: ann sells 1 at 100.0001, left 1
        > bob buys 1 at 100
        put 2: bob buys 1 at 100, left 1
    """,
    "the best price trades first, whenever it came": """
        > ann sells 1 at 103
        put 1: ann sells 1 at 103, left 1
        > bob sells 1 at 101
        put 2: bob sells 1 at 101, left 1
        > cat sells 1 at 102
        put 3: cat sells 1 at 102, left 1
        > book
        ask 103 1 ann 1
        ask 102 1 cat 3
        ask 101 1 bob 2
        > dan buys 2 at 110
        deal 1: 1 at 101, bob 2 to dan 4
        finish 2: bob sells 1 at 101, left 0, traded 1 for 101, fee 0
        deal 2: 1 at 102, cat 3 to dan 4
        finish 3: cat sells 1 at 102, left 0, traded 1 for 102, fee 0
        finish 4: dan buys 2 at 110, left 0, traded 2 for 203, fee 0
        > book
        ask 103 1 ann 1
    """,
    "at one price the oldest trades first, and a partly filled one keeps its place": """
        > ann buys 1 at 100
        put 1: ann buys 1 at 100, left 1
        > bob buys 1 at 100
        put 2: bob buys 1 at 100, left 1
        > cat sells 0.4 at 100
        deal 1: 0.4 at 100, cat 3 to ann 1
        update 1: ann buys 1 at 100, left 0.6, traded 0.4 for 40, fee 0
        finish 3: cat sells 0.4 at 100, left 0, traded 0.4 for 40, fee 0
        > book
        bid 100 0.6 ann 1
        bid 100 1 bob 2
        > cat sells 1 at 100
        deal 2: 0.6 at 100, cat 4 to ann 1
        finish 1: ann buys 1 at 100, left 0, traded 1 for 100, fee 0
        deal 3: 0.4 at 100, cat 4 to bob 2
        update 2: bob buys 1 at 100, left 0.6, traded 0.4 for 40, fee 0
        finish 4: cat sells 1 at 100, left 0, traded 1 for 100, fee 0
    """,
    "an order that sweeps the book rests with what is left, at its own price": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob sells 1 at 105
        put 2: bob sells 1 at 105, left 1
        > cat buys 5 at 104
        deal 1: 1 at 100, ann 1 to cat 3
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 0
        put 3: cat buys 5 at 104, left 4, traded 1 for 100, fee 0
        > book
        ask 105 1 bob 2
        bid 104 4 cat 3
        > balances cat
        BTC 101 frozen -
        USD 99484 frozen 416            # 4 at 104; the 4 that the deal saved were never taken
    """,
    "the seller pays his fee in money, the buyer in stock": """
        > rates 0.02 0.01
        > ann sells 2 at 100
        put 1: ann sells 2 at 100, left 2
        > bob buys 1 at 100
        deal 1: 1 at 100, ann 1 to bob 2
        update 1: ann sells 2 at 100, left 1, traded 1 for 100, fee 1
        finish 2: bob buys 1 at 100, left 0, traded 1 for 100, fee 0.02
        > balances ann
        BTC 98 frozen 1
        USD 100099 frozen -
        > balances bob
        BTC 100.98 frozen -
        USD 99900 frozen -
    """,
    "each pays the rate of his own order: taker of the later, maker of the earlier": """
        > rates 0.5 0.25
        > ann buys 1 at 100
        put 1: ann buys 1 at 100, left 1
        > rates 0.1 0.75
        > bob sells 1 at 100
        deal 1: 1 at 100, bob 2 to ann 1
        finish 1: ann buys 1 at 100, left 0, traded 1 for 100, fee 0.25
        finish 2: bob sells 1 at 100, left 0, traded 1 for 100, fee 10
    """,
    "trading with oneself is a deal like any other, and pays both fees": """
        > rates 0.02 0.01
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > ann buys 1 at 100
        deal 1: 1 at 100, ann 1 to ann 2
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 1
        finish 2: ann buys 1 at 100, left 0, traded 1 for 100, fee 0.02
        > balances ann
        BTC 99.98 frozen -
        USD 99999 frozen -
    """,
    "a market sell takes every price; what finds no buyer stays with the seller": """
        > ann buys 1 at 100
        put 1: ann buys 1 at 100, left 1
        > bob buys 1 at 1
        put 2: bob buys 1 at 1, left 1
        > cat sells 3 at market
        deal 1: 1 at 100, cat 3 to ann 1
        finish 1: ann buys 1 at 100, left 0, traded 1 for 100, fee 0
        deal 2: 1 at 1, cat 3 to bob 2
        finish 2: bob buys 1 at 1, left 0, traded 1 for 1, fee 0
        finish 3: cat sells 3 at market, left 1, traded 2 for 101, fee 0
        > balances cat
        BTC 98 frozen -
        USD 100101 frozen -
    """,
    "a market buy spends money, at most what it said": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob sells 5 at 200
        put 2: bob sells 5 at 200, left 5
        > cat buys for 400 at market
        deal 1: 1 at 100, ann 1 to cat 3
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 0
        deal 2: 1.5 at 200, bob 2 to cat 3
        update 2: bob sells 5 at 200, left 3.5, traded 1.5 for 300, fee 0
        finish 3: cat buys for 400 at market, left 0, traded 2.5 for 400, fee 0
    """,
    "a market buy gets no fraction of a unit; the money for it stays with the buyer": """
        > ann sells 5 at 3
        put 1: ann sells 5 at 3, left 5
        > bob buys for 1 at market
        deal 1: 0.3333 at 3, ann 1 to bob 2
        update 1: ann sells 5 at 3, left 4.6667, traded 0.3333 for 0.9999, fee 0
        finish 2: bob buys for 1 at market, left 0.0001, traded 0.3333 for 0.9999, fee 0
    """,
    "a market buy goes on to worse prices until it can't buy one unit": """
        > ann sells 0.01 at 1
        put 1: ann sells 0.01 at 1, left 0.01
        > bob sells 1 at 40000
        put 2: bob sells 1 at 40000, left 1
        > cat buys for 4.2 at market
        deal 1: 0.01 at 1, ann 1 to cat 3
        finish 1: ann sells 0.01 at 1, left 0, traded 0.01 for 0.01, fee 0
        deal 2: 0.0001 at 40000, bob 2 to cat 3
        update 2: bob sells 1 at 40000, left 0.9999, traded 0.0001 for 4, fee 0
        finish 3: cat buys for 4.2 at market, left 0.19, traded 0.0101 for 4.01, fee 0
    """,
    "a market buy larger than the book leaves the rest of the money": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob buys for 1000 at market
        deal 1: 1 at 100, ann 1 to bob 2
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 0
        finish 2: bob buys for 1000 at market, left 900, traded 1 for 100, fee 0
        > book
        > balances bob
        BTC 101 frozen -
        USD 99900 frozen -
    """,
    "a market order is refused without money, then without a book, then when it is too small": """
        > eve buys for 1 at market
        refused: order balance not enough
        > ann buys for 1 at market
        refused: no enough trader
        > ann sells 0.0001 at market
        refused: no enough trader
        > bob buys 1 at 100
        put 1: bob buys 1 at 100, left 1
        > ann sells 0.0099 at market
        refused: amount too small
        > eve sells 0.0099 at market
        refused: order balance not enough
        > bob sells 1 at 200
        put 2: bob sells 1 at 200, left 1
        > ann buys for 1.9999 at market      # the least is 0.01 at the best price: 2
        refused: amount too small
        > ann buys for 2 at market
        deal 1: 0.01 at 200, bob 2 to ann 3
        update 2: bob sells 1 at 200, left 0.99, traded 0.01 for 2, fee 0
        finish 3: ann buys for 2 at market, left 0, traded 0.01 for 2, fee 0
    """,
    "a limit order is refused without money, then when it is too small, and uses up no id": """
        > eve sells 0.0099 at 1
        refused: order balance not enough
        > ann sells 0.0099 at 1
        refused: amount too small
        > ann buys 1000.0001 at 100
        refused: order balance not enough
        > ann buys 1000 at 100
        put 1: ann buys 1000 at 100, left 1000
        > ann buys 0.01 at 0.0001
        refused: order balance not enough
    """,
    "what is frozen can't be sold again, spent or withdrawn": """
        > ann sells 99 at 100
        put 1: ann sells 99 at 100, left 99
        > ann sells 2 at 100
        refused: order balance not enough
        > ann gives 2 BTC
        refused: update balance not enough
        > ann gives 1 BTC
        total 99 BTC
        > balances ann
        BTC - frozen 99
        USD 100000 frozen -
    """,
    "a cancel gives back what is still frozen and shows the order as it was": """
        > ann buys 4 at 100
        put 1: ann buys 4 at 100, left 4
        > bob sells 1 at 100
        deal 1: 1 at 100, bob 2 to ann 1
        update 1: ann buys 4 at 100, left 3, traded 1 for 100, fee 0
        finish 2: bob sells 1 at 100, left 0, traded 1 for 100, fee 0
        > ann cancels 1
        finish 1: ann buys 4 at 100, left 3, traded 1 for 100, fee 0
        > balances ann
        BTC 101 frozen -
        USD 99900 frozen -
        > book
    """,
    "only the owner cancels, only what rests, only in its market": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob cancels 1
        refused: user not match
        > ann cancels 2
        refused: order not found
        > market GEMBTC
        > ann cancels 1
        refused: order not found
        > bob cancels 1
        refused: order not found
        > market BTCUSD
        > ann cancels 1
        finish 1: ann sells 1 at 100, left 1
        > ann cancels 1
        refused: order not found
    """,
    "a cancel in the middle of a price's queue leaves the others in their order": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > bob sells 1 at 100
        put 2: bob sells 1 at 100, left 1
        > cat sells 1 at 100
        put 3: cat sells 1 at 100, left 1
        > bob cancels 2
        finish 2: bob sells 1 at 100, left 1
        > bob sells 1 at 100
        put 4: bob sells 1 at 100, left 1
        > book
        ask 100 1 bob 4
        ask 100 1 cat 3
        ask 100 1 ann 1
    """,
    "markets share balances, order ids and deal ids, not books": """
        > ann gets 10 GEM
        total 10 GEM
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > market GEMBTC
        > ann sells 10 at 99
        put 2: ann sells 10 at 99, left 10
        > bob buys 1 at 99
        deal 1: 1 at 99, ann 2 to bob 3
        update 2: ann sells 10 at 99, left 9, traded 1 for 99, fee 0
        finish 3: bob buys 1 at 99, left 0, traded 1 for 99, fee 0
        > market BTCUSD
        > bob sells 1.01 at 100
        refused: order balance not enough
        > ann buys 1 at 100
        deal 2: 1 at 100, ann 1 to ann 4
        finish 1: ann sells 1 at 100, left 0, traded 1 for 100, fee 0
        finish 4: ann buys 1 at 100, left 0, traded 1 for 100, fee 0
    """,
    "a fee below the balance's last decimal is charged as one unit of it": """
        > market GEMBTC
        > ann gets 1 GEM
        total 1 GEM
        > rates 0.01 0.01
        > bob buys 1 at 0.0001
        put 1: bob buys 1 at 0.0001, left 1
        > ann sells 1 at 0.0001
        deal 1: 1 at 0.0001, ann 2 to bob 1
        finish 1: bob buys 1 at 0.0001, left 0, traded 1 for 0.0001, fee 0.01
        finish 2: ann sells 1 at 0.0001, left 0, traded 1 for 0.0001, fee 0.000001
        > balances ann
        BTC 100.000099 frozen -
        USD 100000 frozen -
        > balances bob
        BTC 99.9999 frozen -
        USD 100000 frozen -
        GEM 0.99 frozen -
    """,
    "a balance that a fee's rounding makes zero stays as an entry; adding nothing leaves it": """
        > market BTCFINE
        > rates 0.5 0
        > bob buys 0.0002 at 0.00000001
        put 1: bob buys 0.0002 at 0.00000001, left 0.0002
        > eve gets 0.0002 BTC
        total 0.0002 BTC
        > eve sells 0.0001 at 0.00000001
        deal 1: 0.0001 at 0.00000001, eve 2 to bob 1
        update 1: bob buys 0.0002 at 0.00000001, left 0.0001, traded 0.0001 for 0.000000000001, fee 0
        finish 2: eve sells 0.0001 at 0.00000001, left 0, traded 0.0001 for 0.000000000001, fee 0.0000000000005
        > balances eve
        BTC 0.0001 frozen -
        USD 0 frozen -
        > eve gets 0 USD
        total 0 USD
        > balances eve
        BTC 0.0001 frozen -
        USD 0 frozen -
        > eve gets 1 USD
        total 1 USD
        > eve gives 1 USD
        total 0 USD
        > balances eve
        BTC 0.0001 frozen -
    """,
    "a balance that comes to nothing is no entry any more": """
        > eve gets 1 BTC
        total 1 BTC
        > eve sells 1 at 100
        put 1: eve sells 1 at 100, left 1
        > balances eve
        BTC - frozen 1
        > eve cancels 1
        finish 1: eve sells 1 at 100, left 1
        > balances eve
        BTC 1 frozen -
        > eve gives 1 BTC
        total 0 BTC
        > balances eve
    """,
    "an update by nothing is an update: it repeats, and makes no entry": """
        > eve gets 0 BTC as gift 1
        total 0 BTC
        > eve gets 0 BTC as gift 1
        refused: repeat update
        > balances eve
    """,
    "a refused update is not remembered": """
        > eve gives 1 BTC as bill 7
        refused: update balance not enough
        > eve gets 2 BTC
        total 2 BTC
        > eve gives 1 BTC as bill 7
        total 1 BTC
        > eve gives 1 BTC as bill 7
        refused: repeat update
        > wait 86400
        > eve gives 1 BTC as bill 7
        total 0 BTC
    """,
    "pending orders come newest first, a page at a time": """
        > ann sells 1 at 100
        put 1: ann sells 1 at 100, left 1
        > ann buys 1 at 90
        put 2: ann buys 1 at 90, left 1
        > ann sells 1 at 99
        put 3: ann sells 1 at 99, left 1
        > bob sells 1 at 99
        put 4: bob sells 1 at 99, left 1
        > pending ann from 0 count 2
        3: ann sells 1 at 99, left 1
        2: ann buys 1 at 90, left 1
        of 3
        > pending ann from 2 count 2
        1: ann sells 1 at 100, left 1
        of 3
        > pending ann from 3 count 2
        of 3
        > pending ann from -1 count 2
        of 3
        > pending cat from 0 count 101
        of 0
    """,
    "depth adds up what is left, at multiples of the interval away from the middle": """
        > ann sells 1 at 100.5
        put 1: ann sells 1 at 100.5, left 1
        > bob sells 2 at 100.5
        put 2: bob sells 2 at 100.5, left 2
        > ann sells 4 at 101
        put 3: ann sells 4 at 101, left 4
        > ann sells 8 at 101.0001
        put 4: ann sells 8 at 101.0001, left 8
        > cat buys 1 at 99.9999
        put 5: cat buys 1 at 99.9999, left 1
        > cat buys 2 at 99
        put 6: cat buys 2 at 99, left 2
        > cat buys 4 at 98.9999
        put 7: cat buys 4 at 98.9999, left 4
        > depth 101 by 0
        ask 101.0001 8
        ask 101 4
        ask 100.5 3
        bid 99.9999 1
        bid 99 2
        bid 98.9999 4
        > depth 101 by 1
        ask 102 8
        ask 101 7
        bid 99 3
        bid 98 4
        > depth 2 by 0
        ask 101 4
        ask 100.5 3
        bid 99.9999 1
        bid 99 2
        > depth 101 by 1000
        ask 1000 15
        bid 0 7
    """,
}


def twin_venue(listing: Listing) -> Venue:
    return Twin(listing)


def engine_venue(listing: Listing) -> Venue:
    return Driver(listing)


@pytest.mark.parametrize("make", [engine_venue, twin_venue], ids=["engine", "twin"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, make: Callable[[Listing], Venue]) -> None:
    venue = make(LISTING)
    venue.apply([update(user, 0, 100 * 10**4, 1) for user in (1, 2, 3, 4)], 1.0)
    venue.apply([update(user, 1, 100_000 * 10**4, 1) for user in (1, 2, 3, 4)], 1.0)
    assert play(venue, LISTING, SCENARIOS[name]) == tidy(SCENARIOS[name])


def test_a_transcript_with_another_answer_is_noticed() -> None:
    script = textwrap.dedent("""
        > eve gets 1 BTC
        total 2 BTC
    """)
    assert play(Twin(LISTING), LISTING, script) != tidy(script)
