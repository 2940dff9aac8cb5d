"""Orders: every reason to refuse one, in the order of CONTRACT 2.3, then what an accepted one does.

No check writes and no write is checked: a refused command leaves the state as it was.
"""

from bus.codes import Code
from bus.messages import UNITS_MAX, USER_MAX, EventKind, OrderType, Side
from engine.book import best_level, deals_max, remove, rest, resting
from engine.kernel import kernel
from engine.ledger import enter, leave, move_to_freeze
from engine.matching import Output, match, tell_order
from engine.schema import NIL, Row, State
from engine.tables import find_balance, has_balance_room, has_room, make_balance, make_user_market
from engine.text import HALF, below, is_text
from engine.wide import load, load_bytes, store, store_bytes, wide

NO_EVENT_ROOM = -1  # no Code: the batch ends before this command, which is the first of the next


@kernel
def is_order(header: Row, state: State, command: Row) -> bool:
    """Whether the arguments that all orders share are in range."""
    if command["user_id"] < 0 or command["user_id"] > USER_MAX:
        return False
    if command["market"] < 0 or command["market"] >= header["market_count"]:
        return False
    if command["side"] != Side.ASK and command["side"] != Side.BID:
        return False
    if command["amount_units"] <= 0 or command["amount_units"] > UNITS_MAX:
        return False
    rate = command["taker_rate_units"]
    if rate < 0 or rate >= state.markets[command["market"]]["rate_end_units"]:
        return False
    return is_text(command, command["text_size"])


@kernel
def is_priced(market: Row, command: Row) -> bool:
    """Whether a limit order's price and maker rate are in range, and its cost leaves room for its fee."""
    price = command["price_units"]
    if price <= 0 or price > UNITS_MAX:
        return False
    rate = command["maker_rate_units"]
    if rate < 0 or rate >= market["rate_end_units"]:
        return False
    return wide(price) * wide(command["amount_units"]) <= load(market, "cost_max_units")


@kernel
def available(state: State, user_id: int, asset: int) -> int:
    """What a user could freeze or spend."""
    place = find_balance(state.balances, user_id, asset)
    if place == NIL:
        return wide(0)
    return load(state.balances[place], "available_units")


@kernel
def has_stock(state: State, market: Row, command: Row) -> bool:
    """Whether a seller has what he sells."""
    amount = wide(command["amount_units"])
    if amount > load(market, "amount_max_units"):
        return False
    return available(state, command["user_id"], market["stock"]) >= amount * load(market, "stock_scale")


@kernel
def has_money(state: State, market: Row, user_id: int, amount: int, amount_max: int, scale: int) -> bool:
    """Whether a buyer has `amount` x `scale`."""
    if amount > amount_max:
        return False
    return available(state, user_id, market["money"]) >= amount * scale


@kernel
def check_limit(header: Row, state: State, command: Row) -> int:
    """Every reason to refuse a limit order."""
    if not is_order(header, state, command):
        return Code.INVALID_ARGUMENT
    market = state.markets[command["market"]]
    if not is_priced(market, command):
        return Code.INVALID_ARGUMENT
    amount = wide(command["amount_units"])
    if command["side"] == Side.ASK:
        if not has_stock(state, market, command):
            return Code.ORDER_BALANCE_NOT_ENOUGH
    else:
        cost = amount * wide(command["price_units"])
        scale, most = load(market, "deal_scale"), load(market, "deal_max_units")
        if not has_money(state, market, command["user_id"], cost, most, scale):
            return Code.ORDER_BALANCE_NOT_ENOUGH
    if amount * load(market, "min_amount_scale") < load(market, "min_limit_units"):
        return Code.AMOUNT_TOO_SMALL
    if not has_room(header, state, command["user_id"], market, command["market"]):
        return Code.SERVICE_UNAVAILABLE
    return Code.OK


@kernel
def check_market(header: Row, state: State, command: Row) -> int:
    """Every reason to refuse a market order."""
    if not is_order(header, state, command):
        return Code.INVALID_ARGUMENT
    market = state.markets[command["market"]]
    amount = wide(command["amount_units"])
    selling = command["side"] == Side.ASK
    if selling:
        if not has_stock(state, market, command):
            return Code.ORDER_BALANCE_NOT_ENOUGH
    else:
        scale, most = load(market, "spend_scale"), load(market, "spend_max_units")
        if not has_money(state, market, command["user_id"], amount, most, scale):
            return Code.ORDER_BALANCE_NOT_ENOUGH
    best = best_level(state, market, Side.BID if selling else Side.ASK)
    if best == NIL:
        return Code.NO_ENOUGH_TRADER
    if selling:
        if amount * load(market, "min_amount_scale") < load(market, "min_limit_units"):
            return Code.AMOUNT_TOO_SMALL
    else:
        least = wide(state.levels[best]["price_units"]) * load(market, "min_limit_units")
        if amount * load(market, "min_spend_scale") < least:
            return Code.AMOUNT_TOO_SMALL
    if not has_balance_room(header, state, command["user_id"], market["stock"], market["money"]):
        return Code.SERVICE_UNAVAILABLE
    return Code.OK


@kernel
def has_event_room(state: State, out: Output, market: Row, command: Row, price: int, money: int) -> bool:
    """Whether the event buffer surely holds an order's events: two a deal and one more.

    Asked only of what passed all checks: an order that nobody could pay for would be counted through a whole book.
    """
    deals = (len(out.events) - out.cursor[0] - 1) // 2
    opposite = Side.BID if command["side"] == Side.ASK else Side.ASK
    return deals_max(state, market, opposite, price, wide(command["amount_units"]), money, deals + 1) <= deals


