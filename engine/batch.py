"""One batch of commands applied in order: the only kernel that the matcher and the replica call to change anything."""

from bus.codes import Code
from bus.messages import CommandKind
from engine.kernel import entry, kernel
from engine.matching import Output
from engine.orders import NO_EVENT_ROOM, cancel, put_limit, put_market
from engine.schema import Array, Row, State
from engine.tables import mix
from engine.updates import update_balance
from engine.wide import fence, load, narrow, store, wide

POSITIVE = 0x7FFFFFFFFFFFFFFF


@entry
def apply_batch(state: State, out: Output, commands: Array, blob_size: int, now: float) -> int:
    """Apply commands until all are done or the events of the next might not fit; return how many were done.

    `out.cursor` counts the events. The batch's time is `now`, or the last batch's if that was later.
    """
    header = state.header[0]
    header["dirty"] = 1
    fence()
    header["time"] = max(header["time"], now)
    done = 0
    while done < len(commands):
        command, result = commands[done], out.results[done]
        if out.cursor[0] == len(out.events):
            break
        code = dispatch(header, state, out, command, result, blob_size)
        if code == NO_EVENT_ROOM:
            break
        result["request_id"] = command["request_id"]
        result["kind"] = command["kind"]
        result["code"] = code
        accepted = code == Code.OK
        result["sequence"] = header["sequence"] if accepted else 0
        result["event_number"] = header["event_number"] if accepted else 0
        if not accepted or command["kind"] == CommandKind.UPDATE_BALANCE:
            clear(result["order"])
        if accepted:
            header["results_hash"] = digest(header["results_hash"], result)
        done += 1
    fence()
    header["dirty"] = 0
    return done


@kernel
def dispatch(header: Row, state: State, out: Output, command: Row, result: Row, blob_size: int) -> int:
    """Hand a command to the function of its kind; return its code."""
    kind = command["kind"]
    if kind == CommandKind.PUT_LIMIT:
        return put_limit(header, state, out, command, result)
    if kind == CommandKind.PUT_MARKET:
        return put_market(header, state, out, command, result)
    if kind == CommandKind.CANCEL:
        return cancel(header, state, out, command, result)
    if kind == CommandKind.UPDATE_BALANCE:
        return update_balance(header, state, out, command, blob_size)
    return Code.INVALID_ARGUMENT


@kernel
def clear(order: Row) -> None:
    """Forget what the reused buffer held: a refusal shows nobody's order."""
    order["id"] = 0
    order["user_id"] = 0
    order["ctime"] = 0.0
    order["mtime"] = 0.0
    order["price_units"] = 0
    order["amount_units"] = 0
    order["left_units"] = 0
    order["taker_rate_units"] = 0
    order["maker_rate_units"] = 0
    store(order, "deal_stock_units", wide(0))
    store(order, "deal_money_units", wide(0))
    store(order, "deal_fee_units", wide(0))
    order["market"] = 0
    order["type"] = 0
    order["side"] = 0
    order["source_size"] = 0
    order["reserved"] = 0
    for place in range(32):
        order["source"][place] = 0


@kernel
def digest(before: int, result: Row) -> int:
    """The running hash with one more accepted result in it."""
    order = result["order"]
    money = narrow(load(order, "deal_money_units"))
    fee = narrow(load(order, "deal_fee_units"))
    left = order["left_units"] << 1
    scrambled = mix((before ^ result["sequence"] ^ order["id"] << 8 ^ left) & POSITIVE)
    return mix((scrambled ^ money ^ fee << 3 ^ result["event_number"] << 20) & POSITIVE)
