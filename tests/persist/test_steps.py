"""The steps of a deal: the worked examples, any numbers against decimals that go forward, and whole flows."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.catalog import Asset, Catalog, Market
from bus.messages import EventKind, Frame, Side
from bus.text import base
from persist.steps import BUSINESS, DEAL_STRUCT, DealSide, charge, sides, steps
from tests.engine.driver import Driver
from tests.persist.making import catalog_of, random_play
from tests.reference.exact import exactly, from_units, to_units, truncate
from tests.reference.history import Row, history_of
from tests.reference.records import Command, limit, update
from tests.reference.test_contract import LISTING

BTC, BCH, XYZ, USDT = range(4)
WEB, API = b"web", b"api"


def rows_of(commands: list[Command]) -> list[str]:
    """The rows of balance_history that the deals of some commands leave: user, asset, change, balance, detail."""
    driver = Driver(LISTING)
    driver.apply(commands, 1.0)
    markets = catalog_of(driver.exchange).market_by_index
    rows = []
    for events in driver.events:
        for fields in DEAL_STRUCT.iter_unpack(events[events["kind"] == EventKind.DEAL].tobytes()):
            for side in sides(fields, markets[fields[6]]):
                for asset, change, prec, balance, detail in steps(side):
                    changed, held = base(change, prec), base(balance, asset.prec_save)
                    rows.append(f"{side.user_id} {asset.name} {changed} {held} {detail}")
    return rows


def test_a_buy_that_crosses_two_sellers() -> None:
    """CONTRACT 11.1, to the digit."""
    rows = rows_of([
        update(1, BTC, 10 * 10**8, 1),
        update(2, BTC, 10 * 10**8, 2),
        update(3, BCH, 100_000 * 10**8, 3),
        limit(1, 0, Side.ASK, 150_000_000, 8000 * 10**8, 20, 10, WEB),
        limit(2, 0, Side.ASK, 200_000_000, 8010 * 10**8, 20, 10, WEB),
        limit(3, 0, Side.BID, 300_000_000, 8020 * 10**8, 20, 10, API),
    ])
    assert rows == [
        '3 BCH -12000.0000000000000000 88000.00000000000000000000 {"a": "1.5", "i": 3, "m": "BTCBCH", "p": "8000"}',
        '3 BTC 1.50000000 1.500000000000 {"a": "1.5", "i": 3, "m": "BTCBCH", "p": "8000"}',
        '3 BTC -0.003000000000 1.497000000000 {"a": "1.5", "f": "0.002", "i": 3, "m": "BTCBCH", "p": "8000"}',
        '1 BTC -1.50000000 8.500000000000 {"a": "1.5", "i": 1, "m": "BTCBCH", "p": "8000"}',
        '1 BCH 12000.0000000000000000 12000.00000000000000000000 {"a": "1.5", "i": 1, "m": "BTCBCH", "p": "8000"}',
        "1 BCH -12.00000000000000000000 11988.00000000000000000000 "
        '{"a": "1.5", "f": "0.001", "i": 1, "m": "BTCBCH", "p": "8000"}',
        '3 BCH -12015.0000000000000000 75985.00000000000000000000 {"a": "1.5", "i": 3, "m": "BTCBCH", "p": "8010"}',
        '3 BTC 1.50000000 2.997000000000 {"a": "1.5", "i": 3, "m": "BTCBCH", "p": "8010"}',
        '3 BTC -0.003000000000 2.994000000000 {"a": "1.5", "f": "0.002", "i": 3, "m": "BTCBCH", "p": "8010"}',
        '2 BTC -1.50000000 8.500000000000 {"a": "1.5", "i": 2, "m": "BTCBCH", "p": "8010"}',
        '2 BCH 12015.0000000000000000 12015.00000000000000000000 {"a": "1.5", "i": 2, "m": "BTCBCH", "p": "8010"}',
        "2 BCH -12.01500000000000000000 12002.98500000000000000000 "
        '{"a": "1.5", "f": "0.001", "i": 2, "m": "BTCBCH", "p": "8010"}',
    ]


def test_a_fee_more_precise_than_the_balance_is_charged_rounded_up() -> None:
    """CONTRACT 11.5: the row tells the exact fee, the balance what is left of it."""
    rows = rows_of([
        update(1, XYZ, 2 * 10**8, 1),
        update(2, USDT, 10**8, 2),
        limit(2, 1, Side.BID, 12_345, 12_345_678),
        limit(1, 1, Side.ASK, 12_345, 10_000_000, 15),
    ])
    shared = '"i": 2, "m": "XYZUSDT", "p": "0.12345678"'
    assert rows == [
        f'1 XYZ -1.2345 0.765500000000 {{"a": "1.2345", {shared}}}',
        f'1 USDT 0.152407394910 0.152407394910 {{"a": "1.2345", {shared}}}',
        f'1 USDT -0.0002286110923650 0.152178783817 {{"a": "1.2345", "f": "0.0015", {shared}}}',
        '2 USDT -0.152407394910 0.847592605090 {"a": "1.2345", "i": 1, "m": "XYZUSDT", "p": "0.12345678"}',
        '2 XYZ 1.2345 1.234500000000 {"a": "1.2345", "i": 1, "m": "XYZUSDT", "p": "0.12345678"}',
    ]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """Any precisions that a market may have (CONTRACT 2.1), and a name that JSON has to quote."""
    stock_prec, money_prec, fee_prec = (draw(st.integers(0, 10)) for _ in range(3))
    stock = _asset("STOCK", draw(st.integers(stock_prec + fee_prec, 30)))
    money = _asset("MONEY", draw(st.integers(max(stock_prec, fee_prec) + money_prec, 30)))
    return Market(
        index=0,
        name='a"b',
        quoted='"a\\"b"',
        stock=stock,
        money=money,
        stock_prec=stock_prec,
        money_prec=money_prec,
        fee_prec=fee_prec,
        deal_prec=stock_prec + money_prec,
        ask_fee_prec=stock_prec + money_prec + fee_prec,
        bid_fee_prec=stock_prec + fee_prec,
        rate_one_units=10**fee_prec,
    )


def _asset(name: str, prec_save: int) -> Asset:
    return Asset(0, name, f'"{name}"', prec_save, prec_save, 1)


NUMBERS = st.integers(1, 10**18 - 1) | st.integers(1, 1000)
TOTALS = st.integers(0, 10**37) | st.integers(0, 100)


@given(markets(), st.sampled_from(Side), NUMBERS, NUMBERS, st.data())
@exactly
def test_steps_are_what_truncated_balances_went_through(
    market: Market, side: Side, price: int, amount: int, data: st.DataObject
) -> None:
    """A plain ledger goes forward: each result is cut to what the balance keeps (CONTRACT 2.4)."""
    rate = data.draw(st.integers(0, market.rate_one_units - 1))
    before = {"STOCK": data.draw(TOTALS), "MONEY": data.draw(TOTALS)}
    prices, amounts = from_units(price, market.money_prec), from_units(amount, market.stock_prec)
    rates = from_units(rate, market.fee_prec)
    deal = prices * amounts
    paid, received = ((market.stock, amounts), (market.money, deal))[:: 1 if side == Side.ASK else -1]
    changes = [(paid[0], -paid[1]), (received[0], received[1])]
    if rate:
        changes.append((received[0], -received[1] * rates))
    held = {asset.name: from_units(before[asset.name], asset.prec_save) for asset in (market.stock, market.money)}
    expected: list[tuple[str, Decimal, Decimal]] = []
    for asset, change in changes:
        held[asset.name] = truncate(held[asset.name] + change, asset.prec_save)
        expected.append((asset.name, change, held[asset.name]))

    fees = {Side.ASK: deal * rates, Side.BID: amounts * rates}
    fee_precs = {Side.ASK: market.ask_fee_prec, Side.BID: market.bid_fee_prec}
    dealt = DealSide(
        time=1.0,
        market=market,
        deal_id=1,
        user_id=2,
        order_id=3,
        deal_order_id=4,
        side=side,
        role=1,
        price_units=price,
        amount_units=amount,
        rate_units=rate,
        deal_units=price * amount,
        fee_units=to_units(fees[side], fee_precs[side]),
        deal_fee_units=0,
        stock_total_units=to_units(held["STOCK"], market.stock.prec_save),
        money_total_units=to_units(held["MONEY"], market.money.prec_save),
    )
    made = [
        (asset.name, from_units(change, prec), from_units(balance, asset.prec_save))
        for asset, change, prec, balance, _ in steps(dealt)
    ]
    assert made == expected


def test_charges_are_rounded_up() -> None:
    assert [charge(fee, 4, 2) for fee in (1, 99, 100, 101, 200)] == [1, 1, 1, 2, 2]
    assert charge(5, 2, 2) == 5
    assert charge(5, 2, 30) == 5 * 10**28


def both_sides(frames: list[Frame], catalog: Catalog) -> Iterator[tuple[DealSide, DealSide]]:
    """Of every deal."""
    for frame in frames:
        for fields in DEAL_STRUCT.iter_unpack(frame.records[frame.records["kind"] == EventKind.DEAL].tobytes()):
            yield sides(fields, catalog.market_by_index[fields[6]])


@pytest.mark.parametrize("seed", range(3))
def test_whole_flows_make_the_balance_rows_of_the_original(seed: int) -> None:
    frames, catalog = random_play(seed)
    twin = history_of(frames, catalog)
    made = defaultdict(list)
    for side in chain.from_iterable(both_sides(frames, catalog)):
        for asset, change, prec, balance, detail in steps(side):
            numbers = from_units(change, prec), from_units(balance, asset.prec_save)
            made[side.user_id].append((side.time, asset.name, *numbers, detail))
    assert len(made) > 2
    columns = ("time", "asset", "change", "balance", "detail")
    for user_id, rows in made.items():
        due = [row for row in twin.of_user("balance_history", user_id) if row["business"] == BUSINESS]
        assert rows == [tuple(row[column] for column in columns) for row in due]


@pytest.mark.parametrize("seed", range(3, 6))
def test_whole_flows_make_the_deal_rows_of_the_original(seed: int) -> None:
    frames, catalog = random_play(seed)
    twin = history_of(frames, catalog)
    made = defaultdict(list)
    for taker, maker in both_sides(frames, catalog):
        assert (taker.role, maker.role) == (2, 1)
        for side in sorted((taker, maker), key=lambda one: one.side):
            made[side.user_id].append(deal_row(side))
    assert len(made) > 2
    for user_id, rows in made.items():
        assert rows == twin.of_user("user_deal_history", user_id)


def deal_row(side: DealSide) -> Row:
    market = side.market
    fee_prec, other_prec = (market.ask_fee_prec, market.bid_fee_prec)[:: 1 if side.side == Side.ASK else -1]
    return {
        "time": side.time,
        "user_id": side.user_id,
        "market": market.name,
        "deal_id": side.deal_id,
        "order_id": side.order_id,
        "deal_order_id": side.deal_order_id,
        "side": side.side,
        "role": side.role,
        "price": from_units(side.price_units, market.money_prec),
        "amount": from_units(side.amount_units, market.stock_prec),
        "deal": from_units(side.deal_units, market.deal_prec),
        "fee": from_units(side.fee_units, fee_prec),
        "deal_fee": from_units(side.deal_fee_units, other_prec),
    }
