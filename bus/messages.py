"""The binary messages: every record and frame that crosses a process boundary or reaches the disk.

A *frame* is what sockets, the journal and the event log carry: one `FRAME` header, `count` records of the
dtype that its kind names, then `blob_size` bytes of text that records point into (a balance update's detail).

    +--------------+---------------------------+--------------------+
    | FRAME  64 B  | count x record (192 B...) | blob, blob_size B  |
    +--------------+---------------------------+--------------------+

All numbers are little-endian and signed; `reserved` is zero. Units: *price* is in 10^-money_prec of the money
asset, *amount* in 10^-stock_prec of the stock asset, *rate* in 10^-fee_prec, a *balance* in 10^-prec_save of its
asset, *time* in seconds since 1970. `WIDE` is a 128-bit integer, low half first.
"""

import struct
import zlib
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x54495054  # "TPIT"
VERSION = 1
WIDE = ("i8", (2,))
TEXT_MAX = 30  # bytes of a source or a business name (CONTRACT 2.3; 10.2 P2)
DETAIL_MAX = 8192  # bytes of a balance update's detail
UNITS_MAX = 10**18 - 1  # a price or an amount
USER_MAX = 2**32 - 1
FRAME_RECORDS_MAX = 10_000  # commands in one frame from a client
FRAME_BLOB_MAX = 1 << 20

Records = NDArray[Any]  # a structured array of one of the dtypes below
Bytes = bytes | bytearray | memoryview


class Side(IntEnum):
    """The side of an order."""

    ASK = 1
    BID = 2


class OrderType(IntEnum):
    """The type of an order."""

    LIMIT = 1
    MARKET = 2


class FrameKind(IntEnum):
    """What a frame's records are."""

    COMMANDS = 1
    RESULTS = 2
    EVENTS = 3
    QUERY = 4
    ORDERS = 5
    LEVELS = 6
    BALANCES = 7
    ASSETS = 8
    MARKETS = 9
    PING = 10
    CALL = 11  # to history or market: `first` is the caller's tag, `total` a `Method.number`, the blob JSON params
    ANSWER = 12  # `first` is that tag, `total` a `Code`, the blob the JSON text of the result, a KNOWN its only record


class CommandKind(IntEnum):
    """What a command asks for."""

    PUT_LIMIT = 1
    PUT_MARKET = 2
    CANCEL = 3
    UPDATE_BALANCE = 4
    CONFIGURE = 5  # assets and markets as JSON in the blob; written by the matcher only


class EventKind(IntEnum):
    """What an event tells; the first three are the `event` of CONTRACT 6."""

    ORDER_PUT = 1
    ORDER_UPDATE = 2
    ORDER_FINISH = 3
    DEAL = 4
    BALANCE_UPDATE = 5


class QueryKind(IntEnum):
    """What a query asks for, and so which records answer it."""

    PENDING = 1  # ORDERS, newest first
    PENDING_DETAIL = 2  # ORDERS, none or one
    BOOK = 3  # ORDERS, best first
    DEPTH = 4  # LEVELS, asks then bids, best first
    BALANCES = 5  # BALANCES, one per asset of the user that has a row
    ASSETS = 6  # ASSETS
    MARKETS = 7  # MARKETS


FRAME = np.dtype([
    ("magic", "u4"),
    ("version", "u2"),
    ("kind", "u2"),
    ("count", "i4"),
    ("blob_size", "i4"),
    ("first", "i8"),  # of the records: command sequence, event number, or the client's tag
    ("total", "i8"),  # ORDERS: how many there are before paging. LEVELS: how many of the records are asks.
    # Journal: how many commands before the frame were not yet on disk when it was written
    ("time", "f8"),  # of the batch
    ("results_hash", "i8"),  # journal: the running hash of all results after this frame
    ("crc", "u4"),  # of everything else in the frame, this field as zero; 0 on sockets
    ("reserved", "u1", (12,)),
])
assert FRAME.itemsize == 64

