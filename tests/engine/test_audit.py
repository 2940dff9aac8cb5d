"""The audit notices every kind of damage: each row of the table breaks one thing by hand in a sound state.

The last test counts: no check of the audit is there that no damage here sets off.
"""

import ast
import inspect
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bus.messages import DEAL_EVENT, EventKind, Side
from engine import audit
from engine.audit import AuditError
from engine.exchange import Exchange
from engine.schema import HEIGHT_MAX, NIL, Capacity, State, arrays
from engine.wide import load_row, store_row
from tests.engine.flows import LISTING, POOR_USER, START_S
from tests.reference.records import Command, cancel, limit, market_order, to_records, update

CAPACITY = Capacity(
    order_capacity=64, level_capacity=64, balance_capacity=64, user_market_capacity=64, update_capacity=64
)
USD, BTC, XYZ, USDT = 0, 1, 5, 6
BTCUSD, XYZUSDT = 0, 4
LOT, TICK = 10**7, 10**8
ANN, BOB = 1, 2

DEPOSITS = [
    *(update(user, asset, 10**17, 1) for user in (ANN, BOB) for asset in (USD, BTC, XYZ, USDT)),
    update(POOR_USER, XYZ, 10**8, 1),
]
ORDERS = [
    *(limit(ANN, BTCUSD, Side.ASK, LOT, (101 + n % 20) * TICK) for n in range(24)),  # enough for a skip list
    limit(ANN, BTCUSD, Side.BID, 2 * LOT, 99 * TICK),
    limit(BOB, BTCUSD, Side.BID, LOT, 99 * TICK),
    limit(ANN, BTCUSD, Side.BID, LOT, 99 * TICK),
    limit(BOB, BTCUSD, Side.BID, LOT, 98 * TICK),
    market_order(BOB, BTCUSD, Side.ASK, LOT, 20),
    limit(ANN, BTCUSD, Side.ASK, LOT, 200 * TICK),
    limit(ANN, BTCUSD, Side.ASK, LOT, 201 * TICK),
    limit(BOB, XYZUSDT, Side.BID, 1, 7),
    limit(POOR_USER, XYZUSDT, Side.ASK, 1, 7, 9999),  # his fee rounds up to all that he gets
]
CANCELLED = (30, 31)

Damage = Callable[[State], None]


def sound() -> tuple[Any, list[Any]]:
    """The memory of a sound exchange that has some of everything, and all its events."""
    memory = np.zeros(Exchange.size(CAPACITY), np.uint8)
    exchange = Exchange(LISTING, CAPACITY, memory=memory)
    cancels = [cancel(ANN, BTCUSD, order_id) for order_id in CANCELLED]
    events = []
    batches: list[list[Command]] = [DEPOSITS, ORDERS, cancels]
    for number, commands in enumerate(batches):
        applied = exchange.apply(to_records(commands), START_S + number)
        assert not applied.results["code"].any()
        events.append(applied.events.copy())
    return memory, events


MEMORY, EVENTS = sound()


def a_copy() -> State:
    """The state of the sound exchange, to be damaged."""
    return arrays(MEMORY.copy(), CAPACITY)


def slot_of(state: State, order_id: int) -> int:
    return int(np.flatnonzero((state.slots["order"]["id"] == order_id) & (state.slots["level"] != NIL))[0])


def level_at(state: State, price: int) -> int:
    return int(np.flatnonzero((state.levels["price_units"] == price) & (state.levels["height"] > 0))[0])


def balance_of(state: State, user_id: int, asset: int) -> Any:
    rows = state.balances
    return rows[np.flatnonzero((rows["user_id"] == user_id) & (rows["asset"] == asset) & (rows["used"] != 0))[0]]


def add(row: Any, field: str, change: int = 1) -> None:
    """Change a WIDE field."""
    store_row(row, field, load_row(row, field) + change)


def bump(part: str, field: str, change: int = 1, row: int = 0) -> Damage:
    """Change a field of the row'th row of an array."""

    def damage(state: State) -> None:
        getattr(state, part)[row][field] += change

    return damage


def bump_wide(part: str, field: str, row: int) -> Damage:
    """The same for a WIDE field."""
    return lambda state: add(getattr(state, part)[row], field)


def of_order(field: str, change: int, order_id: int = 25) -> Damage:
    """Change a field of a resting order."""

    def damage(state: State) -> None:
        state.slots[slot_of(state, order_id)]["order"][field] += change

    return damage


def of_slot(field: str, change: int, order_id: int = 25) -> Damage:
    """Change a link of a resting order's slot."""

    def damage(state: State) -> None:
        state.slots[slot_of(state, order_id)][field] += change

    return damage


