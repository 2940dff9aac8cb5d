"""Checked parameters as fields of a COMMAND.

Each function returns the fields after `request_id`, and the bytes that go into the frame's blob. The link adds the
request id and the place in the blob.
"""

from collections.abc import Callable
from typing import Any

from bus import jsontext, text
from bus.messages import COMMAND, DETAIL_MAX, CommandKind, struct_of

Fields = tuple[Any, ...]
Encoded = tuple[Fields, bytes]
Encoder = Callable[[list[Any]], Encoded | None]

# As plain integers: an enum's members are slow to look up.
_PUT_LIMIT, _PUT_MARKET = int(CommandKind.PUT_LIMIT), int(CommandKind.PUT_MARKET)
_CANCEL, _UPDATE_BALANCE = int(CommandKind.CANCEL), int(CommandKind.UPDATE_BALANCE)

COMMAND_STRUCT = struct_of(COMMAND)
DETAIL_OFFSET_AT: int = COMMAND.fields["detail_offset"][1]  # type: ignore[index]  # named: numpy's stub allows None
assert COMMAND.names == (
    *("request_id", "kind", "side", "text_size", "reserved", "market", "asset", "detail_offset", "detail_size"),
    *("padding", "user_id", "subject_id", "amount_units", "price_units", "taker_rate_units", "maker_rate_units"),
    *("change_units", "text"),
)


def put_limit(values: list[Any]) -> Encoded:
    """order.put_limit"""
    user_id, market, side, amount, price, taker, maker, source = values
    head = (_PUT_LIMIT, side, len(source), 0, market.index, 0, 0, 0, b"")
    return (*head, user_id, 0, amount, price, taker, maker, 0, 0, source), b""


def put_market(values: list[Any]) -> Encoded:
    """order.put_market"""
    user_id, market, side, amount, taker, source = values
    head = (_PUT_MARKET, side, len(source), 0, market.index, 0, 0, 0, b"")
    return (*head, user_id, 0, amount, 0, taker, 0, 0, 0, source), b""


def cancel(values: list[Any]) -> Encoded:
    """order.cancel"""
    user_id, market, order_id = values
    head = (_CANCEL, 0, 0, 0, market.index, 0, 0, 0, b"")
    return (*head, user_id, order_id, 0, 0, 0, 0, 0, 0, b""), b""


def update_balance(values: list[Any]) -> Encoded | None:
    """balance.update; None when its detail is longer than DETAIL_MAX."""
    user_id, asset, business, business_id, change, detail = values
    blob = jsontext.dump(detail | {"id": business_id}).encode()
    if len(blob) > DETAIL_MAX:
        return None
    head = (_UPDATE_BALANCE, 0, len(business), 0, 0, asset.index, 0, len(blob), b"")
    return (*head, user_id, business_id, 0, 0, 0, 0, *text.halves(change), business), blob


ENCODERS: dict[str, Encoder] = {
    "order.put_limit": put_limit,
    "order.put_market": put_market,
    "order.cancel": cancel,
    "balance.update": update_balance,
}
