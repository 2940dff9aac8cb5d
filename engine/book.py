"""The order books: per market and side a skip list of price levels, best first, each with a queue of orders.

A level's height is drawn from a generator whose seed nobody outside knows, so that no choice of prices can make a
book slow. A search starts at the best price and climbs only as far as it must: near the best, where nearly all
orders go, it costs the same at 1 level and at 100,000. Source: Pugh, Skip Lists, 1990; the climb is his finger search.
"""

from bus.messages import Side
from engine.kernel import kernel
from engine.schema import HEIGHT_MAX, NIL, Row, State
from engine.tables import find_order, forget_order, index_order, mix
from engine.wide import divide, load, store, wide


@kernel
def precedes(side: int, price: int, other: int) -> bool:
    """Whether `price` is better than `other` on that side."""
    if side == Side.ASK:
        return price < other
    return price > other


@kernel
def sentinel(market: Row, side: int) -> int:
    """The level that stands before the best one."""
    if side == Side.ASK:
        return market["ask_level"]
    return market["bid_level"]


@kernel
def best_level(state: State, market: Row, side: int) -> int:
    """The best level, or NIL."""
    return state.levels[sentinel(market, side)]["next_level"][0]


@kernel
def find_level(state: State, market: Row, side: int, price: int) -> int:
    """The level at `price`, or NIL; `state.path` then holds the last level before it on every height."""
    levels, path = state.levels, state.path
    at = sentinel(market, side)
    height = 0
    while height + 1 < HEIGHT_MAX:
        above = levels[at]["next_level"][height + 1]
        if above == NIL or not precedes(side, levels[above]["price_units"], price):
            break
        height += 1
    for unreached in range(height + 1, HEIGHT_MAX):
        path[unreached] = at
    while height >= 0:
        following = levels[at]["next_level"][height]
        if following != NIL and precedes(side, levels[following]["price_units"], price):
            at = following
        else:
            path[height] = at
            height -= 1
    following = levels[at]["next_level"][0]
    if following != NIL and levels[following]["price_units"] == price:
        return following
    return NIL


@kernel
def take_level(header: Row, state: State) -> int:
    """A level nobody uses."""
    level = header["free_level"]
    if level == NIL:
        header["levels_used"] += 1
        return header["levels_used"]
    header["free_level"] = state.levels[level]["next_level"][0]
    header["free_level_count"] -= 1
    return level


@kernel
def draw_height(header: Row) -> int:
    """1, or with a quarter of the chance of each the next higher."""
    header["height_count"] += 1
    bits = mix(header["seed"] ^ mix(header["height_count"]))
    height = 1
    while height < HEIGHT_MAX and (bits & 3) == 0:
        bits >>= 2
        height += 1
    return height


@kernel
def add_level(header: Row, state: State, price: int) -> int:
    """Put a level at `price` where `state.path` points."""
    level = take_level(header, state)
    row = state.levels[level]
    height = draw_height(header)
    row["price_units"] = price
    row["height"] = height
    row["head_slot"] = NIL
    row["tail_slot"] = NIL
    row["order_count"] = 0
    store(row, "left_units", wide(0))
    for step in range(height):
        before = state.levels[state.path[step]]
        row["next_level"][step] = before["next_level"][step]
        before["next_level"][step] = level
    return level


@kernel
def drop_level(header: Row, state: State, market: Row, side: int, level: int) -> None:
    """Take an empty level out and free it."""
    row = state.levels[level]
    find_level(state, market, side, row["price_units"])
    for step in range(row["height"]):
        state.levels[state.path[step]]["next_level"][step] = row["next_level"][step]
    row["height"] = 0
    row["next_level"][0] = header["free_level"]
    header["free_level"] = level
    header["free_level_count"] += 1


@kernel
def take_slot(header: Row, state: State) -> int:
    """A slot nobody uses."""
    slot = header["free_slot"]
    if slot == NIL:
        header["slots_used"] += 1
        return header["slots_used"]
    header["free_slot"] = state.slots[slot]["younger_slot"]
    header["free_slot_count"] -= 1
    return slot