COMMAND = np.dtype([
    ("request_id", "i8"),  # the client's, echoed
    ("kind", "i1"),
    ("side", "i1"),
    ("text_size", "i1"),
    ("reserved", "u1"),
    ("market", "i4"),  # index; orders only
    ("asset", "i4"),  # index; balance updates only
    ("detail_offset", "i4"),  # into the blob; balance updates only
    ("detail_size", "i4"),
    ("padding", "u1", (4,)),
    ("user_id", "i8"),
    ("subject_id", "i8"),  # cancel: the order; balance update: the business id
    ("amount_units", "i8"),  # of stock; market buy: of money, at stock_prec (CONTRACT 10.3 E1)
    ("price_units", "i8"),
    ("taker_rate_units", "i8"),
    ("maker_rate_units", "i8"),
    ("change_units", *WIDE),  # balance update: in 10^-prec_show of the asset
    ("text", "u1", (32,)),  # source or business, UTF-8, zero-filled
])
assert COMMAND.itemsize == 128

ORDER = np.dtype([
    ("id", "i8"),
    ("user_id", "i8"),
    ("ctime", "f8"),
    ("mtime", "f8"),
    ("price_units", "i8"),  # 0: market order
    ("amount_units", "i8"),
    ("left_units", "i8"),  # of stock; 0 for a market buy, whose rest is amount - deal_money
    ("taker_rate_units", "i8"),
    ("maker_rate_units", "i8"),
    ("deal_stock_units", *WIDE),
    ("deal_money_units", *WIDE),  # in 10^-(stock_prec + money_prec)
    ("deal_fee_units", *WIDE),  # sell: 10^-(stock_prec + money_prec + fee_prec); buy: 10^-(stock_prec + fee_prec)
    ("market", "i4"),
    ("type", "i1"),
    ("side", "i1"),
    ("source_size", "i1"),
    ("reserved", "u1"),
    ("source", "u1", (32,)),
])
assert ORDER.itemsize == 160

RESULT = np.dtype([
    ("request_id", "i8"),
    ("sequence", "i8"),  # of the command; 0 when refused
    ("event_number", "i8"),  # of the command's last event; 0 when refused
    ("code", "i4"),
    ("kind", "i1"),
    ("reserved", "u1", (3,)),
    ("order", ORDER),  # put: after matching; cancel: as it was; else zero
])
assert RESULT.itemsize == 192

EVENT_HEAD = [
    ("number", "i8"),
    ("sequence", "i8"),  # of the command
    ("time", "f8"),
    ("kind", "i1"),
    ("taker_side", "i1"),  # deals only
    ("reserved", "u1", (2,)),
    ("market", "i4"),  # orders and deals
]
EVENT = np.dtype([*EVENT_HEAD, ("order", ORDER)])  # ORDER_PUT, ORDER_UPDATE, ORDER_FINISH

# The totals (available + freeze) are those after that side's own steps, the taker's before the maker's. Every
# single step of CONTRACT 2.7 follows from them: what a fee took off a balance is the fee rounded up to its units.
DEAL_EVENT = np.dtype([
    *EVENT_HEAD,
    ("deal_id", "i8"),
    ("ask_order_id", "i8"),
    ("bid_order_id", "i8"),
    ("ask_user_id", "i8"),
    ("bid_user_id", "i8"),
    ("price_units", "i8"),
    ("amount_units", "i8"),
    ("ask_rate_units", "i8"),
    ("bid_rate_units", "i8"),
    ("ask_stock_total_units", *WIDE),
    ("ask_money_total_units", *WIDE),
    ("bid_stock_total_units", *WIDE),
    ("bid_money_total_units", *WIDE),
    ("padding", "i8", (3,)),
])

UPDATE_EVENT = np.dtype([
    *EVENT_HEAD,
    ("user_id", "i8"),
    ("business_id", "i8"),
    ("change_units", *WIDE),  # in 10^-prec_show
    ("total_units", *WIDE),  # available + freeze after it
    ("asset", "i4"),
    ("business_size", "i4"),
    ("detail_offset", "i4"),  # into the frame's blob
    ("detail_size", "i4"),
    ("business", "u1", (32,)),
    ("padding", "u1", (64,)),
])
assert EVENT.itemsize == DEAL_EVENT.itemsize == UPDATE_EVENT.itemsize == 192

QUERY = np.dtype([
    ("kind", "i4"),
    ("market", "i4"),
    ("side", "i4"),
    ("limit_count", "i4"),
    ("user_id", "i8"),
    ("offset_count", "i8"),
    ("order_id", "i8"),
    ("interval_units", "i8"),  # depth: 0 is exact levels, else in price units
])
assert QUERY.itemsize == 48

