"""A reader looks while a writer in another process trades, without pause: what it is shown was all true at one moment.

Every order is of one amount and no deal has a fee, so that after any command much is known of what can be read.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.synchronize import Event
from random import Random

import numpy as np
import pytest

from bus.messages import QueryKind, Side
from engine.exchange import Exchange
from engine.memory import Memory
from engine.reader import NotReady, Reader, Torn
from engine.schema import MemoryState
from engine.views import ROWS_MAX
from engine.wide import load_row
from tests.engine.driver import SMALL
from tests.engine.flows import LISTING
from tests.reference.records import Command, cancel, limit, to_records, update

READ_S = 3.0
START_TIMEOUT_S = 120.0  # kernels may have to be compiled
READS_LEAST = 200  # of each kind, or the writer left no room
BTCUSD, USD, BTC = 0, 0, 1
LOT, TICK, MIDDLE = 10**7, 10**8, 8000 * 10**8
TRADERS = (1, 2)
HOLDER = 3  # puts and cancels, and trades with nobody
RESTING_MAX = 80
DEPOSITS = [
    *(update(user, asset, 10**17, 1) for user in TRADERS for asset in (USD, BTC)),
    update(HOLDER, BTC, 2 * LOT, 1),  # of 10^12 balance units: the one that is left is below 2^64, both are above
]
FIELDS = ("available_units", "freeze_units")
SCALE = 10**12  # balance units in a unit of BTC


def write(name: str, stopping: Event) -> None:
    """The other process: an exchange in memory of that name, until told to stop."""
    memory = Memory.create(name, Exchange.size(SMALL))
    exchange = Exchange(LISTING, SMALL, memory=memory.buffer)
    assert not exchange.apply(to_records(DEPOSITS), 1.0).results["code"].any()
    exchange.header["state"] = MemoryState.READY
    resting: list[tuple[int, int]] = []
    pick = Random(1).randrange
    while not stopping.is_set():
        exchange.header["beat"] = time.monotonic()
        batch = [*held(resting, pick(2)), *traded(resting, pick)]
        results = exchange.apply(to_records(batch), 1.0).results
        orders = results["order"][(results["code"] == 0) & (results["kind"] == 1)]
        resting += [(int(order["user_id"]), int(order["id"])) for order in orders]
    memory.retire(name)


def held(resting: list[tuple[int, int]], wanted: int) -> Iterator[Command]:
    """The holder's one order far from all others: put it, or take it back."""
    mine = [order for order in resting if order[0] == HOLDER]
    if wanted and not mine:
        yield limit(HOLDER, BTCUSD, Side.ASK, LOT, 2 * MIDDLE)
    elif mine and not wanted:
        resting.remove(mine[0])
        yield cancel(HOLDER, BTCUSD, mine[0][1])


def traded(resting: list[tuple[int, int]], pick) -> Iterator[Command]:  # type: ignore[no-untyped-def]
    """Orders that rest or trade, and cancels of the oldest, which may have traded by now."""
    for _ in range(1 + pick(4)):
        yield limit(TRADERS[pick(2)], BTCUSD, 1 + pick(2), LOT, MIDDLE + (pick(21) - 10) * TICK)
    others = [order for order in resting if order[0] != HOLDER]
    for user_id, order_id in others[: max(0, len(others) - RESTING_MAX)]:
        resting.remove((user_id, order_id))
        yield cancel(user_id, BTCUSD, order_id)


@pytest.fixture
def reader() -> Iterator[Reader]:
    name = f"/tradepit-live-{os.getpid()}"
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    writer = context.Process(target=write, args=(name, stopping))
    writer.start()
    try:
        yield ready(Reader(name))
    finally:
        stopping.set()
        writer.join()
    assert writer.exitcode == 0


def ready(reader: Reader) -> Reader:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(NotReady):
            reader.answer(QueryKind.MARKETS)
            return reader
        time.sleep(0.01)
    raise AssertionError("the writer did not start")