@kernel
def rest(header: Row, state: State, market: Row, user_market: int, order: Row) -> int:
    """Put an order at the end of its price's queue and at the head of its user's list; return its slot."""
    slot = take_slot(header, state)
    row = state.slots[slot]
    row["order"] = order
    side = order["side"]
    level = find_level(state, market, side, order["price_units"])
    if level == NIL:
        level = add_level(header, state, order["price_units"])
    queue = state.levels[level]
    row["level"] = level
    row["younger_slot"] = NIL
    row["older_slot"] = queue["tail_slot"]
    if queue["tail_slot"] == NIL:
        queue["head_slot"] = slot
    else:
        state.slots[queue["tail_slot"]]["younger_slot"] = slot
    queue["tail_slot"] = slot
    queue["order_count"] += 1
    count_left(market, queue, side, 1, wide(order["left_units"]))

    mine = state.user_markets[user_market]
    row["user_market"] = user_market
    row["user_younger_slot"] = NIL
    row["user_older_slot"] = mine["newest_slot"]
    if mine["newest_slot"] != NIL:
        state.slots[mine["newest_slot"]]["user_younger_slot"] = slot
    mine["newest_slot"] = slot
    mine["order_count"] += 1
    index_order(state, order["id"], slot)
    return slot


@kernel
def remove(header: Row, state: State, market: Row, slot: int) -> None:
    """Take an order out of its queue, its user's list and the index, and free its slot."""
    row = state.slots[slot]
    order = row["order"]
    side = order["side"]
    level = row["level"]
    queue = state.levels[level]
    older, younger = row["older_slot"], row["younger_slot"]
    if older == NIL:
        queue["head_slot"] = younger
    else:
        state.slots[older]["younger_slot"] = younger
    if younger == NIL:
        queue["tail_slot"] = older
    else:
        state.slots[younger]["older_slot"] = older
    queue["order_count"] -= 1
    count_left(market, queue, side, -1, wide(0) - wide(order["left_units"]))
    if queue["order_count"] == 0:
        drop_level(header, state, market, side, level)

    mine = state.user_markets[row["user_market"]]
    older, younger = row["user_older_slot"], row["user_younger_slot"]
    if younger == NIL:
        mine["newest_slot"] = older
    else:
        state.slots[younger]["user_older_slot"] = older
    if older != NIL:
        state.slots[older]["user_younger_slot"] = younger
    mine["order_count"] -= 1

    forget_order(state, order["id"])
    row["level"] = NIL
    row["younger_slot"] = header["free_slot"]
    header["free_slot"] = slot
    header["free_slot_count"] += 1


@kernel
def count_left(market: Row, queue: Row, side: int, orders: int, left: int) -> None:
    """Add orders and what is left of them to the sums of their level and side."""
    store(queue, "left_units", load(queue, "left_units") + left)
    if side == Side.ASK:
        market["ask_count"] += orders
        store(market, "ask_units", load(market, "ask_units") + left)
    else:
        market["bid_count"] += orders
        store(market, "bid_units", load(market, "bid_units") + left)


@kernel
def resting(state: State, market_number: int, order_id: int) -> int:
    """The slot of an order that rests in that market, or NIL."""
    if order_id <= 0:
        return NIL
    slot = find_order(state, order_id)
    if slot != NIL and state.slots[slot]["order"]["market"] == market_number:
        return slot
    return NIL


@kernel
def deals_max(state: State, market: Row, side: int, price: int, amount: int, money: int, enough: int) -> int:
    """At most how many resting orders of `side` a taker could meet, counted no further than `enough`.

    `price` 0 is a market order's. The taker wants `amount`, a wide, of stock; a market buy instead has `money`.
    """
    count = 0
    level = best_level(state, market, side)
    while level != NIL and count < enough:
        row = state.levels[level]
        if price != 0 and precedes(side, price, row["price_units"]):
            break
        if money > wide(0):
            amount = divide(money, row["price_units"])
        left = load(row, "left_units")
        if left > amount:
            if count + row["order_count"] < enough:
                return count + row["order_count"]
            return count + orders_covering(state, row["head_slot"], amount, enough - count)
        count += row["order_count"]
        amount = amount - left
        if money > wide(0):
            money = money - left * wide(row["price_units"])
        level = row["next_level"][0]
    return count


@kernel
def orders_covering(state: State, slot: int, amount: int, enough: int) -> int:
    """How many orders of a queue it takes to cover `amount`, counted no further than `enough`."""
    count = 0
    while slot != NIL and count < enough and amount > wide(0):
        count += 1
        amount = amount - wide(state.slots[slot]["order"]["left_units"])
        slot = state.slots[slot]["younger_slot"]
    return count
