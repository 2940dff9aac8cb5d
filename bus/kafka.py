"""What is written to Kafka, as far as those who write and those who read must agree on it.

    deals, orders, balances     ViaBTC's messages, one JSON text each, for other systems (CONTRACT 6)
    EVENTS (a setting)          every event, for processes of ours on hosts that reach Kafka only
    EVENTS-catalog              what is listed, which events mean by their indexes of assets and markets

All are written to partition 0, in order, without keys. A message of EVENTS is one frame of kind EVENTS, at most 512
KiB, whatever the frames of the event log are: numbers go on from message to message, and what was written twice comes
twice. A message of EVENTS-catalog is a frame of ASSETS, then a frame of MARKETS; the last one counts, and it is there
before the first event that needs it.

Both say in the `total` of their frames' headers which exchange they are of (`mark_of`), so that a topic which two
exchanges have written to, one after the other, is found out instead of being mixed. Whoever writes looks at the last
message before it goes on.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from bus.messages import (
    EVENT,
    FRAME,
    UPDATE_EVENT,
    BadFrame,
    Bytes,
    EventKind,
    Frame,
    FrameKind,
    Records,
    look,
    pack,
    unpack,
)

DEALS = "deals"
ORDERS = "orders"
BALANCES = "balances"
PARTITION = 0
MESSAGE_SIZE_MAX = 512 << 10  # brokers refuse messages of more than 1 MiB
CATALOG_SUFFIX = "-catalog"
_MARK_ROUNDS = 100_000  # the seed is a secret that must not be found by trying
_MARK_BITS = 62
_KINDS = [int(kind) for kind in EventKind]


def catalog_topic(events_topic: str) -> str:
    """The topic that tells what the events of `events_topic` mean."""
    return events_topic + CATALOG_SUFFIX


def mark_of(seed: int) -> int:
    """The number that an exchange is known by, from its journal's seed, which it does not give away; never 0."""
    made = hashlib.pbkdf2_hmac("sha256", str(seed).encode(), b"tradepit exchange", _MARK_ROUNDS)
    return int.from_bytes(made[:8], "little") >> (64 - _MARK_BITS) or 1


def event_messages(frame: Frame, mark: int, size_max: int = MESSAGE_SIZE_MAX) -> Iterator[bytes]:
    """A frame of events as messages: its records in order, and of its blob what they point to.

    `size_max` must have room for one event with the longest detail (bus.messages.DETAIL_MAX).
    """
    details = _details(frame)
    ends = np.cumsum(EVENT.itemsize + details["detail_size"], dtype=np.int64)
    start, start_size = 0, 0
    while start < len(details):
        end = int(np.searchsorted(ends, start_size + size_max - FRAME.itemsize, side="right"))
        assert end > start, f"an event of {ends[start] - start_size} bytes fits no message of {size_max}"
        yield _message(frame, slice(start, end), details[start:end], mark)
        start, start_size = end, int(ends[end - 1])


def events_of(message: Bytes) -> Frame:
    """The events of a message; `total` is the exchange's mark. Raises BadFrame for what contradicts itself, too."""
    frame = unpack(message)
    if frame.kind is not FrameKind.EVENTS or not len(frame.records):
        raise BadFrame(f"{frame.kind.name} with {len(frame.records)} records instead of events")
    numbers = frame.records["number"]
    if frame.first < 1 or (numbers != np.arange(frame.first, frame.first + len(numbers))).any():
        raise BadFrame(f"the numbers of {len(numbers)} events do not go on from {frame.first}")
    _refuse_bent(frame.records)
    details = _details(frame)
    starts, sizes = details["detail_offset"], details["detail_size"]
    if (starts < 0).any() or (sizes < 0).any() or (starts.astype(np.int64) + sizes > len(frame.blob)).any():
        raise BadFrame(f"an event points out of the {len(frame.blob)} bytes of details")
    return frame


def _refuse_bent(records: Records) -> None:
    """See that kinds and indexes are some that there can be. Raises BadFrame."""
    updates = records.view(UPDATE_EVENT)
    is_update = records["kind"] == EventKind.BALANCE_UPDATE
    indexes = np.where(is_update, updates["asset"], records["market"])
    if (indexes < 0).any() or not np.isin(records["kind"], _KINDS).all():
        raise BadFrame("an event of no kind that there is, or of no asset or market")


def catalog_message(assets: Records, markets: Records, mark: int) -> bytes:
    """What is listed (ASSET_VIEW and MARKET_VIEW records, by index) as a message."""
    return pack(FrameKind.ASSETS, assets, total=mark) + pack(FrameKind.MARKETS, markets, total=mark)


def catalog_of(message: Bytes) -> tuple[Records, Records, int]:
    """Assets and markets of a message, as `bus.catalog.make` takes them, and the exchange's mark. Raises BadFrame."""
    view = memoryview(message)
    size = look(view, exact=False).size
    assets, markets = unpack(view[:size]), unpack(view[size:])
    if (assets.kind, markets.kind) != (FrameKind.ASSETS, FrameKind.MARKETS) or assets.total != markets.total:
        raise BadFrame(f"{assets.kind.name} and {markets.kind.name} instead of assets and markets")
    for place in ("stock", "money"):
        indexes = markets.records[place]
        if ((indexes < 0) | (indexes >= len(assets.records))).any():
            raise BadFrame(f"a market names an asset that is none of {len(assets.records)}")
    return assets.records, markets.records, assets.total


def _details(frame: Frame) -> Records:
    """Records as updates; what is none has a detail of size 0 at offset 0."""
    updates = frame.records.view(UPDATE_EVENT)[["detail_offset", "detail_size"]].copy()
    updates[frame.records["kind"] != EventKind.BALANCE_UPDATE] = (0, 0)
    return updates


def _message(frame: Frame, part: slice, details: Records, mark: int) -> bytes:
    """Some records of a frame with only their own details."""
    records = frame.records[part].copy()
    is_update = records["kind"] == EventKind.BALANCE_UPDATE
    own = details[is_update]
    texts = [
        bytes(frame.blob[offset : offset + size])
        for offset, size in zip(own["detail_offset"].tolist(), own["detail_size"].tolist(), strict=True)
    ]
    updates = records.view(UPDATE_EVENT)
    updates["detail_offset"][is_update] = np.cumsum(own["detail_size"]) - own["detail_size"]
    first = int(records["number"][0])
    return pack(FrameKind.EVENTS, records, b"".join(texts), first=first, total=mark, time=frame.time)
