"""A taker meets the book: the loop of CONTRACT 2.6 and the exact steps of one deal of CONTRACT 2.7.

A taker is the `order` of its RESULT, worked on in place; it enters the book only when something is left.
"""

from typing import NamedTuple

from bus.messages import EventKind, OrderType, Side
from engine.book import best_level, count_left, precedes, remove
from engine.kernel import kernel
from engine.ledger import change_available, change_freeze, charge, enter, leave, total
from engine.schema import NIL, Array, Row, State
from engine.wide import divide, load, narrow, store, wide


class Output(NamedTuple):
    """Where kernels write: one result a command; `events`, `deals` and `updates` are the same memory thrice."""

    results: Array  # RESULT
    events: Array  # EVENT
    deals: Array  # DEAL_EVENT
    updates: Array  # UPDATE_EVENT
    cursor: Array  # (1,) i8: events written


@kernel
def next_event(header: Row, out: Output) -> int:
    """Number an event; return its place in the buffers."""
    place = out.cursor[0]
    out.cursor[0] = place + 1
    header["event_number"] += 1
    return place


@kernel
def tell_order(header: Row, out: Output, kind: int, order: Row) -> None:
    """Write an order event: the order as it is now."""
    event = out.events[next_event(header, out)]
    event["number"] = header["event_number"]
    event["sequence"] = header["sequence"]
    event["time"] = header["time"]
    event["kind"] = kind
    event["taker_side"] = 0
    event["market"] = order["market"]
    event["order"] = order


@kernel
def begin_deal(header: Row, out: Output, market_number: int, taker: Row, maker: Row, amount: int) -> Row:
    """Write what is known of a deal before its balances."""
    deal = out.deals[next_event(header, out)]
    deal["number"] = header["event_number"]
    deal["sequence"] = header["sequence"]
    deal["time"] = header["time"]
    deal["kind"] = EventKind.DEAL
    deal["taker_side"] = taker["side"]
    deal["market"] = market_number
    deal["deal_id"] = header["deal_id"]
    deal["price_units"] = maker["price_units"]
    deal["amount_units"] = amount
    if taker["side"] == Side.ASK:
        deal["ask_order_id"], deal["bid_order_id"] = taker["id"], maker["id"]
        deal["ask_user_id"], deal["bid_user_id"] = taker["user_id"], maker["user_id"]
        deal["ask_rate_units"], deal["bid_rate_units"] = taker["taker_rate_units"], maker["maker_rate_units"]
    else:
        deal["ask_order_id"], deal["bid_order_id"] = maker["id"], taker["id"]
        deal["ask_user_id"], deal["bid_user_id"] = maker["user_id"], taker["user_id"]
        deal["ask_rate_units"], deal["bid_rate_units"] = maker["maker_rate_units"], taker["taker_rate_units"]
    for place in range(3):
        deal["padding"][place] = 0
    return deal


@kernel
def fill(order: Row, amount: int, money: int, rate: int) -> int:
    """Add a deal to an order's totals; return its fee, exact: of money for a sell, of stock for a buy."""
    fee = money * wide(rate) if order["side"] == Side.ASK else wide(amount) * wide(rate)
    store(order, "deal_stock_units", load(order, "deal_stock_units") + wide(amount))
    store(order, "deal_money_units", load(order, "deal_money_units") + money)
    store(order, "deal_fee_units", load(order, "deal_fee_units") + fee)
    return fee


@kernel
def settle_ask(
    state: State, market: Row, deal: Row, stock: Row, money: Row, amount: int, paid: int, fee: int, frozen: bool
) -> None:
    """The seller's steps: stock away, money in, fee from the money."""
    stock_asset, money_asset = state.assets[market["stock"]], state.assets[market["money"]]
    sold = wide(0) - wide(amount) * load(market, "stock_scale")
    if frozen:
        change_freeze(stock_asset, stock, sold)
    else:
        change_available(stock_asset, stock, sold)
    change_available(money_asset, money, paid * load(market, "deal_scale"))
    charge(money_asset, money, fee * load(market, "ask_fee_scale"), market["fee_divisor"])
    store(deal, "ask_stock_total_units", total(stock))
    store(deal, "ask_money_total_units", total(money))


