"""The messages of CONTRACT 6 made plainly, of events one at a time, with `decimal` and `json`: the twin of
persist/kafka_messages.py.
"""

import json
from decimal import Context, Decimal

from bus.catalog import Catalog
from bus.jsontext import real
from bus.messages import DEAL_EVENT, UPDATE_EVENT, EventKind, Frame
from bus.orders import order_text
from bus.text import wide

_EXACT = Context(prec=200, capitals=0)


def plain(frame: Frame, catalog: Catalog) -> list[tuple[str, str]]:
    """Topic and text of each event's message, in order."""
    return [_message(frame, index, catalog) for index in range(len(frame.records))]


def _message(frame: Frame, index: int, catalog: Catalog) -> tuple[str, str]:
    event = frame.records[index]
    if event["kind"] == EventKind.DEAL:
        return "deals", _deal(frame.records[index : index + 1].view(DEAL_EVENT)[0], catalog)
    if event["kind"] == EventKind.BALANCE_UPDATE:
        return "balances", _balance(frame.records[index : index + 1].view(UPDATE_EVENT)[0], catalog)
    market = catalog.market_by_index[event["market"]]
    order = order_text(event["order"].tobytes(), 0, catalog.market_by_index)
    return "orders", (
        f'{{"event": {int(event["kind"])}, "order": {order}, '
        f'"stock": {json.dumps(market.stock.name)}, "money": {json.dumps(market.money.name)}}}'
    )


def _deal(deal: object, catalog: Catalog) -> str:
    def of(name: str) -> int:
        return int(deal[name])  # type: ignore[index]

    market = catalog.market_by_index[of("market")]
    price, amount = _units(of("price_units"), market.money_prec), _units(of("amount_units"), market.stock_prec)
    ask_rate, bid_rate = (_units(of(name), market.fee_prec) for name in ("ask_rate_units", "bid_rate_units"))
    ask_fee = _EXACT.multiply(_EXACT.multiply(price, amount), ask_rate)
    return _array(
        float(deal["time"]),  # type: ignore[index]
        market.name,
        *(of(name) for name in ("ask_order_id", "bid_order_id", "ask_user_id", "bid_user_id")),
        *map(_EXACT.to_sci_string, (price, amount, ask_fee, _EXACT.multiply(amount, bid_rate))),
        of("taker_side"),
        of("deal_id"),
        market.stock.name,
        market.money.name,
    )


def _balance(update: object, catalog: Catalog) -> str:
    asset = catalog.asset_by_index[update["asset"]]  # type: ignore[index]
    business = bytes(update["business"])[: update["business_size"]].decode("utf-8", "replace")  # type: ignore[index]
    change = _units(wide(*map(int, update["change_units"])), asset.prec_show)  # type: ignore[index]
    return _array(
        float(update["time"]),  # type: ignore[index]
        int(update["user_id"]),  # type: ignore[index]
        asset.name,
        business,
        _EXACT.to_sci_string(change),
    )


def _units(units: int, prec: int) -> Decimal:
    return _EXACT.scaleb(Decimal(units), -prec)


def _array(*items: float | int | str) -> str:
    texts = (real(item) if isinstance(item, float) else json.dumps(item, ensure_ascii=False) for item in items)
    return f"[{', '.join(texts)}]"