def of_level(field: str, change: int, price: int = 99 * TICK) -> Damage:
    """Change a field of the level at a price."""

    def damage(state: State) -> None:
        state.levels[level_at(state, price)][field] += change

    return damage


def of_user_market(field: str, change: int) -> Damage:
    """Change a field of ann's list."""

    def damage(state: State) -> None:
        state.user_markets[state.slots[slot_of(state, 25)]["user_market"]][field] += change

    return damage


def free_slots_lost(state: State) -> None:
    state.header[0]["free_slot"] = NIL
    state.header[0]["free_slot_count"] = 0


def free_slots_loop(state: State) -> None:
    first = state.header[0]["free_slot"]
    state.slots[first]["younger_slot"] = first


def free_slots_outside(state: State) -> None:
    state.header[0]["free_slot"] = CAPACITY.order_capacity + 7


def free_levels_lost(state: State) -> None:
    state.header[0]["free_level"] = NIL
    state.header[0]["free_level_count"] = 0


def index_entry_lost(state: State) -> None:
    state.order_index[np.flatnonzero(state.order_index["order_id"])[0]] = (0, NIL, 0)


def move_behind_gap(table: Any, taken: Any, source: int) -> None:
    """Put an entry of a hash table where no search that begins at its home comes to."""
    after_gap = [place for place in range(2, len(taken)) if not taken[place] and not taken[place - 1]]
    far = max(after_gap, key=lambda place: (place - source) % len(taken))
    table[far], table[source] = table[source].copy(), np.zeros(1, table.dtype)[0]


def index_entry_elsewhere(state: State) -> None:
    taken = state.order_index["order_id"] != 0
    move_behind_gap(state.order_index, taken, int(np.flatnonzero(taken)[0]))


def balance_elsewhere(state: State) -> None:
    """One that no open order points at."""
    rows = state.balances[1:]
    source = np.flatnonzero((rows["used"] != 0) & (rows["user_id"] == ANN) & (rows["asset"] == XYZ))[0]
    move_behind_gap(rows, rows["used"] != 0, int(source))


def user_list_elsewhere(state: State) -> None:
    """An empty one."""
    rows = state.user_markets[1:]
    source = np.flatnonzero((rows["used"] != 0) & (rows["user_id"] == BOB) & (rows["market"] == XYZUSDT))[0]
    assert rows[source]["order_count"] == 0
    move_behind_gap(rows, rows["used"] != 0, int(source))


def update_elsewhere(state: State) -> None:
    taken = state.update_index != 0
    move_behind_gap(state.update_index, taken, int(np.flatnonzero(taken)[0]))


def orders_swapped(state: State) -> None:
    """The younger of two orders of one user stands before the older."""
    one, other = (state.slots[slot_of(state, order_id)] for order_id in (25, 27))
    one["order"], other["order"] = other["order"].copy(), one["order"].copy()
    index_orders_anew(state)


def index_orders_anew(state: State) -> None:
    for entry in state.order_index[state.order_index["order_id"] != 0]:
        slot = slot_of(state, int(entry["order_id"]))
        state.order_index["slot"][state.order_index["order_id"] == entry["order_id"]] = slot


def crossed(state: State) -> None:
    """A whole price of bids above the asks, all else in order."""
    level = level_at(state, 99 * TICK)
    state.levels[level]["price_units"] = 150 * TICK
    state.slots["order"]["price_units"][state.slots["level"] == level] = 150 * TICK


def prices_swapped(state: State) -> None:
    one, other = level_at(state, 101 * TICK), level_at(state, 102 * TICK)
    state.levels["price_units"][[one, other]] = state.levels["price_units"][[other, one]]


def skip_list_shortcut(state: State) -> None:
    """A height of the skip list leaves out a level that reaches up to it."""
    links = state.levels["next_level"]
    sentinel = int(state.markets[BTCUSD]["ask_level"])
    height = next(height for height in range(HEIGHT_MAX - 1, 0, -1) if links[sentinel][height] != NIL)
    links[sentinel][height] = links[links[sentinel][height]][height]


def level_left_out(state: State) -> None:
    """A price nobody finds any more, all sums adjusted."""
    sentinel = int(state.markets[BTCUSD]["bid_level"])
    links = state.levels["next_level"]
    first = int(links[sentinel][0])
    for height in range(int(state.levels[first]["height"])):
        links[sentinel][height] = links[first][height]


def empty_level(state: State) -> None:
    state.levels[level_at(state, 99 * TICK)]["head_slot"] = NIL


def user_list_lost(state: State) -> None:
    place = state.slots[slot_of(state, 25)]["user_market"]
    state.user_markets[place]["used"] = 0
    state.header[0]["user_market_count"] -= 1