@kernel
def settle_bid(
    state: State, market: Row, deal: Row, stock: Row, money: Row, amount: int, paid: int, fee: int, frozen: bool
) -> None:
    """The buyer's steps: money away, stock in, fee from the stock."""
    stock_asset, money_asset = state.assets[market["stock"]], state.assets[market["money"]]
    spent = wide(0) - paid * load(market, "deal_scale")
    if frozen:
        change_freeze(money_asset, money, spent)
    else:
        change_available(money_asset, money, spent)
    change_available(stock_asset, stock, wide(amount) * load(market, "stock_scale"))
    charge(stock_asset, stock, fee * load(market, "bid_fee_scale"), 1)
    store(deal, "bid_stock_total_units", total(stock))
    store(deal, "bid_money_total_units", total(money))


@kernel
def trade(
    header: Row, state: State, out: Output, market: Row, taker: Row, stock: Row, money: Row, slot: int, amount: int
) -> int:
    """One deal between the taker and the order in `slot`; return the money it moved (CONTRACT 2.7).

    The market, its assets and the taker's balances (`stock`, `money`) are entered.
    """
    row = state.slots[slot]
    maker = row["order"]
    header["deal_id"] += 1
    taker["mtime"] = header["time"]
    maker["mtime"] = header["time"]
    deal = begin_deal(header, out, maker["market"], taker, maker, amount)
    paid = wide(maker["price_units"]) * wide(amount)
    taker_fee = fill(taker, amount, paid, taker["taker_rate_units"])
    maker_fee = fill(maker, amount, paid, maker["maker_rate_units"])
    maker["left_units"] -= amount
    count_left(market, state.levels[row["level"]], maker["side"], 0, wide(0) - wide(amount))

    maker_stock, maker_money = state.balances[row["stock_balance"]], state.balances[row["money_balance"]]
    entered = maker["user_id"] == taker["user_id"]
    if not entered:
        enter(maker_stock)
        enter(maker_money)
    if taker["side"] == Side.ASK:
        settle_ask(state, market, deal, stock, money, amount, paid, taker_fee, False)
        settle_bid(state, market, deal, maker_stock, maker_money, amount, paid, maker_fee, True)
    else:
        settle_bid(state, market, deal, stock, money, amount, paid, taker_fee, False)
        settle_ask(state, market, deal, maker_stock, maker_money, amount, paid, maker_fee, True)

    if not entered:
        leave(maker_money)
        leave(maker_stock)

    if maker["left_units"] == 0:
        tell_order(header, out, EventKind.ORDER_FINISH, maker)
        remove(header, state, market, slot)
    else:
        tell_order(header, out, EventKind.ORDER_UPDATE, maker)
    return paid


@kernel
def affordable(money: int, price: int, most: int) -> int:
    """How much stock `money` buys at `price`, toward zero, at most `most` (CONTRACT 2.6, market buy)."""
    if wide(most) * wide(price) <= money:
        return most
    return narrow(divide(money, price))


@kernel
def match(header: Row, state: State, out: Output, market: Row, taker: Row, stock: Row, money: Row) -> None:
    """Trade while the best opposite order crosses and something is left to trade."""
    opposite = Side.BID if taker["side"] == Side.ASK else Side.ASK
    limit = taker["price_units"]
    by_money = taker["type"] == OrderType.MARKET and taker["side"] == Side.BID
    spendable = wide(taker["amount_units"]) * load(market, "money_scale") if by_money else wide(0)
    while by_money or taker["left_units"] > 0:
        level = best_level(state, market, opposite)
        if level == NIL:
            break
        price = state.levels[level]["price_units"]
        if limit != 0 and precedes(opposite, limit, price):
            break
        slot = state.levels[level]["head_slot"]
        maker_left = state.slots[slot]["order"]["left_units"]
        if by_money:
            amount = affordable(spendable, price, maker_left)
            if amount == 0:
                break
            spendable = spendable - trade(header, state, out, market, taker, stock, money, slot, amount)
        else:
            amount = min(taker["left_units"], maker_left)
            trade(header, state, out, market, taker, stock, money, slot, amount)
            taker["left_units"] -= amount
