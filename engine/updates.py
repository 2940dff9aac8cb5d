"""balance.update: deposits and withdrawals, each done once (CONTRACT 2.3).

The keys of the last day lie in a ring in order of time; a hash table over it finds one. What is older than a day is
forgotten when a new update is accepted, never by a refused one.
"""

from bus.codes import Code
from bus.messages import DETAIL_MAX, USER_MAX, EventKind
from engine.kernel import kernel
from engine.ledger import change_available, enter, leave, total
from engine.matching import Output, next_event
from engine.schema import UPDATE_WINDOW_S, Row, State
from engine.tables import POSITIVE, balance_place, make_balance, mix
from engine.text import is_text
from engine.wide import load, store, wide

FORGET_MAX = 64  # keys forgotten by one update, so that none takes long


@kernel
def key_hash(user_id: int, asset: int, business_id: int, size: int, business: Row) -> int:
    """A key's hash: the business name's bytes, then the rest."""
    name = int(size)
    for place in range(size):
        name = (name * 31 + int(business[place])) % 0x7FFFFFFF
    return mix(mix(mix(business_id & POSITIVE) ^ (user_id << 20 | asset)) ^ name)


@kernel
def remembered_hash(remembered: Row) -> int:
    """The hash of a key in the ring."""
    return key_hash(
        remembered["user_id"],
        remembered["asset"],
        remembered["business_id"],
        remembered["business_size"],
        remembered["business"],
    )


@kernel
def is_key(remembered: Row, command: Row) -> bool:
    """Whether a command repeats a remembered update."""
    if remembered["business_id"] != command["subject_id"] or remembered["user_id"] != command["user_id"]:
        return False
    if remembered["asset"] != command["asset"] or remembered["business_size"] != command["text_size"]:
        return False
    for place in range(command["text_size"]):  # noqa: SIM110  # numba knows no all()
        if remembered["business"][place] != command["text"][place]:
            return False
    return True


@kernel
def find_key(state: State, command: Row, now: float) -> bool:
    """Whether the command's key was used within the window."""
    mask = len(state.update_index) - 1
    place = (
        key_hash(command["user_id"], command["asset"], command["subject_id"], command["text_size"], command["text"])
        & mask
    )
    while state.update_index[place] != 0:
        remembered = state.updates[state.update_index[place] - 1]
        if is_key(remembered, command) and now - remembered["time"] < UPDATE_WINDOW_S:
            return True
        place = (place + 1) & mask
    return False


@kernel
def forget_oldest(header: Row, state: State) -> None:
    """Drop the oldest key and close the gap it leaves in the table."""
    index = state.update_index
    mask = len(index) - 1
    oldest = header["update_first"]
    gap = remembered_hash(state.updates[oldest]) & mask
    while index[gap] != oldest + 1:
        gap = (gap + 1) & mask
    place = (gap + 1) & mask
    while index[place] != 0:
        home = remembered_hash(state.updates[index[place] - 1]) & mask
        if ((place - home) & mask) >= ((place - gap) & mask):
            index[gap] = index[place]
            gap = place
        place = (place + 1) & mask
    index[gap] = 0
    header["update_first"] = (oldest + 1) % header["update_capacity"]
    header["update_count"] -= 1


@kernel
def is_oldest_old(header: Row, state: State, now: float) -> bool:
    """Whether there is a key, and the oldest has left the window."""
    return header["update_count"] > 0 and now - state.updates[header["update_first"]]["time"] >= UPDATE_WINDOW_S


@kernel
def remember(
    header: Row, state: State, user_id: int, asset: int, business_id: int, size: int, business: Row, time: float
) -> None:
    """Add a key to the ring and the table; there is room for it."""
    slot = (header["update_first"] + header["update_count"]) % header["update_capacity"]
    row = state.updates[slot]
    row["user_id"] = user_id
    row["asset"] = asset
    row["business_id"] = business_id
    row["time"] = time
    row["business_size"] = size
    for place in range(32):
        row["business"][place] = business[place] if place < size else 0
    header["update_count"] += 1
    mask = len(state.update_index) - 1
    place = key_hash(user_id, asset, business_id, size, business) & mask
    while state.update_index[place] != 0:
        place = (place + 1) & mask
    state.update_index[place] = slot + 1