LEVEL_VIEW = np.dtype([
    ("price_units", "i8"),
    ("left_units", *WIDE),
])
assert LEVEL_VIEW.itemsize == 24

BALANCE_VIEW = np.dtype([
    ("asset", "i4"),
    ("available_state", "i2"),  # a `Presence`
    ("freeze_state", "i2"),
    ("available_units", *WIDE),
    ("freeze_units", *WIDE),
])
assert BALANCE_VIEW.itemsize == 40


class Presence(IntEnum):
    """Whether a ledger has an entry: a zero that rounding left behind prints otherwise than none (CONTRACT 2.4)."""

    ABSENT = 0
    PRESENT = 1


ASSET_VIEW = np.dtype([
    ("name", "S16"),
    ("prec_save", "i4"),
    ("prec_show", "i4"),
    ("rank", "i4"),  # place in the listing
    ("reserved", "u1", (4,)),
    ("available_count", "i8"),  # users whose entry is not zero
    ("freeze_count", "i8"),
    ("entry_count", "i8"),  # entries, zero ones too
    ("available_units", *WIDE),
    ("freeze_units", *WIDE),
])
assert ASSET_VIEW.itemsize == 88

MARKET_VIEW = np.dtype([
    ("name", "S16"),
    ("stock", "i4"),  # asset index
    ("money", "i4"),
    ("stock_prec", "i4"),
    ("money_prec", "i4"),
    ("fee_prec", "i4"),
    ("min_prec", "i4"),
    ("rank", "i4"),  # place in the listing
    ("reserved", "u1", (4,)),
    ("min_units", "i8"),  # the smallest amount, in 10^-min_prec of stock
    ("ask_count", "i8"),  # orders
    ("bid_count", "i8"),
    ("ask_units", *WIDE),  # sum of left
    ("bid_units", *WIDE),
])
assert MARKET_VIEW.itemsize == 104

KNOWN = np.dtype([
    ("event_number", "i8"),  # of the last event that an answer takes into account; 0 when it does not say
])
assert KNOWN.itemsize == 8

RECORDS: dict[FrameKind, np.dtype] = {
    FrameKind.COMMANDS: COMMAND,
    FrameKind.RESULTS: RESULT,
    FrameKind.EVENTS: EVENT,
    FrameKind.QUERY: QUERY,
    FrameKind.ORDERS: ORDER,
    FrameKind.LEVELS: LEVEL_VIEW,
    FrameKind.BALANCES: BALANCE_VIEW,
    FrameKind.ASSETS: ASSET_VIEW,
    FrameKind.MARKETS: MARKET_VIEW,
    FrameKind.ANSWER: KNOWN,
}
_KINDS = {int(kind): kind for kind in FrameKind}  # much faster than FrameKind(number)
NO_RECORD = np.dtype("u1")  # of a frame without records
RECORD_SIZES = {int(kind): RECORDS[kind].itemsize if kind in RECORDS else 0 for kind in FrameKind}


class BadFrame(ValueError):
    """Bytes that are no frame: the text says what is wrong with them."""


class Frame(NamedTuple):
    """A frame taken apart; `records` and `blob` are views of its bytes."""

    kind: FrameKind
    records: Records
    blob: Bytes
    first: int
    total: int
    time: float
    results_hash: int
    size: int


_HEADER = struct.Struct("<IHHiiqqdqI12x")
_CRC = struct.Struct("<I")
_CRC_OFFSET = int(FRAME.fields["crc"][1])  # type: ignore[index]  # numpy: None only for unstructured dtypes
assert _HEADER.size == FRAME.itemsize


def pack(
    kind: FrameKind,
    records: Records,
    blob: Bytes = b"",
    *,
    first: int = 0,
    total: int = 0,
    time: float = 0.0,
    results_hash: int = 0,
    sealed: bool = False,
) -> bytes:
    """Make a frame; a sealed one (journal) carries its CRC."""
    return pack_bytes(
        kind,
        records.tobytes(),
        len(records),
        blob,
        first=first,
        total=total,
        time=time,
        results_hash=results_hash,
        sealed=sealed,
    )


