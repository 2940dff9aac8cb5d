"""Events as the messages that ViaBTC's engine sends to Kafka, byte for byte (CONTRACT 6).

    deals      [time, market, ask order, bid order, ask user, bid user, price, amount, ask fee, bid fee, side, deal,
               stock, money]
    orders     {"event": 1 put, 2 update or 3 finish, "order": {...}, "stock": "...", "money": "..."}
    balances   [time, user, asset, business, change], of balance updates only

A message is a function of its event and of what is listed, so the same event is the same bytes whenever it is sent:
what was sent before a crash is recognised by them. Decimals are in base form, but for those of the order object.
"""

from collections.abc import Sequence

from bus.catalog import Asset, Catalog, Market
from bus.jsontext import moment, quoted_bytes
from bus.kafka import BALANCES, DEALS, ORDERS
from bus.messages import DEAL_EVENT, EVENT, UPDATE_EVENT, EventKind, Records, struct_of
from bus.orders import order_text
from bus.text import base, wide

TOPICS = (DEALS, ORDERS, BALANCES)
Messages = dict[str, list[bytes]]  # in order, by topic

_DEAL_STRUCT = struct_of(DEAL_EVENT)
_UPDATE_STRUCT = struct_of(UPDATE_EVENT)
_DEAL, _UPDATE = int(EventKind.DEAL), int(EventKind.BALANCE_UPDATE)  # an enum's members are slow to look up
_ORDER_AT = int(EVENT.fields["order"][1])  # type: ignore[index]  # numpy: None only for unstructured dtypes
_SIZE = EVENT.itemsize


def messages(events: Records, catalog: Catalog) -> Messages:
    """The messages of some events, of which the catalog has every name."""
    markets, assets = catalog.market_by_index, catalog.asset_by_index
    data = events.tobytes()
    deals: list[bytes] = []
    orders: list[bytes] = []
    balances: list[bytes] = []
    kinds, places = events["kind"].tolist(), events["market"].tolist()
    for at, kind, place in zip(range(0, len(data), _SIZE), kinds, places, strict=True):
        if kind == _DEAL:
            deals.append(deal_message(data, at, markets[place]))
        elif kind == _UPDATE:
            balances.append(balance_message(data, at, assets))
        else:
            orders.append(order_message(data, at, kind, markets[place], markets))
    return {DEALS: deals, ORDERS: orders, BALANCES: balances}


def counts(events: Records) -> dict[str, int]:
    """How many messages of each topic some events make."""
    kinds = events["kind"]
    deal_count, update_count = int((kinds == _DEAL).sum()), int((kinds == _UPDATE).sum())
    return {DEALS: deal_count, ORDERS: len(events) - deal_count - update_count, BALANCES: update_count}


def deal_message(data: bytes, at: int, market: Market) -> bytes:
    """The message of the DEAL_EVENT at `at`."""
    # fmt: off
    (_, _, time, _, side, _, _, deal_id, ask_order_id, bid_order_id, ask_user_id, bid_user_id,
     price, amount, ask_rate, bid_rate, *_) = _DEAL_STRUCT.unpack_from(data, at)
    # fmt: on
    return (
        f"[{moment(time)}, {market.quoted}, {ask_order_id}, {bid_order_id}, {ask_user_id}, {bid_user_id}, "
        f'"{base(price, market.money_prec)}", "{base(amount, market.stock_prec)}", '
        f'"{base(price * amount * ask_rate, market.ask_fee_prec)}", "{base(amount * bid_rate, market.bid_fee_prec)}", '
        f"{side}, {deal_id}, {market.stock.quoted}, {market.money.quoted}]"
    ).encode()


def order_message(data: bytes, at: int, kind: int, market: Market, markets: Sequence[Market]) -> bytes:
    """The message of the EVENT of an order at `at`; its kind, its market and all markets by index."""
    order = order_text(data, at + _ORDER_AT, markets)
    return (
        f'{{"event": {kind}, "order": {order}, "stock": {market.stock.quoted}, "money": {market.money.quoted}}}'
    ).encode()


def balance_message(data: bytes, at: int, assets: Sequence[Asset]) -> bytes:
    """The message of the UPDATE_EVENT at `at`."""
    # fmt: off
    (_, _, time, _, _, _, _, user_id, _, change_low, change_high, _, _,
     index, business_size, _, _, business, _) = _UPDATE_STRUCT.unpack_from(data, at)
    # fmt: on
    asset = assets[index]
    change = base(wide(change_low, change_high), asset.prec_show)
    return (
        f'[{moment(time)}, {user_id}, {asset.quoted}, {quoted_bytes(business[:business_size])}, "{change}"]'
    ).encode()
