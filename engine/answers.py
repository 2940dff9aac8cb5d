"""The frames that the matcher sends back: results, refusals, answers to queries, pings."""

import numpy as np

from bus.codes import Code
from bus.messages import RESULT, FrameKind, QueryKind, Records, pack, pack_bytes
from engine.exchange import Exchange
from engine.inbox import Sender
from engine.schema import Row

KINDS = {
    QueryKind.PENDING: FrameKind.ORDERS,
    QueryKind.PENDING_DETAIL: FrameKind.ORDERS,
    QueryKind.BOOK: FrameKind.ORDERS,
    QueryKind.DEPTH: FrameKind.LEVELS,
    QueryKind.BALANCES: FrameKind.BALANCES,
    QueryKind.ASSETS: FrameKind.ASSETS,
    QueryKind.MARKETS: FrameKind.MARKETS,
}
NOTHING = np.zeros(0, "u1")
FIELDS = {  # Exchange.answer's argument -> field of QUERY
    "market": "market",
    "side": "side",
    "limit": "limit_count",
    "user_id": "user_id",
    "offset": "offset_count",
    "order_id": "order_id",
    "interval": "interval_units",
}


def refused(commands: Records) -> Records:
    """Results that say "service unavailable" to every command."""
    results = np.zeros(len(commands), RESULT)
    results["request_id"] = commands["request_id"]
    results["kind"] = commands["kind"]
    results["code"] = Code.SERVICE_UNAVAILABLE
    return results


def cut(results: bytes, senders: list[Sender]) -> list[tuple[bytes, bytes]]:
    """Each sender's results as a frame for it."""
    view, size = memoryview(results), RESULT.itemsize
    return [
        (identity, pack_bytes(FrameKind.RESULTS, view[first * size : (first + count) * size], count, first=tag))
        for identity, tag, first, count in senders
    ]


def answer(exchange: Exchange, query: Row, tag: int) -> bytes:
    """The reply to a query; a PING with total -1 to one that makes no sense."""
    try:
        kind = QueryKind(query["kind"])
        found = exchange.answer(kind, **{name: int(query[field]) for name, field in FIELDS.items()})
    except ValueError:
        return ping(tag, -1)
    return pack(KINDS[kind], found.records, first=tag, total=found.total)


def ping(tag: int, total: int, time: float = 0.0) -> bytes:
    """A PING frame."""
    return pack(FrameKind.PING, NOTHING, first=tag, total=total, time=time)
