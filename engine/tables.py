"""The hash tables of the state: order id -> slot, (user, asset) -> balance, (user, market) -> its orders.

Open addressing with linear probing, at most half full. Neighbouring keys (orders put one after the other, users
who registered one after the other) share a block of 64 places, and blocks are scattered: so that busy keys share
cache lines and pages, and no choice of keys makes a long run. Balances and user markets are never removed, so
their rows never move and other records may point at them. Order ids are removed by shifting back what follows, so
that there are no tombstones and a lookup stays short for ever.
"""

from engine.kernel import kernel
from engine.schema import NIL, Array, Row, State
from engine.wide import narrow, wide

POSITIVE = 0x7FFFFFFFFFFFFFFF
MIX = 0x5851F42D4C957F2D  # odd, from Knuth's MMIX generator
GROUPS = 1 << 18  # more than there are groups of four assets or markets


@kernel
def mix(x: int) -> int:
    """Scramble an i8 >= 0 into another."""
    return narrow((wide(x) * wide(MIX)) >> wide(29)) & POSITIVE


@kernel
def order_home(order_id: int) -> int:
    """Where the search for an order id starts, before masking: 64 ids in a row share a block."""
    return (mix(int(order_id) >> 6) << 6 | (int(order_id) & 63)) & POSITIVE


@kernel
def pair_home(user_id: int, number: int) -> int:
    """Where the search for a user's asset or market starts: 16 users and 4 numbers share a block."""
    block = mix((user_id >> 4) * GROUPS + (number >> 2))
    return (block << 6 | (int(user_id) & 15) << 2 | (int(number) & 3)) & POSITIVE


@kernel
def find_order(state: State, order_id: int) -> int:
    """The slot of a resting order, or NIL."""
    index = state.order_index
    mask = len(index) - 1
    place = order_home(order_id) & mask
    while index[place]["order_id"] != 0:
        if index[place]["order_id"] == order_id:
            return index[place]["slot"]
        place = (place + 1) & mask
    return NIL


@kernel
def index_order(state: State, order_id: int, slot: int) -> None:
    """Remember where an order is."""
    index = state.order_index
    mask = len(index) - 1
    place = order_home(order_id) & mask
    while index[place]["order_id"] != 0:
        place = (place + 1) & mask
    index[place]["order_id"] = order_id
    index[place]["slot"] = slot


@kernel
def forget_order(state: State, order_id: int) -> None:
    """Remove an order that is there, and close the gap it leaves."""
    index = state.order_index
    mask = len(index) - 1
    gap = order_home(order_id) & mask
    while index[gap]["order_id"] != order_id:
        gap = (gap + 1) & mask
    place = (gap + 1) & mask
    while index[place]["order_id"] != 0:
        home = order_home(index[place]["order_id"]) & mask
        if ((place - home) & mask) >= ((place - gap) & mask):
            index[gap]["order_id"] = index[place]["order_id"]
            index[gap]["slot"] = index[place]["slot"]
            gap = place
        place = (place + 1) & mask
    index[gap]["order_id"] = 0
    index[gap]["slot"] = NIL


@kernel
def balance_place(balances: Array, user_id: int, asset: int) -> int:
    """The row of (user, asset), or the empty one where it would be."""
    mask = len(balances) - 2
    place = pair_home(user_id, asset) & mask
    while True:
        row = balances[1 + place]
        if row["used"] == 0 or (row["user_id"] == user_id and row["asset"] == asset):
            return 1 + place
        place = (place + 1) & mask


@kernel
def find_balance(balances: Array, user_id: int, asset: int) -> int:
    """The row of (user, asset), or NIL."""
    place = balance_place(balances, user_id, asset)
    return place if balances[place]["used"] != 0 else NIL


@kernel
def make_balance(state: State, user_id: int, asset: int) -> int:
    """The row of (user, asset), taken now if it was not there."""
    place = balance_place(state.balances, user_id, asset)
    row = state.balances[place]
    if row["used"] == 0:
        row["user_id"] = user_id
        row["asset"] = asset
        row["used"] = 1
        state.header[0]["balance_count"] += 1
    return place


@kernel
def user_market_place(user_markets: Array, user_id: int, market: int) -> int:
    """The row of (user, market), or the empty one where it would be."""
    mask = len(user_markets) - 2
    place = pair_home(user_id, market) & mask
    while True:
        row = user_markets[1 + place]
        if row["used"] == 0 or (row["user_id"] == user_id and row["market"] == market):
            return 1 + place
        place = (place + 1) & mask


@kernel
def make_user_market(state: State, user_id: int, market: int) -> int:
    """The row of (user, market), taken now if it was not there."""
    place = user_market_place(state.user_markets, user_id, market)
    row = state.user_markets[place]
    if row["used"] == 0:
        row["user_id"] = user_id
        row["market"] = market
        row["used"] = 1
        state.header[0]["user_market_count"] += 1
    return place


@kernel
def has_room(header: Row, state: State, user_id: int, market: Row, market_number: int) -> bool:
    """Whether a limit order of the user could rest: a slot, a level, and every row it may need."""
    if header["free_slot_count"] == 0 and header["slots_used"] >= header["order_capacity"]:
        return False
    if header["free_level_count"] == 0 and header["levels_used"] >= len(state.levels) - 1:
        return False
    full = header["user_market_count"] >= header["user_market_capacity"]
    if full and state.user_markets[user_market_place(state.user_markets, user_id, market_number)]["used"] == 0:
        return False
    return has_balance_room(header, state, user_id, market["stock"], market["money"])


@kernel
def has_balance_room(header: Row, state: State, user_id: int, stock: int, money: int) -> bool:
    """Whether the balance rows of both assets are there or can be made."""
    if header["balance_count"] + 2 <= header["balance_capacity"]:
        return True
    missing = 0
    if find_balance(state.balances, user_id, stock) == NIL:
        missing += 1
    if find_balance(state.balances, user_id, money) == NIL:
        missing += 1
    return header["balance_count"] + missing <= header["balance_capacity"]
