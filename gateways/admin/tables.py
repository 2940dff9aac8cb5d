"""The tables of the admin port, column for column and blank for blank the original's (CONTRACT 9.3).

Names are padded by bytes, as C does it. Numbers are in base form, which keeps their zeros (CONTRACT 0.4).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bus.catalog import Asset, Catalog, Market
from bus.messages import ASSET_VIEW, BALANCE_VIEW, MARKET_VIEW, Presence, Records, struct_of
from bus.text import base, wide
from engine.schema import BALANCE

BALANCE_HEAD = b"%-10s %-16s %-10s %s\n" % (b"user", b"asset", b"type", b"amount")
_ASSET_ROW = "%-30s %-10s %-30s %-10s %-30s\n"
_MARKET_ROW = b"%-10s %-10s %-20s %-10s %-20s\n"
_BALANCE_STRUCT = struct_of(BALANCE)
_VIEW_STRUCT = struct_of(BALANCE_VIEW)


class Status(NamedTuple):
    """What `status` tells."""

    order_id: int
    deal_id: int
    operation_id: int
    operations_pending: int  # accepted, but not on disk yet
    history_pending: int  # events
    messages_pending: int  # events


def status(found: Status) -> bytes:
    """The answer to `status`; one courier carries all three kinds of messages, event by event."""
    lines = (
        f"order last ID: {found.order_id}",
        f"deals last ID: {found.deal_id}",
        f"operlog last ID: {found.operation_id}",
        f"operlog pending: {found.operations_pending}",
        f"history pending {found.history_pending}",
        *(f"message {kind} pending: {found.messages_pending}" for kind in ("deals", "orders", "balances")),
    )
    return "".join(f"{line}\n" for line in lines).encode()


class Names(NamedTuple):
    """An asset as rows of balances show it."""

    padded: bytes
    prec_save: int


def names(catalog: Catalog) -> list[Names]:
    """Of all assets, by number."""
    return [Names(b"%-16s" % asset.name.encode(), asset.prec_save) for asset in catalog.asset_by_index]


def held(rows: Records, known: list[Names]) -> bytes:
    """Lines for BALANCE rows; an asset that was not known yet when the list began is left out."""
    lines: list[bytes] = []
    for _, user_id, number, _, dust, *halves, _ in _BALANCE_STRUCT.iter_unpack(rows.tobytes()):
        if number < len(known):
            available, freeze = wide(*halves[:2]), wide(*halves[2:])
            lines += _entries(user_id, known[number], available if available or dust else None, freeze or None)
    return b"".join(lines)


def held_by(user_id: int, records: Records, catalog: Catalog) -> bytes:
    """Lines for the BALANCE_VIEW records of a user, in the order of the listing."""
    assert records.dtype == BALANCE_VIEW
    rows: Mapping[int, tuple[int, ...]] = {row[0]: row for row in _VIEW_STRUCT.iter_unpack(records.tobytes())}
    known = names(catalog)
    lines: list[bytes] = []
    for asset in catalog.assets:
        if asset.index in rows:
            _, available_state, freeze_state, *halves = rows[asset.index]
            available = wide(*halves[:2]) if available_state == Presence.PRESENT else None
            freeze = wide(*halves[2:]) if freeze_state == Presence.PRESENT else None
            lines += _entries(user_id, known[asset.index], available, freeze)
    return b"".join(lines)


def _entries(user_id: int, asset: Names, available: int | None, freeze: int | None) -> Iterator[bytes]:
    for kind, units in ((b"available ", available), (b"freeze    ", freeze)):
        if units is not None:
            yield b"%-10d %b %b %b\n" % (user_id, asset.padded, kind, base(units, asset.prec_save).encode())


def asset_sums(records: Records, catalog: Catalog) -> bytes:
    """The answer to `balance summary`."""
    assert records.dtype == ASSET_VIEW
    head = ("total", "available", "available", "freeze", "freeze")
    lines = [_asset_line("asset", head), *(_asset_sums(records[asset.index], asset) for asset in catalog.assets)]
    return b"".join(lines)


def _asset_sums(row: Any, asset: Asset) -> bytes:
    available, freeze = (wide(*map(int, row[name])) for name in ("available_units", "freeze_units"))
    has_available = row["entry_count"] > row["freeze_count"]
    columns = (
        base(available + freeze, asset.prec_save) if row["entry_count"] else "0",
        str(row["available_count"]),
        base(available, asset.prec_save) if has_available else "0",
        str(row["freeze_count"]),
        base(freeze, asset.prec_save) if row["freeze_count"] else "0",
    )
    return _asset_line(asset.name, columns)


def _asset_line(name: str, columns: tuple[str, ...]) -> bytes:
    return b"%-16s %b" % (name.encode(), (_ASSET_ROW % columns).encode())


def market_sums(records: Records, catalog: Catalog) -> bytes:
    """The answer to `market summary`."""
    assert records.dtype == MARKET_VIEW
    head = _MARKET_ROW % (b"market", b"ask count", b"ask amount", b"bid count", b"bid amount")
    return b"".join((head, *(_market_sums(records[market.index], market) for market in catalog.markets)))


def _market_sums(row: Any, market: Market) -> bytes:
    columns = [market.name]
    for count, units in (("ask_count", "ask_units"), ("bid_count", "bid_units")):
        left = wide(*map(int, row[units]))
        columns += (str(row[count]), base(left, market.stock_prec) if row[count] else "0")
    return _MARKET_ROW % tuple(column.encode() for column in columns)
