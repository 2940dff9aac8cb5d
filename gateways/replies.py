"""Records of the matcher as the JSON text of results: key order and number text of CONTRACT 2.2 to 2.5.

Everything returns text, made by hand: replies are what a gateway spends its time on.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from bus.catalog import Asset, Catalog, Market
from bus.codes import ANSWERS, Code
from bus.messages import (
    ASSET_VIEW,
    BALANCE_VIEW,
    LEVEL_VIEW,
    MARKET_VIEW,
    ORDER,
    Presence,
    Records,
    struct_of,
)
from bus.orders import order_text
from bus.text import stripped, wide

_LEVEL_STRUCT = struct_of(LEVEL_VIEW)
_BALANCE_STRUCT = struct_of(BALANCE_VIEW)
_NOTHING_HELD = '{"available": "0", "freeze": "0"}'

_REFUSALS = {
    code: f'{{"error": {{"code": {answer.number}, "message": "{answer.text}"}}, "result": null, "id": '
    for code, answer in ANSWERS.items()
}


def answered(result: str, request_id: int) -> str:
    """The envelope of a success."""
    return f'{{"error": null, "result": {result}, "id": {request_id}}}'


def refused(code: Code, request_id: int | None) -> str:
    """The envelope of a refusal."""
    return f"{_REFUSALS[code]}{'null' if request_id is None else request_id}}}"


def orders(records: Records, markets: Sequence[Market]) -> str:
    """An array of order objects."""
    data = records.tobytes()
    return f"[{', '.join(order_text(data, at, markets) for at in range(0, len(data), ORDER.itemsize))}]"


def depth(levels: Records, ask_count: int, market: Market) -> str:
    """The result of order.depth: the first `ask_count` levels are asks."""
    pairs = [
        f'["{stripped(price, market.money_prec)}", "{stripped(wide(low, high), market.stock_prec)}"]'
        for price, low, high in _LEVEL_STRUCT.iter_unpack(levels.tobytes())
    ]
    return f'{{"asks": [{", ".join(pairs[:ask_count])}], "bids": [{", ".join(pairs[ask_count:])}]}}'


def balances(records: Records, wanted: Iterable[Asset]) -> str:
    """The result of balance.query; an asset that is wanted twice stands at its first place."""
    held = {row[0]: row for row in _BALANCE_STRUCT.iter_unpack(records.tobytes())}
    parts = {
        asset.index: f"{asset.quoted}: {_balance(held[asset.index], asset) if asset.index in held else _NOTHING_HELD}"
        for asset in wanted
    }
    return f"{{{', '.join(parts.values())}}}"


def _balance(row: tuple[int, ...], asset: Asset) -> str:
    _, available_state, freeze_state, available_low, available_high, freeze_low, freeze_high = row
    available = _shown(available_state, wide(available_low, available_high), asset)
    freeze = _shown(freeze_state, wide(freeze_low, freeze_high), asset)
    return f'{{"available": "{available}", "freeze": "{freeze}"}}'


def _shown(state: int, units: int, asset: Asset) -> str:
    return "0" if state == Presence.ABSENT else stripped(units // asset.hidden_power, asset.prec_show)


def asset_list(assets: Iterable[Asset]) -> str:
    """The result of asset.list."""
    rows = [f'{{"name": {asset.quoted}, "prec": {asset.prec_show}}}' for asset in assets]
    return f"[{', '.join(rows)}]"


def asset_summary(records: Records, wanted: Iterable[Asset]) -> str:
    """The result of asset.summary."""
    return f"[{', '.join(_asset_sums(records[asset.index], asset) for asset in wanted)}]"


def _asset_sums(row: Any, asset: Asset) -> str:
    assert row.dtype == ASSET_VIEW
    available, freeze = (wide(*map(int, row[name])) for name in ("available_units", "freeze_units"))
    has_entries = row["entry_count"] > 0
    total_text = stripped(available + freeze, asset.prec_save) if has_entries else "0"
    has_available = row["entry_count"] > row["freeze_count"]
    available_text = stripped(available, asset.prec_save) if has_available else "0"
    freeze_text = stripped(freeze, asset.prec_save) if row["freeze_count"] else "0"
    return (
        f'{{"name": {asset.quoted}, "total_balance": "{total_text}", '
        f'"available_count": {row["available_count"]}, "available_balance": "{available_text}", '
        f'"freeze_count": {row["freeze_count"]}, "freeze_balance": "{freeze_text}"}}'
    )


def market_list(records: Records, markets: Iterable[Market]) -> str:
    """The result of market.list."""
    return f"[{', '.join(_market_terms(records[market.index], market) for market in markets)}]"


def _market_terms(row: Any, market: Market) -> str:
    assert row.dtype == MARKET_VIEW
    return (
        f'{{"name": {market.quoted}, "stock": {market.stock.quoted}, "money": {market.money.quoted}, '
        f'"fee_prec": {market.fee_prec}, "stock_prec": {market.stock_prec}, "money_prec": {market.money_prec}, '
        f'"min_amount": "{stripped(int(row["min_units"]), int(row["min_prec"]))}"}}'
    )


def market_summary(records: Records, wanted: Iterable[Market]) -> str:
    """The result of market.summary."""
    return f"[{', '.join(_market_sums(records[market.index], market) for market in wanted)}]"


def _market_sums(row: Any, market: Market) -> str:
    ask_text, bid_text = (
        stripped(wide(*map(int, row[units])), market.stock_prec) if row[count] else "0"
        for units, count in (("ask_units", "ask_count"), ("bid_units", "bid_count"))
    )
    return (
        f'{{"name": {market.quoted}, "ask_count": {row["ask_count"]}, "ask_amount": "{ask_text}", '
        f'"bid_count": {row["bid_count"]}, "bid_amount": "{bid_text}"}}'
    )


def orders_by_user(records: Records, total: int, offset: int, limit: int, catalog: Catalog) -> str:
    """The result of order.pending."""
    page = orders(records, catalog.market_by_index)
    return f'{{"limit": {limit}, "offset": {offset}, "total": {total}, "records": {page}}}'


def orders_by_price(records: Records, total: int, offset: int, limit: int, catalog: Catalog) -> str:
    """The result of order.book."""
    page = orders(records, catalog.market_by_index)
    return f'{{"offset": {offset}, "limit": {limit}, "total": {total}, "orders": {page}}}'
