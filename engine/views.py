"""What can be asked of a state: pages of orders, depth, balances, summaries. Nothing here changes anything.

The same kernels answer for the matcher and for readers in other processes, who may look while the matcher writes:
what was read counts only if the row's `lock` was even and is the same afterwards (a sequence lock). A walk that
meets a changed book is bounded by the size of the arrays and by what was asked for.
"""

from typing import NamedTuple

import numpy as np

from bus.messages import (
    ASSET_VIEW,
    BALANCE_VIEW,
    LEVEL_VIEW,
    MARKET_VIEW,
    ORDER,
    Presence,
    QueryKind,
    Side,
)
from engine.book import best_level, precedes, resting
from engine.kernel import entry, kernel
from engine.schema import NIL, Array, Row, State, readonly
from engine.tables import find_balance, user_market_place
from engine.wide import fence, load, store, wide

ANY_ASSET = -1
PLACES_MAX = 1 << 16  # of the balance table that one call of `held` looks at: about a millisecond
ROWS_MAX = 101  # orders or levels a side in one answer (CONTRACT 2.1)
TRIES_MAX = 200
TORN = -1


class Torn(Exception):
    """The matcher was writing at every try: ask it by a query."""


class Answered(NamedTuple):
    """Records of the kind that the query names; `total` as in bus.messages.FRAME."""

    records: Array
    total: int


def frozen(state: State) -> State:
    """The same arrays, read-only, as the kernels here take them."""
    return State(*(readonly(array) for array in state))


def answer(
    state: State,
    kind: int,
    *,
    market: int = 0,
    side: int = 0,
    limit: int = 0,
    user_id: int = 0,
    offset: int = 0,
    order_id: int = 0,
    interval: int = 0,
) -> Answered:
    """Answer a QueryKind over `frozen` arrays. Raises Torn; ValueError for what no gateway would ask."""
    header = state.header[0]
    rows_max = max(0, min(limit, ROWS_MAX))
    of_market = kind in (QueryKind.PENDING, QueryKind.PENDING_DETAIL, QueryKind.BOOK, QueryKind.DEPTH)
    if of_market and not 0 <= market < header["market_count"]:
        raise ValueError(f"there is no market number {market}")
    found = np.zeros(2, "i8")
    if kind == QueryKind.PENDING:
        orders = np.zeros(rows_max, ORDER)
        _again(read_pending, state, user_id, market, offset, orders, found)
        return Answered(orders[: found[0]], int(found[1]))
    if kind == QueryKind.PENDING_DETAIL:
        orders = np.zeros(1, ORDER)
        _again(read_order, state, market, order_id, orders, found)
        return Answered(orders[: found[0]], int(found[1]))
    if kind == QueryKind.BOOK:
        orders = np.zeros(rows_max, ORDER)
        _again(read_book, state, market, int(side), offset, orders, found)
        return Answered(orders[: found[0]], int(found[1]))
    if kind == QueryKind.DEPTH:
        levels = np.zeros(2 * rows_max, LEVEL_VIEW)
        _again(read_depth, state, market, rows_max, interval, levels, found)
        return Answered(levels[: found[0]], int(found[1]))
    if kind == QueryKind.BALANCES:
        balances = np.zeros(header["asset_count"], BALANCE_VIEW)
        _again(read_balances, state, user_id, balances, found)
        return Answered(balances[: found[0]], int(found[0]))
    if kind == QueryKind.ASSETS:
        assets = np.zeros(header["asset_count"], ASSET_VIEW)
        _again(read_assets, state, assets, found)
        return Answered(_named(assets, state.assets), int(found[0]))
    if kind == QueryKind.MARKETS:
        markets = np.zeros(header["market_count"], MARKET_VIEW)
        _again(read_markets, state, markets, found)
        return Answered(_named(markets, state.markets), int(found[0]))
    raise ValueError(f"unknown query kind {kind}")


def held(state: State, first_place: int, end_place: int, asset: int, rows: Array) -> tuple[int, int]:
    """Fill BALANCE rows that have something in them, of one asset or of ANY_ASSET; how many, and where to go on.

    Each row is as it was at one moment. Stops when `rows` is full, at `end_place`, after PLACES_MAX places, and before
    a row that is being written at every try: then it goes on where it is.
    """
    found = np.zeros(2, "i8")
    place, count = first_place, 0
    end_place = min(end_place, first_place + PLACES_MAX)
    for _ in range(TRIES_MAX):
        read_held(state, place, end_place, asset, rows[count:], found)
        count, place = count + int(found[0]), int(found[1])
        if place == end_place or count == len(rows):
            break
    return count, place