@kernel
def describe(header: Row, command: Row, order: Row, kind: int) -> None:
    """Make the order that an accepted command asks for, under the next id."""
    header["sequence"] += 1
    header["order_id"] += 1
    order["id"] = header["order_id"]
    order["user_id"] = command["user_id"]
    order["ctime"] = header["time"]
    order["mtime"] = header["time"]
    order["amount_units"] = command["amount_units"]
    order["taker_rate_units"] = command["taker_rate_units"]
    order["market"] = command["market"]
    order["type"] = kind
    order["side"] = command["side"]
    limited = kind == OrderType.LIMIT
    order["price_units"] = command["price_units"] if limited else 0
    order["maker_rate_units"] = command["maker_rate_units"] if limited else 0
    order["left_units"] = command["amount_units"] if limited or command["side"] == Side.ASK else 0
    store(order, "deal_stock_units", wide(0))
    store(order, "deal_money_units", wide(0))
    store(order, "deal_fee_units", wide(0))
    order["source_size"] = command["text_size"]
    order["reserved"] = 0
    size = command["text_size"]
    store_bytes(order, "source", 0, load_bytes(command, "text", 0) & below(size))
    store_bytes(order, "source", 16, load_bytes(command, "text", 16) & below(size - HALF))


@kernel
def put_limit(header: Row, state: State, out: Output, command: Row, result: Row) -> int:
    """Match a limit order; what is left rests and is frozen for."""
    code = check_limit(header, state, command)
    if code != Code.OK:
        return code
    market_number = command["market"]
    market = state.markets[market_number]
    if not has_event_room(state, out, market, command, command["price_units"], wide(0)):
        return NO_EVENT_ROOM
    order = result["order"]
    describe(header, command, order, OrderType.LIMIT)
    stock_place = make_balance(state, command["user_id"], market["stock"])
    money_place = make_balance(state, command["user_id"], market["money"])
    stock, money = state.balances[stock_place], state.balances[money_place]
    enter_all(state, market, stock, money)
    match(header, state, out, market, order, stock, money)
    if order["left_units"] == 0:
        tell_order(header, out, EventKind.ORDER_FINISH, order)
    else:
        tell_order(header, out, EventKind.ORDER_PUT, order)
        user_market = make_user_market(state, command["user_id"], market_number)
        slot = rest(header, state, market, user_market, order)
        state.slots[slot]["stock_balance"] = stock_place
        state.slots[slot]["money_balance"] = money_place
        hold(state, market, order, stock, money, wide(order["left_units"]))
    leave_all(state, market, stock, money)
    return Code.OK


@kernel
def put_market(header: Row, state: State, out: Output, command: Row, result: Row) -> int:
    """Match a market order; what is left is not traded."""
    code = check_market(header, state, command)
    if code != Code.OK:
        return code
    market = state.markets[command["market"]]
    spendable = wide(0)
    if command["side"] == Side.BID:
        spendable = wide(command["amount_units"]) * load(market, "money_scale")
    if not has_event_room(state, out, market, command, 0, spendable):
        return NO_EVENT_ROOM
    order = result["order"]
    describe(header, command, order, OrderType.MARKET)
    stock = state.balances[make_balance(state, command["user_id"], market["stock"])]
    money = state.balances[make_balance(state, command["user_id"], market["money"])]
    enter_all(state, market, stock, money)
    match(header, state, out, market, order, stock, money)
    tell_order(header, out, EventKind.ORDER_FINISH, order)
    leave_all(state, market, stock, money)
    return Code.OK


@kernel
def cancel(header: Row, state: State, out: Output, command: Row, result: Row) -> int:
    """Take an order out of its book and free what it froze; the reply shows it as it was."""
    if command["user_id"] < 0 or command["user_id"] > USER_MAX:
        return Code.INVALID_ARGUMENT
    if command["market"] < 0 or command["market"] >= header["market_count"]:
        return Code.INVALID_ARGUMENT
    slot = resting(state, command["market"], command["subject_id"])
    if slot == NIL:
        return Code.ORDER_NOT_FOUND
    row = state.slots[slot]
    order = row["order"]
    if order["user_id"] != command["user_id"]:
        return Code.USER_NOT_MATCH
    header["sequence"] += 1
    result["order"] = order
    market = state.markets[command["market"]]
    stock, money = state.balances[row["stock_balance"]], state.balances[row["money_balance"]]
    enter_all(state, market, stock, money)
    tell_order(header, out, EventKind.ORDER_FINISH, order)
    hold(state, market, order, stock, money, wide(0) - wide(order["left_units"]))
    remove(header, state, market, slot)
    leave_all(state, market, stock, money)
    return Code.OK


@kernel
def enter_all(state: State, market: Row, stock: Row, money: Row) -> None:
    """Enter everything that an order of these balances' owner changes, but for the makers' balances."""
    enter(market)
    enter(state.assets[market["stock"]])
    enter(state.assets[market["money"]])
    enter(stock)
    enter(money)


@kernel
def leave_all(state: State, market: Row, stock: Row, money: Row) -> None:
    """The reverse."""
    leave(money)
    leave(stock)
    leave(state.assets[market["money"]])
    leave(state.assets[market["stock"]])
    leave(market)


@kernel
def hold(state: State, market: Row, order: Row, stock: Row, money: Row, amount: int) -> None:
    """Freeze what `amount` of a resting order may cost; a negative amount unfreezes."""
    if order["side"] == Side.ASK:
        move_to_freeze(state.assets[market["stock"]], stock, amount * load(market, "stock_scale"))
    else:
        cost = amount * wide(order["price_units"]) * load(market, "deal_scale")
        move_to_freeze(state.assets[market["money"]], money, cost)