def check_assets(reader: Reader) -> None:
    rows = reader.answer(QueryKind.ASSETS).records[: BTC + 1]
    totals = [load_row(row, "available_units") + load_row(row, "freeze_units") for row in rows]
    assert totals == [2 * 10**17 * SCALE, (2 * 10**17 + 2 * LOT) * SCALE]


def check_balance(reader: Reader) -> None:
    rows = reader.answer(QueryKind.BALANCES, user_id=HOLDER).records
    [row] = rows[rows["asset"] == BTC]
    available, freeze = (load_row(row, field) for field in ("available_units", "freeze_units"))
    assert (available, freeze) in {(2 * LOT * SCALE, 0), (LOT * SCALE, LOT * SCALE)}


def check_held(reader: Reader) -> None:
    rows = [row.copy() for part in reader.held(BTC) for row in part]
    assert {int(row["asset"]) for row in rows} == {BTC}
    by_user = {int(row["user_id"]): tuple(load_row(row, field) for field in FIELDS) for row in rows}
    assert sorted(by_user) == [*TRADERS, HOLDER]
    assert len(rows) == len(by_user)
    assert by_user[HOLDER] in {(2 * LOT * SCALE, 0), (LOT * SCALE, LOT * SCALE)}
    assert all(units % (LOT * SCALE) == 0 for user_id in TRADERS for units in by_user[user_id])


def check_market(reader: Reader) -> None:
    row = reader.answer(QueryKind.MARKETS).records[BTCUSD]
    assert load_row(row, "ask_units") == row["ask_count"] * LOT
    assert load_row(row, "bid_units") == row["bid_count"] * LOT


def check_depth(reader: Reader) -> None:
    levels, ask_count = reader.answer(QueryKind.DEPTH, market=BTCUSD, limit=ROWS_MAX)
    asks, bids = levels["price_units"][:ask_count].tolist(), levels["price_units"][ask_count:].tolist()
    assert asks == sorted(set(asks))
    assert bids == sorted(set(bids), reverse=True)
    assert not asks or not bids or bids[0] < asks[0]
    lefts = [load_row(level, "left_units") for level in levels]
    assert all(left > 0 and left % LOT == 0 for left in lefts)


def check_book(reader: Reader) -> None:
    orders, total = reader.answer(QueryKind.BOOK, market=BTCUSD, side=Side.ASK, limit=ROWS_MAX)
    assert len(orders) == min(total, ROWS_MAX)
    ranks = list(zip(orders["price_units"].tolist(), orders["id"].tolist(), strict=True))
    assert ranks == sorted(set(ranks))
    assert_resting(orders)
    assert (orders["side"] == Side.ASK).all()


def check_pending(reader: Reader) -> None:
    orders, total = reader.answer(QueryKind.PENDING, market=BTCUSD, user_id=TRADERS[0], limit=ROWS_MAX)
    assert len(orders) == min(total, ROWS_MAX)
    assert orders["id"].tolist() == sorted(set(orders["id"].tolist()), reverse=True)
    assert_resting(orders)
    assert (orders["user_id"] == TRADERS[0]).all()


def assert_resting(orders: "np.ndarray[tuple[int], np.dtype[np.void]]") -> None:
    assert (orders["left_units"] == LOT).all()
    assert (orders["amount_units"] == LOT).all()
    assert not orders["deal_stock_units"].any()


CHECKS = (check_assets, check_balance, check_held, check_market, check_depth, check_book, check_pending)


def test_what_is_read_under_a_live_writer_is_never_torn(reader: Reader) -> None:
    read(reader, until=time.monotonic())  # so that all is compiled
    first = reader.sequence
    counts = read(reader, until=time.monotonic() + READ_S)
    assert min(counts.values()) > READS_LEAST, counts
    assert reader.sequence - first > READS_LEAST, "nothing was written meanwhile"


def read(reader: Reader, until: float) -> dict[str, int]:
    """Ask everything again and again; return how often it was answered."""
    counts = dict.fromkeys((check.__name__ for check in CHECKS), 0)
    while True:
        for check in CHECKS:
            with suppress(Torn):  # the caller would ask the matcher
                check(reader)
                counts[check.__name__] += 1
        if time.monotonic() >= until:
            return counts