def _again(read, state: State, *arguments) -> None:  # type: ignore[no-untyped-def]  # forwards to any kernel here
    for _ in range(TRIES_MAX):
        read(state, *arguments)
        if arguments[-1][0] != TORN:
            return
    raise Torn


def _named(views: Array, rows: Array) -> Array:
    views["name"] = rows["name"][: len(views)].copy().view("S16")[:, 0]
    return views


@kernel
def settle(row: Row, lock: int, found: Array) -> None:
    """Mark what was found as torn when the row was written meanwhile."""
    fence()
    if row["lock"] != lock:
        found[0] = TORN


@kernel
def begin(row: Row, found: Array) -> int:
    """The row's lock before reading; odd marks it as torn at once."""
    lock = row["lock"]
    found[0] = 0
    found[1] = 0
    if lock & 1:
        found[0] = TORN
    fence()
    return lock


@entry
def read_pending(state: State, user_id: int, market_number: int, offset: int, orders: Array, found: Array) -> None:
    """A user's resting orders in a market, newest first; found: how many are here, how many there are."""
    market = state.markets[market_number]
    lock = begin(market, found)
    if found[0] == TORN:
        return
    mine = state.user_markets[user_market_place(state.user_markets, user_id, market_number)]
    count = 0
    if mine["used"] != 0:
        found[1] = mine["order_count"]
        slot = mine["newest_slot"] if 0 <= offset < mine["order_count"] else NIL
        skipped = 0
        while slot != NIL and count < len(orders) and skipped <= found[1]:
            if skipped >= offset:
                orders[count] = state.slots[slot]["order"]
                count += 1
            skipped += 1
            slot = state.slots[slot]["user_older_slot"]
    found[0] = count
    settle(market, lock, found)


@entry
def read_order(state: State, market_number: int, order_id: int, orders: Array, found: Array) -> None:
    """One resting order of a market, if it is there."""
    market = state.markets[market_number]
    lock = begin(market, found)
    if found[0] == TORN:
        return
    slot = resting(state, market_number, order_id)
    if slot != NIL:
        orders[0] = state.slots[slot]["order"]
        found[0] = 1
        found[1] = 1
    settle(market, lock, found)


@entry
def read_book(state: State, market_number: int, side: int, offset: int, orders: Array, found: Array) -> None:
    """Resting orders of a side, best first, oldest first within a price."""
    market = state.markets[market_number]
    lock = begin(market, found)
    if found[0] == TORN:
        return
    found[1] = market["ask_count"] if side == Side.ASK else market["bid_count"]
    count = 0
    skipped = 0
    level = best_level(state, market, side) if 0 <= offset < found[1] else NIL
    while level != NIL and count < len(orders) and skipped <= found[1]:
        queue = state.levels[level]
        if skipped + queue["order_count"] <= offset:
            skipped += max(1, queue["order_count"])
        else:
            slot = queue["head_slot"]
            while slot != NIL and count < len(orders) and skipped <= found[1]:
                if skipped >= offset:
                    orders[count] = state.slots[slot]["order"]
                    count += 1
                skipped += 1
                slot = state.slots[slot]["younger_slot"]
        level = queue["next_level"][0]
    found[0] = count
    settle(market, lock, found)


@entry
def read_depth(state: State, market_number: int, rows: int, interval: int, levels: Array, found: Array) -> None:
    """At most `rows` levels a side, merged to multiples of `interval` unless that is 0; found[1]: how many are asks."""
    market = state.markets[market_number]
    lock = begin(market, found)
    if found[0] == TORN:
        return
    asks = read_side(state, market, Side.ASK, rows, interval, levels, 0)
    bids = read_side(state, market, Side.BID, rows, interval, levels, asks)
    found[0] = asks + bids
    found[1] = asks
    settle(market, lock, found)


