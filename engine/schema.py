"""The state of the exchange: every array in the matcher's memory, drawn before it is used.

One segment, one writer. Each part starts on a 64-byte line; sizes follow from `Capacity`.

    +--------+--------+---------+-------+-------------+--------+----------+--------------+---------+--------------+
    | HEADER | assets | markets | slots | order_index | levels | balances | user_markets | updates | update_index |
    | 512 B  | ASSET  | MARKET  | SLOT  | INDEX       | LEVEL  | BALANCE  | USER_MARKET  | UPDATE  | i4           |
    +--------+--------+---------+-------+-------------+--------+----------+--------------+---------+--------------+

      MARKET.ask_level --> LEVEL (sentinel) --next_level[0]--> best LEVEL --> ... : a skip list by price
                                                                 | head_slot              tail_slot
                                                                 v                            v
                                                               SLOT --younger_slot--> SLOT -> SLOT : oldest first
      USER_MARKET.newest_slot --> SLOT --user_older_slot--> SLOT  : a user's orders in a market, newest first
      order index: id -> slot; balances and user markets: open addressing by their key, rows never move

Slot, level and row 0 are never used: 0 is NIL, so that fresh memory, which is zero, is an empty exchange and pages
that nothing has touched cost nothing. `*_used` counts what was ever taken; freed slots and levels form a list.

`lock` fields are sequence locks: odd while the writer is in the row. One per market covers its book and its users'
lists; one per balance and one per asset cover that row. Units are those of bus.messages.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bus.messages import ORDER, WIDE

MAGIC = 0x5449504D454D  # "TIPMEM"
LAYOUT = 2  # raise it when any dtype here or ORDER changes
NIL = 0
HEIGHT_MAX = 12  # of a skip list; each level is a quarter of the one below: 4**12 prices
UPDATE_WINDOW_S = 86_400.0  # how long a balance update's key is remembered (CONTRACT 2.3)

Row = Any  # one record: np.void outside, numba's record inside a kernel
Array = NDArray[Any]


class MemoryState(IntEnum):
    """What readers may do with the memory."""

    MAKING = 0  # being built: wait
    READY = 1
    RETIRED = 2  # replaced: attach anew


HEADER = np.dtype([
    ("magic", "i8"),  # written last when the memory is made
    ("layout", "i8"),
    ("size", "i8"),  # bytes of the segment
    ("pid", "i8"),  # of the matcher
    ("state", "i4"),  # a MemoryState
    ("dirty", "i4"),  # 1 while a batch is applied
    ("beat", "f8"),  # the matcher's monotonic clock, each time round its loop
    ("seed", "i8"),  # of skip list heights; kept secret so that nobody can make a book slow
    ("sequence", "i8"),  # of the last accepted command
    ("configure_count", "i8"),  # how many commands up to it were changes of the listing, which no client asked for
    ("event_number", "i8"),
    ("order_id", "i8"),
    ("deal_id", "i8"),
    ("results_hash", "i8"),
    ("time", "f8"),  # of the last batch
    ("listing_sequence", "i8"),  # raised when assets or markets change
    ("asset_count", "i4"),
    ("market_count", "i4"),
    ("slots_used", "i4"),
    ("free_slot", "i4"),
    ("free_slot_count", "i4"),
    ("levels_used", "i4"),
    ("free_level", "i4"),
    ("free_level_count", "i4"),
    ("balance_count", "i4"),
    ("user_market_count", "i4"),
    ("update_first", "i4"),  # oldest remembered key; they form a ring in order of time
    ("update_count", "i4"),
    ("height_count", "i8"),  # skip list heights drawn
    ("order_capacity", "i4"),
    ("level_capacity", "i4"),
    ("balance_capacity", "i4"),
    ("user_market_capacity", "i4"),
    ("update_capacity", "i4"),
    ("asset_capacity", "i4"),
    ("market_capacity", "i4"),
    ("reserved", "u1", (308,)),
])
assert HEADER.itemsize == 512

ASSET = np.dtype([
    ("lock", "i8"),
    ("name", "u1", (16,)),
    ("name_size", "i4"),
    ("prec_save", "i4"),
    ("prec_show", "i4"),
    ("rank", "i4"),  # place in the listing
    ("show_scale", *WIDE),  # 10^(prec_save - prec_show)
    ("change_max_units", *WIDE),  # of an update, in 10^-prec_show
    ("total_max_units", *WIDE),
    ("available_units", *WIDE),  # over all users
    ("freeze_units", *WIDE),
    ("available_count", "i8"),  # entries that are not zero
    ("freeze_count", "i8"),
    ("dust_count", "i8"),  # available entries that rounding left at zero
    ("reserved", "u1", (48,)),
])
assert ASSET.itemsize == 192

MARKET = np.dtype([
    ("lock", "i8"),
    ("name", "u1", (16,)),
    ("name_size", "i4"),
    ("stock", "i4"),  # asset index
    ("money", "i4"),
    ("stock_prec", "i4"),
    ("money_prec", "i4"),
    ("fee_prec", "i4"),
    ("min_prec", "i4"),
    ("rank", "i4"),
    ("min_units", "i8"),  # in 10^-min_prec of stock
    ("rate_end_units", "i8"),  # 10^fee_prec: rates are below it
    ("fee_divisor", "i8"),  # 10^(decimals an ask fee has beyond the money balance)
    ("ask_level", "i4"),  # sentinels of the two skip lists
    ("bid_level", "i4"),
    ("ask_count", "i8"),  # resting orders
    ("bid_count", "i8"),
    ("ask_units", *WIDE),  # sum of left
    ("bid_units", *WIDE),
    ("stock_scale", *WIDE),  # amount -> stock balance
    ("deal_scale", *WIDE),  # price x amount -> money balance
    ("spend_scale", *WIDE),  # a market buy's amount -> money balance
    ("money_scale", *WIDE),  # a market buy's amount -> price x amount
    ("bid_fee_scale", *WIDE),  # amount x rate -> stock balance
    ("ask_fee_scale", *WIDE),  # price x amount x rate -> money balance, before fee_divisor
    ("min_amount_scale", *WIDE),  # limit orders and market sells: amount x this >= min_limit_units
    ("min_limit_units", *WIDE),
    ("min_spend_scale", *WIDE),  # market buys: amount x this >= best price x min_limit_units
    ("amount_max_units", *WIDE),  # above these no balance can pay, and products could leave 128 bits
    ("deal_max_units", *WIDE),
    ("spend_max_units", *WIDE),
    ("cost_max_units", *WIDE),  # price x amount of a limit order, so that its fee fits
    ("reserved", "u1", (40,)),
])
assert MARKET.itemsize == 384

SLOT = np.dtype([
    ("order", ORDER),
    ("younger_slot", "i4"),  # next in the level; in a free slot: the next free one
    ("older_slot", "i4"),
    ("user_older_slot", "i4"),
    ("user_younger_slot", "i4"),
    ("level", "i4"),  # NIL: the slot is free
    ("user_market", "i4"),
    ("stock_balance", "i4"),  # rows of the owner
    ("money_balance", "i4"),
])
assert SLOT.itemsize == 192

INDEX = np.dtype([
    ("order_id", "i8"),  # 0: empty
    ("slot", "i4"),
    ("reserved", "i4"),
])
assert INDEX.itemsize == 16

LEVEL = np.dtype([
    ("price_units", "i8"),
    ("left_units", *WIDE),  # sum over the queue
    ("head_slot", "i4"),  # oldest order: trades first
    ("tail_slot", "i4"),
    ("order_count", "i4"),
    ("height", "i4"),  # 0: free
    ("next_level", "i4", (HEIGHT_MAX,)),  # in a free level, [0] is the next free one
    ("reserved", "u1", (8,)),
])
assert LEVEL.itemsize == 96

BALANCE = np.dtype([
    ("lock", "i8"),
    ("user_id", "i8"),
    ("asset", "i4"),
    ("used", "i2"),  # 0: the row is empty
    ("dust", "i2"),  # 1: the available entry is a zero that rounding left (CONTRACT 2.4)
    ("available_units", *WIDE),
    ("freeze_units", *WIDE),
    ("reserved", "u1", (8,)),
])
assert BALANCE.itemsize == 64

USER_MARKET = np.dtype([
    ("user_id", "i8"),
    ("market", "i4"),
    ("used", "i4"),
    ("order_count", "i4"),
    ("newest_slot", "i4"),
    ("reserved", "u1", (8,)),
])
assert USER_MARKET.itemsize == 32

UPDATE = np.dtype([
    ("user_id", "i8"),
    ("business_id", "i8"),
    ("time", "f8"),
    ("asset", "i4"),
    ("business_size", "i4"),
    ("business", "u1", (32,)),
])
assert UPDATE.itemsize == 64


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How much fits. Memory is taken when it is first used, so that room costs only address space."""

    order_capacity: int = 1 << 20  # resting orders
    level_capacity: int = 1 << 18  # prices, over all books
    balance_capacity: int = 1 << 20  # (user, asset) pairs
    user_market_capacity: int = 1 << 19  # (user, market) pairs that ever had a resting order
    update_capacity: int = 1 << 20  # balance updates remembered for a day
    asset_capacity: int = 1 << 10
    market_capacity: int = 1 << 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value < 1 << 29:
                raise ValueError(f"{field.name} is {value}; 1 to {(1 << 29) - 1} is possible")


