"""What the player writes into COMMAND records, and reads out of RESULT records, held against the engine itself."""

import random
from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest

from bus.codes import Code
from bus.messages import CommandKind, QueryKind, Records, Side
from conf import markets
from conf.settings import DEFAULT_MARKETS_FILE
from engine.exchange import Exchange
from engine.schema import Capacity
from market import bus_link
from market.bitstamp import Row
from market.links import MarketView
from market.orderflow import Flow, Reply, Request
from market.player import Player, Tally

LISTING = markets.load(DEFAULT_MARKETS_FILE)
MARKET = MarketView(
    name="BTCUSD",
    index=0,
    stock="BTC",
    money="USD",
    stock_prec=8,
    money_prec=8,
    fee_prec=4,
    shown_precs={"USD": 8, "BTC": 8, "ETH": 8},
    asset_indexes={"USD": 0, "BTC": 1, "ETH": 2},
)
USER_COUNT = 7
CAPACITY = Capacity(
    order_capacity=4096, level_capacity=4096, balance_capacity=64, user_market_capacity=64, update_capacity=64
)


class Engine:
    """A link to an Exchange in this process; replies come two frames late."""

    def __init__(self) -> None:
        self.exchange = Exchange(LISTING, CAPACITY)
        self._waiting: deque[list[Reply]] = deque()

    @property
    def in_flight_count(self) -> int:
        return sum(map(len, self._waiting))

    def market(self, name: str) -> MarketView:
        return MARKET

    def room_count(self) -> int:
        return 20 if len(self._waiting) < 3 else 0

    def send(self, requests: Sequence[Request]) -> None:
        commands, blob = bus_link.encode(requests, MARKET)
        applied = self.exchange.apply(commands, 1.0, blob_size=len(blob))
        self._waiting.append(bus_link.decode(requests, applied.results, 0.0))

    def replies(self, wait_s: float) -> list[Reply]:
        return self._waiting.popleft() if len(self._waiting) == 3 or (wait_s and self._waiting) else []

    def close(self) -> None:
        pass


def recorded(count: int) -> list[Row]:
    """Orders that are created, changed twice and deleted, many at a time, around one price."""
    draw = random.Random(1)
    rows = []
    for number in range(count):
        side, price = draw.choice((Side.ASK, Side.BID)), draw.randint(90, 110) * 10**8
        for step, (action, amount) in enumerate((("created", 9), ("changed", 7), ("changed", 3), ("deleted", 3))):
            rows.append(Row(number + step * 30, str(number), action, side, price, amount * 10**7))
    return sorted(rows)


def test_a_recording_goes_through_the_engine_and_leaves_nothing_behind() -> None:
    link, rows = Engine(), recorded(500)
    flow, tally, player = Flow(rows, USER_COUNT), Tally(), Player(link)
    player.fund(MARKET, rows, USER_COUNT)
    player.play(flow, tally, 0.0, lambda _: None)
    assert flow.row_count == len(rows)
    assert set(tally.refusals) <= {"cancel: order not found"}
    assert link.exchange.deal_id > 100
    assert tally.put_count > 500
    summary = link.exchange.answer(QueryKind.MARKETS).records[0]
    assert (summary["ask_count"], summary["bid_count"]) == (0, 0)
    link.exchange.audit()


def results_of(exchange: Exchange, requests: list[Request]) -> Records:
    commands, blob = bus_link.encode(requests, MARKET)
    return exchange.apply(commands, 1.0, blob_size=len(blob)).results


def test_a_deposit_of_more_than_64_bits_arrives_whole() -> None:
    exchange = Exchange(LISTING, CAPACITY)
    change = 10**21 + 7
    deposits = [
        Request(CommandKind.UPDATE_BALANCE, 5, asset="BTC", change_units=change, business_id=9),
        Request(CommandKind.UPDATE_BALANCE, 5, asset="BTC", change_units=change, business_id=9),
    ]
    assert list(results_of(exchange, deposits)["code"]) == [Code.OK, Code.REPEAT_UPDATE]
    (row,) = exchange.answer(QueryKind.BALANCES, user_id=5).records
    low, high = (int(half) for half in row["available_units"])
    assert (high << 64) + (low & (1 << 64) - 1) == change * 10**12


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1, 2**63, 2**64, 2**64 + 2**63, 10**30])
def test_a_number_is_split_into_its_halves(value: int) -> None:
    low, high = np.array(bus_link.split(value), "i8").tolist()
    assert (high << 64) + (low & (1 << 64) - 1) == value