def user_list_reversed(state: State) -> None:
    """Oldest first."""
    place = state.slots[slot_of(state, 25)]["user_market"]
    slots = [int(slot) for slot in np.flatnonzero(state.slots["level"]) if state.slots[slot]["user_market"] == place]
    slots.sort(key=lambda slot: int(state.slots[slot]["order"]["id"]))
    state.user_markets[place]["newest_slot"] = slots[0]
    for slot, following in zip(slots, [*slots[1:], NIL], strict=True):
        state.slots[slot]["user_older_slot"] = following


def user_list_short(state: State) -> None:
    place = state.slots[slot_of(state, 25)]["user_market"]
    newest = state.user_markets[place]["newest_slot"]
    state.user_markets[place]["newest_slot"] = state.slots[newest]["user_older_slot"]


def frozen_too_much(state: State) -> None:
    """More than the orders froze, and the asset's total agrees."""
    add(balance_of(state, ANN, USD), "freeze_units")
    add(state.assets[USD], "freeze_units")


def frozen_of_nobody(state: State) -> None:
    """An order whose owner has no balance of what he sells."""
    state.balances[state.slots[slot_of(state, 1)]["stock_balance"]]["used"] = 0
    state.header[0]["balance_count"] -= 1


def overdrawn(state: State) -> None:
    balance = balance_of(state, ANN, USD)
    below = -load_row(balance, "available_units") - 1
    add(balance, "available_units", below)
    add(state.assets[USD], "available_units", below)


def conjured(state: State) -> None:
    """Money from nowhere, and every sum agrees."""
    add(balance_of(state, ANN, USD), "available_units")
    add(state.assets[USD], "available_units")


def beyond_the_total(state: State) -> None:
    store_row(state.assets[USD], "total_max_units", load_row(state.assets[USD], "available_units"))


def dust_with_money(state: State) -> None:
    balance_of(state, ANN, USD)["dust"] = 1
    state.assets[USD]["dust_count"] += 1


def updates_out_of_order(state: State) -> None:
    state.updates[0]["time"] += 1.0


def update_forgotten(state: State) -> None:
    state.update_index[np.flatnonzero(state.update_index)[0]] = 0


DAMAGES: dict[str, tuple[Damage, str]] = {
    "the count of free slots": (bump("header", "free_slot_count"), "free slots, counted"),
    "free slots that are lost": (free_slots_lost, "are not all slots"),
    "free slots in a loop": (free_slots_loop, "free slots: the list has a loop"),
    "free slots that are outside": (free_slots_outside, "free slots: the list has a loop or leads outside"),
    "the count of free levels": (bump("header", "free_level_count"), "free levels, counted"),
    "free levels that are lost": (free_levels_lost, "are not all levels"),
    "an order without index": (index_entry_lost, "order index"),
    "an order that the index can't find": (index_entry_elsewhere, "order index: .* can't be found from its home"),
    "the number of asks": (bump("markets", "ask_count"), "BTCUSD asks: 24 orders, counted 25"),
    "the number of bids": (bump("markets", "bid_count", -1), "BTCUSD bids: 4 orders, counted 3"),
    "the sum of asks": (bump_wide("markets", "ask_units", BTCUSD), "left, counted"),
    "the sum of bids": (bump_wide("markets", "bid_units", BTCUSD), "left, counted"),
    "a level's sum": (lambda state: add(state.levels[level_at(state, 99 * TICK)], "left_units"), "the level says"),
    "a level's count": (of_level("order_count", 1), "ends or count"),
    "a level's tail": (of_level("tail_slot", 1), "ends or count"),
    "a level without orders": (empty_level, "ends or count"),
    "a level outside its skip list": (level_left_out, "don't hold the side's live orders"),
    "a shortcut in a skip list": (skip_list_shortcut, "is not part of the one below"),
    "prices out of order": (prices_swapped, "prices are not in order"),
    "a crossed book": (crossed, "BTCUSD: crossed"),
    "a link to the older order": (of_slot("older_slot", 1), "linked wrongly"),
    "an order's level": (of_slot("level", 1, 26), "linked wrongly"),
    "an order's price": (of_order("price_units", 1), "does not belong there"),
    "an order's market": (of_order("market", 1), "does not belong there"),
    "an order's side": (of_order("side", -1), "don't hold the side's live orders"),
    "an order's type": (of_order("type", 1), "does not belong there"),
    "an order's left": (of_order("left_units", 1), "left is not amount less what was dealt"),
    "an order's amount": (of_order("amount_units", 1), "left is not amount less what was dealt"),
    "time priority": (orders_swapped, "stands behind"),
    "the number of lists": (bump("header", "user_market_count"), "user markets, counted"),
    "a user's list that is lost": (user_list_lost, "no list for the orders"),
    "a user's list that is short": (user_list_short, "does not hold the user's live orders"),
    "a user's list oldest first": (user_list_reversed, "is not newest first"),
    "the count of a user's list": (of_user_market("order_count", 1), "its count is wrong"),
    "the owner of a user's list": (of_user_market("user_id", 77), "does not hold the user's live orders"),
    "an order's list": (of_slot("user_market", 1), "points at another list"),
    "a user's list that can't be found": (user_list_elsewhere, "user markets: .* can't be found from its home"),
    "a balance that can't be found": (balance_elsewhere, "balances: .* can't be found from its home"),
    "the number of balances": (bump("header", "balance_count"), "balances, counted"),
    "a frozen amount": (frozen_too_much, "open orders froze"),
    "a balance that is not there": (frozen_of_nobody, "is not the owner's"),
    "an order's balance": (of_slot("money_balance", 1), "money_balance is not the owner's"),
    "a negative balance": (overdrawn, "available"),
    "an asset's available total": (bump_wide("assets", "available_units", USD), "USD: available_units"),
    "an asset's frozen total": (bump_wide("assets", "freeze_units", BTC), "BTC: freeze_units"),
    "the number of available entries": (bump("assets", "available_count", 1, BTC), "BTC: available_units"),
    "the number of frozen entries": (bump("assets", "freeze_count", 1, BTC), "BTC: freeze_units"),
    "the number of dust entries": (bump("assets", "dust_count", 1, USDT), "dust entries, counted"),
    "dust with something in it": (dust_with_money, "marked as dust"),
    "an asset beyond its total": (beyond_the_total, "more than its total may be"),
    "remembered updates out of order": (updates_out_of_order, "not in order of time"),
    "a remembered update without index": (update_forgotten, "table of remembered updates"),
    "a remembered update that can't be found": (update_elsewhere, "remembered updates: .* can't be found"),
}