@kernel
def check_update(header: Row, state: State, command: Row, blob_size: int) -> int:
    """Every reason to refuse, in order; nothing is written."""
    if command["user_id"] < 0 or command["user_id"] > USER_MAX:
        return Code.INVALID_ARGUMENT
    if command["asset"] < 0 or command["asset"] >= header["asset_count"]:
        return Code.INVALID_ARGUMENT
    if not is_text(command, command["text_size"]):
        return Code.INVALID_ARGUMENT
    offset, size = command["detail_offset"], command["detail_size"]
    if offset < 0 or not 0 <= size <= DETAIL_MAX or offset > blob_size - size:
        return Code.INVALID_ARGUMENT
    asset = state.assets[command["asset"]]
    change = load(command, "change_units")
    if change > load(asset, "change_max_units") or change < wide(0) - load(asset, "change_max_units"):
        return Code.INVALID_ARGUMENT
    if find_key(state, command, header["time"]):
        return Code.REPEAT_UPDATE
    change = change * load(asset, "show_scale")
    balance = state.balances[balance_place(state.balances, command["user_id"], command["asset"])]
    if change < wide(0) and load(balance, "available_units") + change < wide(0):
        return Code.UPDATE_BALANCE_NOT_ENOUGH
    everything = load(asset, "available_units") + load(asset, "freeze_units")
    if everything + change > load(asset, "total_max_units"):
        return Code.INVALID_ARGUMENT
    if balance["used"] == 0 and header["balance_count"] >= header["balance_capacity"]:
        return Code.SERVICE_UNAVAILABLE
    full = header["update_count"] >= header["update_capacity"]
    if full and not is_oldest_old(header, state, header["time"]):
        return Code.SERVICE_UNAVAILABLE
    return Code.OK


@kernel
def update_balance(header: Row, state: State, out: Output, command: Row, blob_size: int) -> int:
    """Change what is available and remember the key."""
    code = check_update(header, state, command, blob_size)
    if code != Code.OK:
        return code
    header["sequence"] += 1
    forgotten = 0
    while forgotten < FORGET_MAX and is_oldest_old(header, state, header["time"]):
        forget_oldest(header, state)
        forgotten += 1
    user_id, asset_number, size = command["user_id"], command["asset"], command["text_size"]
    remember(header, state, user_id, asset_number, command["subject_id"], size, command["text"], header["time"])
    asset = state.assets[asset_number]
    balance = state.balances[make_balance(state, user_id, asset_number)]
    enter(asset)
    enter(balance)
    change_available(asset, balance, load(command, "change_units") * load(asset, "show_scale"))
    leave(balance)
    leave(asset)
    tell_update(header, out, command, balance)
    return Code.OK


@kernel
def tell_update(header: Row, out: Output, command: Row, balance: Row) -> None:
    """Write the event of a balance update."""
    event = out.updates[next_event(header, out)]
    event["number"] = header["event_number"]
    event["sequence"] = header["sequence"]
    event["time"] = header["time"]
    event["kind"] = EventKind.BALANCE_UPDATE
    event["taker_side"] = 0
    event["market"] = 0
    event["user_id"] = command["user_id"]
    event["business_id"] = command["subject_id"]
    event["asset"] = command["asset"]
    event["business_size"] = command["text_size"]
    event["detail_offset"] = command["detail_offset"]
    event["detail_size"] = command["detail_size"]
    store(event, "change_units", load(command, "change_units"))
    store(event, "total_units", total(balance))
    for place in range(32):
        event["business"][place] = command["text"][place] if place < command["text_size"] else 0
    for place in range(64):
        event["padding"][place] = 0