@kernel
def read_side(state: State, market: Row, side: int, rows: int, interval: int, levels: Array, first: int) -> int:
    """One side's levels into `levels` from `first` on; return how many. A merged level lies away from the best."""
    count = 0
    seen = 0
    level = best_level(state, market, side)
    while level != NIL and seen < len(state.levels):
        price = state.levels[level]["price_units"]
        if interval > 0:
            quotient = price // interval
            if side == Side.ASK and quotient * interval < price:
                quotient += 1
            price = quotient * interval
        if count == 0 or precedes(side, levels[first + count - 1]["price_units"], price):
            if count == rows:
                break
            levels[first + count]["price_units"] = price
            store(levels[first + count], "left_units", wide(0))
            count += 1
        row = levels[first + count - 1]
        store(row, "left_units", load(row, "left_units") + load(state.levels[level], "left_units"))
        level = state.levels[level]["next_level"][0]
        seen += 1
    return count


@entry
def read_balances(state: State, user_id: int, views: Array, found: Array) -> None:
    """A user's balances, one for each asset that has a row, in order of asset number."""
    count = 0
    for asset in range(len(views)):
        place = find_balance(state.balances, user_id, asset)
        if place == NIL:
            continue
        balance = state.balances[place]
        lock = begin(balance, found)
        if found[0] == TORN:
            return
        view = views[count]
        view["asset"] = asset
        available, freeze = load(balance, "available_units"), load(balance, "freeze_units")
        dust = balance["dust"]
        settle(balance, lock, found)
        if found[0] == TORN:
            return
        view["available_state"] = Presence.PRESENT if available != wide(0) or dust != 0 else Presence.ABSENT
        view["freeze_state"] = Presence.PRESENT if freeze != wide(0) else Presence.ABSENT
        store(view, "available_units", available)
        store(view, "freeze_units", freeze)
        count += 1
    found[0] = count


@entry
def read_held(state: State, first_place: int, end_place: int, asset: int, rows: Array, found: Array) -> None:
    """Rows of the balance table with something in them; found: how many, and the first place not looked at.

    A row that is being written ends it: nothing else would wait for one row out of millions.
    """
    count = 0
    place = first_place
    while place < end_place and count < len(rows):
        balance = state.balances[place]
        if balance["used"] != 0:
            lock = begin(balance, found)
            if found[0] == TORN:
                break
            rows[count] = balance
            settle(balance, lock, found)
            if found[0] == TORN:
                break
            row = rows[count]
            available, freeze = load(row, "available_units"), load(row, "freeze_units")
            has_entry = available != wide(0) or freeze != wide(0) or row["dust"] != 0
            if has_entry and (asset == ANY_ASSET or row["asset"] == asset):
                count += 1
        place += 1
    found[0] = count
    found[1] = place


@entry
def read_assets(state: State, views: Array, found: Array) -> None:
    """Every asset with its totals; names are filled in outside."""
    for number in range(len(views)):
        row, view = state.assets[number], views[number]
        lock = begin(row, found)
        if found[0] == TORN:
            return
        view["prec_save"] = row["prec_save"]
        view["prec_show"] = row["prec_show"]
        view["rank"] = row["rank"]
        view["available_count"] = row["available_count"]
        view["freeze_count"] = row["freeze_count"]
        view["entry_count"] = row["available_count"] + row["freeze_count"] + row["dust_count"]
        store(view, "available_units", load(row, "available_units"))
        store(view, "freeze_units", load(row, "freeze_units"))
        settle(row, lock, found)
        if found[0] == TORN:
            return
    found[0] = len(views)


@entry
def read_markets(state: State, views: Array, found: Array) -> None:
    """Every market with its sums; names are filled in outside."""
    for number in range(len(views)):
        row, view = state.markets[number], views[number]
        lock = begin(row, found)
        if found[0] == TORN:
            return
        view["stock"] = row["stock"]
        view["money"] = row["money"]
        view["stock_prec"] = row["stock_prec"]
        view["money_prec"] = row["money_prec"]
        view["fee_prec"] = row["fee_prec"]
        view["min_prec"] = row["min_prec"]
        view["rank"] = row["rank"]
        view["min_units"] = row["min_units"]
        view["ask_count"] = row["ask_count"]
        view["bid_count"] = row["bid_count"]
        store(view, "ask_units", load(row, "ask_units"))
        store(view, "bid_units", load(row, "bid_units"))
        settle(row, lock, found)
        if found[0] == TORN:
            return
    found[0] = len(views)