EVENT_DAMAGES: dict[str, Damage] = {
    "money that no deposit or deal made": conjured,
    "an asset's scale": lambda state: add(state.assets[USD], "show_scale"),
    "a market's fee scale": lambda state: add(state.markets[BTCUSD], "ask_fee_scale"),
}


def test_the_sound_state_passes() -> None:
    state = a_copy()
    audit.check(state)
    audit.check_events(state, EVENTS)
    assert state.assets[USDT]["dust_count"] == 1
    assert state.header[0]["free_slot_count"] > 1
    assert state.header[0]["free_level_count"] > 1
    assert audit.describe(state)["orders"] == 28


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_noticed(name: str) -> None:
    damage, text = DAMAGES[name]
    state = a_copy()
    damage(state)
    with pytest.raises(AuditError, match=text):
        audit.check(state)


@pytest.mark.parametrize("name", EVENT_DAMAGES)
def test_what_events_do_not_explain_is_noticed(name: str) -> None:
    state = a_copy()
    EVENT_DAMAGES[name](state)
    with pytest.raises(AuditError, match="deposits and deals make"):
        audit.check_events(state, EVENTS)


def test_a_missing_deal_is_noticed() -> None:
    state = a_copy()
    without = [events[events["kind"] != EventKind.DEAL] for events in EVENTS]
    assert sum(len(events) for events in without) < sum(len(events) for events in EVENTS)
    with pytest.raises(AuditError, match="deposits and deals make"):
        audit.check_events(state, without)


def test_a_deal_of_another_price_is_noticed() -> None:
    state = a_copy()
    changed = [events.copy() for events in EVENTS]
    for events in changed:
        deals = events.view(DEAL_EVENT)
        deals["price_units"][events["kind"] == EventKind.DEAL] += 1
    with pytest.raises(AuditError, match="deposits and deals make"):
        audit.check_events(state, changed)


def test_every_check_of_the_audit_can_fail() -> None:
    """Each call of `_fail` in the audit is reached by one of the damages above."""
    calls = {
        node.lineno
        for node in ast.walk(ast.parse(inspect.getsource(audit)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_fail"
    }
    failed = {line_of_failure(lambda state: audit.check(state), damage) for damage, _ in DAMAGES.values()}
    failed |= {line_of_failure(lambda state: audit.check_events(state, EVENTS), d) for d in EVENT_DAMAGES.values()}
    assert calls - failed == set()


def line_of_failure(check: Callable[[State], None], damage: Damage) -> int:
    """Which line of the audit noticed."""
    state = a_copy()
    damage(state)
    try:
        check(state)
    except AuditError as error:
        return [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__)][-2]
    raise AssertionError("nothing was noticed")