def pack_bytes(
    kind: FrameKind,
    records: Bytes,
    count: int,
    blob: Bytes = b"",
    *,
    first: int = 0,
    total: int = 0,
    time: float = 0.0,
    results_hash: int = 0,
    sealed: bool = False,
) -> bytes:
    """Make a frame of records that are bytes already."""
    fields = (MAGIC, VERSION, kind, count, len(blob), first, total, time, results_hash)
    header = _HEADER.pack(*fields, 0)
    if sealed:
        header = _HEADER.pack(*fields, zlib.crc32(blob, zlib.crc32(records, zlib.crc32(header))))
    return b"".join((header, records, blob))


class Look(NamedTuple):
    """A frame's header, and where its parts end."""

    kind: FrameKind
    record_count: int
    first: int
    total: int
    time: float
    results_hash: int
    crc: int
    records_end: int
    size: int


def look(data: Bytes, *, exact: bool = True) -> Look:
    """Check a frame's magic, version, kind and sizes. Raises BadFrame.

    With `exact`, the frame is all of `data`; without, more may follow it (`size` tells where it ends).
    """
    if len(data) < FRAME.itemsize:
        raise BadFrame(f"{len(data)} bytes are too few for a frame header of {FRAME.itemsize}")
    magic, version, number, count, blob_size, first, total, time, results_hash, crc = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadFrame(f"magic number {magic:#010x} is not {MAGIC:#010x}")
    if version != VERSION:
        raise BadFrame(f"version {version} is not {VERSION}")
    if count < 0 or blob_size < 0:
        raise BadFrame(f"count {count} or blob size {blob_size} is negative")
    kind = _KINDS.get(number)
    if kind is None:
        raise BadFrame(f"unknown kind {number}")
    records_end = _HEADER.size + count * RECORD_SIZES[number]
    size = records_end + blob_size
    if size > len(data) or (exact and size != len(data)):
        raise BadFrame(f"{kind.name} with {count} records and {blob_size} of blob is {size} bytes, not {len(data)}")
    return Look(kind, count, first, total, time, results_hash, crc, records_end, size)


def unpack(data: Bytes, *, sealed: bool = False, exact: bool = True) -> Frame:
    """Take a frame apart, checking what `look` checks, and the CRC of a sealed one. Raises BadFrame."""
    seen = look(data, exact=exact)
    view = memoryview(data)
    if sealed:
        crc = zlib.crc32(bytes(_CRC.size), zlib.crc32(view[:_CRC_OFFSET]))
        crc = zlib.crc32(view[_CRC_OFFSET + _CRC.size : seen.size], crc)
        if crc != seen.crc:
            raise BadFrame(f"CRC {crc:#010x} is not {seen.crc:#010x}")
    records = np.frombuffer(view[FRAME.itemsize : seen.records_end], RECORDS.get(seen.kind, NO_RECORD))
    blob = view[seen.records_end : seen.size]
    return Frame(seen.kind, records, blob, seen.first, seen.total, seen.time, seen.results_hash, seen.size)


class Span(NamedTuple):
    """Which records a frame holds and how long it is."""

    first: int
    last: int
    size: int


def span(data: Bytes, offset: int = 0) -> Span | None:
    """Look at the header of a frame of ours, unchecked but for the magic number; None where none starts."""
    magic, _, number, count, blob_size, first, _, _, _, _ = _HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        return None
    return Span(first, first + count - 1, _HEADER.size + count * RECORD_SIZES.get(number, 0) + blob_size)


def struct_of(dtype: np.dtype[Any]) -> struct.Struct:
    """The `struct` that packs one record of `dtype`: bytes fields as `Ns`, a WIDE as two `q`, an ORDER in place.

    For code that handles one record at a time, where numpy's scalars cost more than the work.
    """
    letters = {"i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "f8": "d"}

    def letters_of(part: np.dtype[Any]) -> str:
        if part.names is not None:
            return "".join(letters_of(part.fields[name][0]) for name in part.names)  # type: ignore[index]  # named
        if part.subdtype is not None:
            base, shape = part.subdtype
            return f"{shape[0]}s" if base == np.uint8 else letters[base.str[1:]] * shape[0]
        if part.kind == "S":
            return f"{part.itemsize}s"
        return letters[part.str.lstrip("<|")]

    made = struct.Struct("<" + letters_of(dtype))
    assert made.size == dtype.itemsize, dtype
    return made