class State(NamedTuple):
    """The arrays, as kernels take them. `path` is scratch: the skip list search's last stop on each height."""

    header: Array  # (1,) HEADER
    assets: Array  # (asset_capacity,) ASSET
    markets: Array  # (market_capacity,) MARKET
    slots: Array  # (order_capacity + 1,) SLOT
    order_index: Array  # (power of two >= 2 x order_capacity,) INDEX
    levels: Array  # (level_capacity + 2 x market_capacity + 1,) LEVEL
    balances: Array  # (1 + power of two >= 2 x balance_capacity,) BALANCE, row 0 unused
    user_markets: Array  # (1 + power of two >= 2 x ...,) USER_MARKET, row 0 unused
    updates: Array  # (update_capacity,) UPDATE
    update_index: Array  # (power of two >= 2 x update_capacity,) i4: 1 + place in updates
    path: Array  # (HEIGHT_MAX,) i4


class Part(NamedTuple):
    """One array's place in the segment."""

    name: str
    dtype: np.dtype[Any]
    row_count: int
    offset: int


def layout(capacity: Capacity) -> tuple[list[Part], int]:
    """Where each array lies, and the bytes of it all."""
    counts: list[tuple[str, np.dtype[Any], int]] = [
        ("header", HEADER, 1),
        ("assets", ASSET, capacity.asset_capacity),
        ("markets", MARKET, capacity.market_capacity),
        ("slots", SLOT, capacity.order_capacity + 1),
        ("order_index", INDEX, _table_size(2 * capacity.order_capacity)),
        ("levels", LEVEL, capacity.level_capacity + 2 * capacity.market_capacity + 1),
        ("balances", BALANCE, _table_size(2 * capacity.balance_capacity) + 1),
        ("user_markets", USER_MARKET, _table_size(2 * capacity.user_market_capacity) + 1),
        ("updates", UPDATE, capacity.update_capacity),
        ("update_index", np.dtype("i4"), _table_size(2 * capacity.update_capacity)),
    ]
    parts, offset = [], 0
    for name, dtype, count in counts:
        parts.append(Part(name, dtype, count, offset))
        offset += -(-dtype.itemsize * count // 64) * 64
    return parts, offset


def arrays(memory: Any, capacity: Capacity, *, writable: bool = True) -> State:
    """The state over `memory`, a buffer of at least `layout(capacity)` bytes."""
    parts, _ = layout(capacity)
    made = {}
    for part in parts:
        array = np.frombuffer(memory, part.dtype, part.row_count, part.offset)
        array.flags.writeable = writable
        made[part.name] = array
    return State(**made, path=np.zeros(HEIGHT_MAX, "i4"))


def readonly(array: Array) -> Array:
    """A contiguous read-only view: kernels are compiled anew for each kind of array, so all inputs are of this one."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _table_size(least: int) -> int:
    return 1 << max(6, (least - 1).bit_length())
