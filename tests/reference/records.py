"""Records as plain Python: commands made of whole numbers, and engine records taken apart for comparison.

A `Command` may hold any number that a COMMAND record can, nonsense too: it is what a hostile client sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bus.messages import COMMAND, DEAL_EVENT, EVENT, UPDATE_EVENT, CommandKind, EventKind, Records, Side

Record = dict[str, Any]  # field name -> int, float, bytes or, for an order, another Record

TEXT_FIELD_SIZE = 32
_WORD = 2**64
_EVENT_TYPES: dict[int, np.dtype[Any]] = {EventKind.DEAL: DEAL_EVENT, EventKind.BALANCE_UPDATE: UPDATE_EVENT}
_FILLERS = ("reserved", "padding")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A COMMAND record; `text` is what its text field begins with, `text_size` how long it claims to be."""

    kind: int
    request_id: int = 0
    side: int = 0
    text_size: int = 0
    market: int = 0
    asset: int = 0
    detail_offset: int = 0
    detail_size: int = 0
    user_id: int = 0
    subject_id: int = 0
    amount_units: int = 0
    price_units: int = 0
    taker_rate_units: int = 0
    maker_rate_units: int = 0
    change_units: int = 0
    text: bytes = b""

    @property
    def content(self) -> bytes:
        """The bytes of the text field that count."""
        return self.text.ljust(TEXT_FIELD_SIZE, b"\0")[: self.text_size]


def update(
    user_id: int, asset: int, change_units: int, business_id: int, business: bytes = b"deposit", **other: int
) -> Command:
    """A balance update; `change_units` is in 10^-prec_show of the asset."""
    return Command(
        kind=CommandKind.UPDATE_BALANCE,
        user_id=user_id,
        asset=asset,
        change_units=change_units,
        subject_id=business_id,
        text=business,
        text_size=len(business),
        **other,
    )


def limit(
    user_id: int,
    market: int,
    side: int,
    amount_units: int,
    price_units: int,
    taker_rate_units: int = 0,
    maker_rate_units: int = 0,
    source: bytes = b"web",
) -> Command:
    """A limit order."""
    return Command(
        kind=CommandKind.PUT_LIMIT,
        user_id=user_id,
        market=market,
        side=side,
        amount_units=amount_units,
        price_units=price_units,
        taker_rate_units=taker_rate_units,
        maker_rate_units=maker_rate_units,
        text=source,
        text_size=len(source),
    )


def market_order(
    user_id: int, market: int, side: int, amount_units: int, taker_rate_units: int = 0, source: bytes = b"web"
) -> Command:
    """A market order; for `Side.BID`, `amount_units` is money in units of the stock's decimals (CONTRACT 2.3)."""
    return Command(
        kind=CommandKind.PUT_MARKET,
        user_id=user_id,
        market=market,
        side=side,
        amount_units=amount_units,
        taker_rate_units=taker_rate_units,
        text=source,
        text_size=len(source),
    )


def cancel(user_id: int, market: int, order_id: int) -> Command:
    """A cancel."""
    return Command(kind=CommandKind.CANCEL, user_id=user_id, market=market, subject_id=order_id)


def opposite(side: int) -> int:
    """The other side."""
    return Side.BID if side == Side.ASK else Side.ASK


def to_records(commands: Sequence[Command]) -> Records:
    """COMMAND records that hold exactly what the commands say."""
    records = np.zeros(len(commands), COMMAND)
    for record, command in zip(records, commands, strict=True):
        for field in fields(command):
            value = getattr(command, field.name)
            if field.name == "change_units":
                record["change_units"] = from_wide(value)
            elif field.name == "text":
                record["text"] = np.frombuffer(value.ljust(TEXT_FIELD_SIZE, b"\0"), np.uint8)
            else:
                record[field.name] = value
    return records


def from_wide(value: int) -> tuple[int, int]:
    """The two signed halves, low one first, of a 128-bit integer."""
    low, high = value % _WORD, value // _WORD
    return (low - _WORD if low >= _WORD // 2 else low), high


def to_wide(low: int, high: int) -> int:
    """The integer whose signed halves are `low` and `high`."""
    return high * _WORD + low % _WORD


def plain(record: np.void) -> Record:
    """A record as Python values: a WIDE as one int, a text as its bytes, an ORDER as a dict. Fillers must be zero."""
    made: Record = {}
    assert record.dtype.names is not None
    for name in record.dtype.names:
        value = record[name]
        if name in _FILLERS:
            assert not np.any(value), f"{name} is not zero in {record}"
        else:
            made[name] = _plain_value(value)
    return made


def plain_event(event: Records) -> Record:
    """One event (an array of one EVENT) as Python values, its fields those of its kind."""
    dtype = _EVENT_TYPES.get(int(event[0]["kind"]), EVENT)
    return plain(event.view(dtype)[0])


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.void):
        return plain(value)
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype == np.uint8 else to_wide(int(value[0]), int(value[1]))
    return value.item() if isinstance(value, np.generic) else value
