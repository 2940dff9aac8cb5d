"""The proof that a state is sound: every invariant derived again, in plain numpy, from the orders and balances alone.

frozen    every frozen amount is what the owner's open orders froze
totals    an asset's totals and counts are those of its balances
levels    a level's sum, count and queue are those of its orders; a book's prices are in order and not crossed
lists     a user's list holds his orders, newest first
slots     free list + live slots = all slots ever used; the same for levels
tables    the index holds the live orders, and no search in any hash table ends before what it looks for
journal   `check_events`: every balance is what its deposits and deals made it
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from bus.messages import DEAL_EVENT, UPDATE_EVENT, EventKind, OrderType, Side
from engine.registry import row_name
from engine.schema import HEIGHT_MAX, NIL, Array, Row, State
from engine.tables import GROUPS, MIX, POSITIVE
from engine.wide import load_row

Key = tuple[int, int]  # (user, asset)


class AuditError(AssertionError):
    """An invariant does not hold: the text says which and where."""


def check(state: State) -> None:
    """Prove the state. Raises AuditError."""
    live = _check_slots(state)
    _check_index(state, live)
    for number in range(int(state.header[0]["market_count"])):
        _check_book(state, number, live)
    _check_levels(state)
    _check_user_lists(state, live)
    _check_balances(state, live)
    _check_updates(state)


def check_events(state: State, events: Iterable[Array]) -> None:
    """Prove that the balances are what all events since the beginning made them. Raises AuditError.

    `events` are EVENT arrays in order, from event 1 on.
    """
    totals: dict[Key, int] = defaultdict(int)
    for batch in events:
        _add_updates(state, totals, batch.view(UPDATE_EVENT)[batch["kind"] == EventKind.BALANCE_UPDATE])
        _add_deals(state, totals, batch.view(DEAL_EVENT)[batch["kind"] == EventKind.DEAL])
    held = {key: sum(amounts) for key, amounts in _balances(state).items()}
    for key in sorted(held.keys() | totals.keys()):
        if held.get(key, 0) != totals.get(key, 0):
            _fail(
                f"user {key[0]} asset {key[1]} holds {held.get(key, 0)}, deposits and deals make {totals.get(key, 0)}"
            )


def _add_updates(state: State, totals: dict[Key, int], updates: Array) -> None:
    for row in updates:
        asset = int(row["asset"])
        totals[int(row["user_id"]), asset] += load_row(row, "change_units") * load_row(
            state.assets[asset], "show_scale"
        )


def _add_deals(state: State, totals: dict[Key, int], deals: Array) -> None:
    for row in deals:
        market = state.markets[row["market"]]
        stock, money = int(market["stock"]), int(market["money"])
        amount, paid = int(row["amount_units"]), int(row["amount_units"]) * int(row["price_units"])
        ask_fee = paid * int(row["ask_rate_units"]) * load_row(market, "ask_fee_scale")
        bid_fee = amount * int(row["bid_rate_units"]) * load_row(market, "bid_fee_scale")
        seller, buyer = int(row["ask_user_id"]), int(row["bid_user_id"])
        totals[seller, stock] -= amount * load_row(market, "stock_scale")
        totals[seller, money] += paid * load_row(market, "deal_scale") + -ask_fee // int(market["fee_divisor"])
        totals[buyer, money] -= paid * load_row(market, "deal_scale")
        totals[buyer, stock] += amount * load_row(market, "stock_scale") - bid_fee


def _fail(text: str) -> None:
    raise AuditError(text)


def _check_slots(state: State) -> Array:
    """The numbers of all live slots; free list and live ones are all there are."""
    header = state.header[0]
    used = int(header["slots_used"])
    numbers = np.arange(1, used + 1)
    live = numbers[state.slots[1 : used + 1]["level"] != NIL]
    free = _chain(state.slots["younger_slot"], int(header["free_slot"]), used, "free slots")
    if len(free) != header["free_slot_count"]:
        _fail(f"{len(free)} free slots, counted {header['free_slot_count']}")
    if sorted([*free, *live.tolist()]) != numbers.tolist():
        _fail("free list and live slots are not all slots")
    return live


def _chain(following: Array, first: int, most: int, what: str) -> list[int]:
    """The numbers met by following links to NIL."""
    met: list[int] = []
    at = first
    while at != NIL:
        if len(met) > most or not 0 < at <= most:
            _fail(f"{what}: the list has a loop or leads outside")
        met.append(at)
        at = int(following[at])
    return met


def _check_index(state: State, live: Array) -> None:
    index = state.order_index
    taken = index["order_id"] != 0
    wanted = {int(state.slots[slot]["order"]["id"]): int(slot) for slot in live}
    found = dict(zip(index["order_id"][taken].tolist(), index["slot"][taken].tolist(), strict=True))
    if found != wanted or taken.sum() != len(wanted):
        _fail("the order index is not that of the live orders")
    _check_reach(taken, [_order_home(order_id) for order_id in found], "order index")


def _check_reach(taken: Array, homes: list[int], table: str) -> None:
    """From its home to its place no entry meets an empty one, where a search would end; `homes` in order of places."""
    mask = len(taken) - 1
    for home, place in zip(homes, np.flatnonzero(taken).tolist(), strict=True):
        at = home & mask
        while at != place:
            if not taken[at]:
                _fail(f"{table}: the entry at {place} can't be found from its home")
            at = (at + 1) & mask


def _mix(x: int) -> int:
    return ((x * MIX) >> 29) & POSITIVE


def _order_home(order_id: int) -> int:
    return (_mix(order_id >> 6) << 6 | (order_id & 63)) & POSITIVE


def _pair_home(user_id: int, number: int) -> int:
    block = _mix((user_id >> 4) * GROUPS + (number >> 2))
    return (block << 6 | (user_id & 15) << 2 | (number & 3)) & POSITIVE


def _pair_homes(rows: Array, number: str) -> list[int]:
    return [_pair_home(*pair) for pair in zip(rows["user_id"].tolist(), rows[number].tolist(), strict=True)]


def _update_home(row: Row) -> int:
    name = int(row["business_size"])
    for byte in row["business"][: row["business_size"]].tolist():
        name = (name * 31 + byte) % 0x7FFFFFFF
    owner = int(row["user_id"]) << 20 | int(row["asset"])
    return _mix(_mix(_mix(int(row["business_id"]) & POSITIVE) ^ owner) ^ name)


def _check_book(state: State, number: int, live: Array) -> None:
    market = state.markets[number]
    name = row_name(market)
    orders = state.slots[live]["order"]
    best = {}
    for side, sentinel, count, left in (
        (Side.ASK, "ask_level", "ask_count", "ask_units"),
        (Side.BID, "bid_level", "bid_count", "bid_units"),
    ):
        where = f"{name} {side.name.lower()}s"
        levels = _check_ladder(state, int(market[sentinel]), side, where)
        queued = [slot for level in levels for slot in _check_queue(state, number, side, level, where)]
        mine = live[(orders["market"] == number) & (orders["side"] == side)]
        if sorted(queued) != sorted(mine.tolist()):
            _fail(f"{where}: the queues don't hold the side's live orders")
        if len(queued) != market[count]:
            _fail(f"{where}: {len(queued)} orders, counted {market[count]}")
        total = sum(int(state.slots[slot]["order"]["left_units"]) for slot in queued)
        if total != load_row(market, left):
            _fail(f"{where}: {total} left, counted {load_row(market, left)}")
        best[side] = int(state.levels[levels[0]]["price_units"]) if levels else None
    ask, bid = best[Side.ASK], best[Side.BID]
    if ask is not None and bid is not None and ask <= bid:
        _fail(f"{name}: crossed, ask {ask} and bid {bid}")


def _check_ladder(state: State, sentinel: int, side: Side, where: str) -> list[int]:
    """The levels of a side; every height of the skip list is in order and part of the one below."""
    links = state.levels["next_level"]
    most = int(state.header[0]["levels_used"])
    below = _chain(links[:, 0], int(links[sentinel][0]), most, where)
    levels = below
    for height in range(HEIGHT_MAX):
        at = _chain(links[:, height], int(links[sentinel][height]), most, where)
        if at != [level for level in below if state.levels[level]["height"] > height]:
            _fail(f"{where}: height {height} of the skip list is not part of the one below")
        prices = [int(state.levels[level]["price_units"]) for level in at]
        if prices != sorted(set(prices), reverse=side == Side.BID):
            _fail(f"{where}: prices are not in order")
        below = at
    return levels


def _check_queue(state: State, number: int, side: Side, level: int, where: str) -> list[int]:
    """The slots of one price, oldest first."""
    row = state.levels[level]
    price = int(row["price_units"])
    slots = _chain(state.slots["younger_slot"], int(row["head_slot"]), int(state.header[0]["slots_used"]), where)
    if not slots or slots[-1] != row["tail_slot"] or len(slots) != row["order_count"]:
        _fail(f"{where} at {price}: the queue's ends or count are wrong")
    before, last_id, left = NIL, 0, 0
    for slot in slots:
        order = state.slots[slot]["order"]
        if state.slots[slot]["older_slot"] != before or state.slots[slot]["level"] != level:
            _fail(f"{where} at {price}: slot {slot} is linked wrongly")
        _check_order(order, number, side, price, last_id, where)
        before, last_id, left = slot, int(order["id"]), left + int(order["left_units"])
    if left != load_row(row, "left_units"):
        _fail(f"{where} at {price}: {left} left, the level says {load_row(row, 'left_units')}")
    return slots


def _check_order(order: Row, number: int, side: Side, price: int, last_id: int, where: str) -> None:
    if (order["market"], order["side"], order["price_units"], order["type"]) != (number, side, price, OrderType.LIMIT):
        _fail(f"{where} at {price}: order {order['id']} does not belong there")
    if order["id"] <= last_id:
        _fail(f"{where} at {price}: order {order['id']} stands behind {last_id}")
    if not 0 < order["left_units"] == order["amount_units"] - load_row(order, "deal_stock_units"):
        _fail(f"order {order['id']}: left is not amount less what was dealt")


def _check_levels(state: State) -> None:
    header = state.header[0]
    used = int(header["levels_used"])
    free = _chain(state.levels["next_level"][:, 0], int(header["free_level"]), used, "free levels")
    if len(free) != header["free_level_count"]:
        _fail(f"{len(free)} free levels, counted {header['free_level_count']}")
    markets = state.markets[: header["market_count"]]
    sentinels = {*markets["ask_level"].tolist(), *markets["bid_level"].tolist()}
    live = {level for level in range(1, used + 1) if state.levels[level]["height"] > 0}
    if sorted([*free, *live, *sentinels]) != list(range(1, used + 1)):
        _fail("free levels, live levels and sentinels are not all levels")


def _check_user_lists(state: State, live: Array) -> None:
    wanted: dict[Key, list[int]] = defaultdict(list)
    for slot in live:
        order = state.slots[slot]["order"]
        wanted[int(order["user_id"]), int(order["market"])].append(int(slot))
    rows = np.flatnonzero(state.user_markets["used"])
    if len(rows) != state.header[0]["user_market_count"]:
        _fail(f"{len(rows)} user markets, counted {state.header[0]['user_market_count']}")
    for place in rows:
        row = state.user_markets[place]
        where = f"user {row['user_id']} market {row['market']}"
        slots = _chain(state.slots["user_older_slot"], int(row["newest_slot"]), len(state.slots) - 1, where)
        ids = [int(state.slots[slot]["order"]["id"]) for slot in slots]
        if sorted(slots) != sorted(wanted.pop((int(row["user_id"]), int(row["market"])), [])):
            _fail(f"{where}: the list does not hold the user's live orders")
        if ids != sorted(ids, reverse=True) or len(ids) != row["order_count"]:
            _fail(f"{where}: the list is not newest first, or its count is wrong")
        if any(state.slots[slot]["user_market"] != place for slot in slots):
            _fail(f"{where}: an order points at another list")
    if wanted:
        _fail(f"no list for the orders of (user, market) {sorted(wanted)[0]}")
    _check_reach(state.user_markets[1:]["used"] != 0, _pair_homes(state.user_markets[rows], "market"), "user markets")


def _balances(state: State) -> dict[Key, tuple[int, int]]:
    """(available, freeze) of every row."""
    rows = state.balances[state.balances["used"] != 0]
    return {
        (int(row["user_id"]), int(row["asset"])): (load_row(row, "available_units"), load_row(row, "freeze_units"))
        for row in rows
    }


def _check_balances(state: State, live: Array) -> None:
    held = _balances(state)
    if len(held) != state.header[0]["balance_count"]:
        _fail(f"{len(held)} balances, counted {state.header[0]['balance_count']}")
    frozen: dict[Key, int] = defaultdict(int)
    for slot in live:
        row = state.slots[slot]
        order, market = row["order"], state.markets[row["order"]["market"]]
        user_id, left = int(order["user_id"]), int(order["left_units"])
        if order["side"] == Side.ASK:
            frozen[user_id, int(market["stock"])] += left * load_row(market, "stock_scale")
        else:
            cost = left * int(order["price_units"])
            frozen[user_id, int(market["money"])] += cost * load_row(market, "deal_scale")
        for field, asset in (("stock_balance", market["stock"]), ("money_balance", market["money"])):
            balance = state.balances[row[field]]
            if (balance["user_id"], balance["asset"], balance["used"]) != (user_id, asset, 1):
                _fail(f"order {order['id']}: {field} is not the owner's")
    for key in sorted(held.keys() | frozen.keys()):
        available, freeze = held.get(key, (0, 0))
        if freeze != frozen.get(key, 0):
            _fail(f"user {key[0]} asset {key[1]}: {freeze} frozen, open orders froze {frozen.get(key, 0)}")
        if available < 0:
            _fail(f"user {key[0]} asset {key[1]}: {available} available")
    _check_assets(state, held)
    taken = state.balances[1:]["used"] != 0
    _check_reach(taken, _pair_homes(state.balances[1:][taken], "asset"), "balances")


def _check_assets(state: State, held: dict[Key, tuple[int, int]]) -> None:
    dust = state.balances[(state.balances["used"] != 0) & (state.balances["dust"] != 0)]
    for row in dust:
        if load_row(row, "available_units") != 0:
            _fail(f"user {row['user_id']} asset {row['asset']}: marked as dust with something available")
    for number in range(int(state.header[0]["asset_count"])):
        row = state.assets[number]
        name = row_name(row)
        mine = [amounts for (_, asset), amounts in held.items() if asset == number]
        for field, place, counted in (("available_units", 0, "available_count"), ("freeze_units", 1, "freeze_count")):
            total, count = sum(amounts[place] for amounts in mine), sum(amounts[place] != 0 for amounts in mine)
            if total != load_row(row, field) or count != row[counted]:
                _fail(f"{name}: {field} {load_row(row, field)} of {row[counted]}, the balances make {total} of {count}")
        if (dust_count := int((dust["asset"] == number).sum())) != row["dust_count"]:
            _fail(f"{name}: {dust_count} dust entries, counted {row['dust_count']}")
        if load_row(row, "available_units") + load_row(row, "freeze_units") > load_row(row, "total_max_units"):
            _fail(f"{name}: more than its total may be")


def _check_updates(state: State) -> None:
    header = state.header[0]
    ring = [(int(header["update_first"]) + n) % len(state.updates) for n in range(int(header["update_count"]))]
    times = state.updates["time"][ring]
    if (np.diff(times) < 0).any():
        _fail("remembered updates are not in order of time")
    taken = state.update_index != 0
    places = state.update_index[taken] - 1
    if sorted(places.tolist()) != sorted(ring):
        _fail("the table of remembered updates is not that of the ring")
    _check_reach(taken, [_update_home(row) for row in state.updates[places]], "remembered updates")


def describe(state: State) -> dict[str, Any]:
    """Counts for a report of what was proved."""
    header = state.header[0]
    return {
        "orders": int(header["slots_used"]) - int(header["free_slot_count"]),
        "levels": int(header["levels_used"]) - int(header["free_level_count"]) - 2 * int(header["market_count"]),
        "balances": int(header["balance_count"]),
        "remembered updates": int(header["update_count"]),
    }
