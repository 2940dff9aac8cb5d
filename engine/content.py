"""The content of a state, apart from how it lies in memory: what a snapshot holds.

Orders are in order of id, which is their order of time within a price; balance rows with nothing in them are left
out; keys of balance updates are in order of time. So a content fits any capacity that is large enough, and states
that can't be told apart have equal contents.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.markets import NAME_SIZE_MAX, Listing
from engine.book import rest
from engine.kernel import entry
from engine.ledger import set_available, set_freeze
from engine.registry import asset_rows, market_rows
from engine.schema import NIL, UPDATE_WINDOW_S, Array, State, readonly
from engine.tables import make_balance, make_user_market
from engine.updates import remember
from engine.wide import load

# Of a snapshot that was made before they were counted: the first listing. (Later ones of such a history go uncounted.)
CONFIGURE_COUNT_UNTOLD = 1

COUNTERS = np.dtype([
    ("sequence", "i8"),
    ("configure_count", "i8"),
    ("event_number", "i8"),
    ("order_id", "i8"),
    ("deal_id", "i8"),
    ("results_hash", "i8"),
    ("time", "f8"),
    ("seed", "i8"),
])


def dump(state: State) -> dict[str, NDArray[Any]]:
    """Copies of all there is."""
    header = state.header[0]
    counters = np.zeros(1, COUNTERS)
    for name in COUNTERS.names or ():
        counters[0][name] = header[name]
    slots = state.slots[1 : header["slots_used"] + 1]
    orders = slots["order"][slots["level"] != NIL]
    balances = state.balances[1:]
    amounts = balances["available_units"].any(axis=1) | balances["freeze_units"].any(axis=1) | (balances["dust"] != 0)
    balances = balances[(balances["used"] != 0) & amounts]
    balances["lock"] = 0
    ring = (header["update_first"] + np.arange(header["update_count"])) % header["update_capacity"]
    updates = state.updates[ring]
    return {
        "counters": counters,
        "asset_names": names(asset_rows(state)),
        "market_names": names(market_rows(state)),
        "orders": orders[np.argsort(orders["id"], kind="stable")],
        "balances": balances[np.lexsort((balances["asset"], balances["user_id"]))],
        "updates": updates[header["time"] - updates["time"] < UPDATE_WINDOW_S],
    }


def names(rows: dict[str, int]) -> NDArray[Any]:
    """The names in the order of their rows, which is what records refer to; a listing may have another order."""
    return np.array([name.encode() for name in rows], f"S{NAME_SIZE_MAX}")


def by_row(listing: Listing, content: dict[str, NDArray[Any]]) -> Listing:
    """The assets and markets of a listing in the order of the rows that a content refers to."""
    assets = {asset.name: asset for asset in listing.assets}
    markets = {market.name: market for market in listing.markets}
    return Listing(
        assets=tuple(assets[name.decode()] for name in content["asset_names"].tolist()),
        markets=tuple(markets[name.decode()] for name in content["market_names"].tolist()),
    )


def fill(state: State, content: dict[str, NDArray[Any]]) -> None:
    """Put a content into an empty state. Raises ValueError when it does not fit."""
    header = state.header[0]
    for name, capacity in (
        ("orders", "order_capacity"),
        ("balances", "balance_capacity"),
        ("updates", "update_capacity"),
    ):
        if len(content[name]) > header[capacity]:
            raise ValueError(
                f"{len(content[name])} {name} don't fit {capacity} {header[capacity]}: raise it in [matcher]"
            )
    prices = np.unique(content["orders"][["market", "side", "price_units"]])
    if len(prices) > len(state.levels) - 1 - header["levels_used"]:
        raise ValueError(
            f"{len(prices)} prices don't fit level_capacity {header['level_capacity']}: raise it in [matcher]"
        )
    owners = np.unique(content["orders"][["market", "user_id"]])
    if len(owners) > header["user_market_capacity"]:
        raise ValueError(f"{len(owners)} users with orders don't fit user_market_capacity: raise it in [matcher]")
    counters = content["counters"]
    header["configure_count"] = CONFIGURE_COUNT_UNTOLD
    for name in counters.dtype.names or ():
        header[name] = counters[0][name]
    fill_balances(state, readonly(content["balances"]))
    fill_orders(state, readonly(content["orders"]))
    fill_updates(state, readonly(content["updates"]))
    if header["balance_count"] > header["balance_capacity"]:
        raise ValueError(f"{header['balance_count']} balances don't fit balance_capacity: raise it in [matcher]")


@entry
def fill_balances(state: State, rows: Array) -> None:
    """Put balances in, counting them in their assets."""
    for place in range(len(rows)):
        row = rows[place]
        asset = state.assets[row["asset"]]
        balance = state.balances[make_balance(state, row["user_id"], row["asset"])]
        set_available(asset, balance, load(row, "available_units"))
        set_freeze(asset, balance, load(row, "freeze_units"))
        if row["dust"] != 0:
            balance["dust"] = 1
            asset["dust_count"] += 1


@entry
def fill_orders(state: State, rows: Array) -> None:
    """Put orders to rest, oldest first; what they froze is in the balances."""
    header = state.header[0]
    for place in range(len(rows)):
        order = rows[place]
        market = state.markets[order["market"]]
        user_market = make_user_market(state, order["user_id"], order["market"])
        stock = make_balance(state, order["user_id"], market["stock"])
        money = make_balance(state, order["user_id"], market["money"])
        slot = rest(header, state, market, user_market, order)
        state.slots[slot]["stock_balance"] = stock
        state.slots[slot]["money_balance"] = money


@entry
def fill_updates(state: State, rows: Array) -> None:
    """Remember keys, oldest first."""
    header = state.header[0]
    for place in range(len(rows)):
        row = rows[place]
        remember(
            header,
            state,
            row["user_id"],
            row["asset"],
            row["business_id"],
            row["business_size"],
            row["business"],
            row["time"],
        )
