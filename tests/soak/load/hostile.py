"""Requests that must be refused, whatever happens: none of them may get a result."""

import json
import random
from typing import Any

NESTED_COUNT = 3_000
LARGE_SIZE = 1_100_000  # more than nginx and the gateway take
STRANGER_ID = 4_000_000_000  # a user who has nothing


def request(draw: random.Random, user_id: int) -> bytes:
    """The body of one."""
    if draw.random() < 0.3:
        return _garbage(draw)
    method, params = draw.choice(_calls(user_id))
    return json.dumps({"id": 1, "method": method, "params": params}).encode()


def _garbage(draw: random.Random) -> bytes:
    return draw.choice((
        b"",
        b"{",
        b"null",
        b"[]",
        draw.randbytes(100),
        b'{"id": 1, "method": "order.put_limit", "params": ' + b"[" * NESTED_COUNT,
        b'{"id": 99999999999999999999, "method": "market.list", "params": []}',
        b'{"id": 1, "method": "market.list"}',
        b'{"id": 1, "method": 7, "params": []}',
        b'{"id": 1, "method": "no.such_method", "params": []}',
        b" " * LARGE_SIZE,
    ))


def _calls(user_id: int) -> list[tuple[str, list[Any]]]:
    order = [user_id, "BTCUSD", 1, "1", "50000", "0.002", "0.001", "hostile"]
    update = [user_id, "BTC", "hostile", 1, "1", {}]

    def changed(params: list[Any], place: int, value: Any) -> list[Any]:
        return [*params[:place], value, *params[place + 1 :]]

    orders = [
        *(changed(order, 0, user) for user in (-1, 2**32, "7", None, 1.5)),
        *(changed(order, 1, market) for market in ("", "NOSUCH", "btcusd", 7, "BTCUSD\x00")),
        *(changed(order, 2, side) for side in (0, 3, "1", None)),
        *(changed(order, 3, text) for text in ("0", "-1", "nan", "inf", "1e400", "1e18", "", "1,5", 1, "1" * 200)),
        *(changed(order, 4, text) for text in ("0", "-0.01", "NaN", "1e99", 50000, "0x10")),
        *(changed(order, 5, text) for text in ("1", "-0.1", "2", "", 0)),
        *(changed(order, 7, text) for text in ("s" * 31, 5, None)),
        order[:-1],
        [*order, 1],
    ]
    updates = [
        *(changed(update, 1, asset) for asset in ("", "NOSUCH", 3)),
        *(changed(update, 3, number) for number in ("1", 1.5, None)),
        *(changed(update, 4, text) for text in ("", "one", "1e99", 7, "-1e17")),
        changed(update, 5, "{}"),
        changed(changed(update, 0, STRANGER_ID), 4, "-1"),
    ]
    markets = [
        [user_id, "BTCUSD", 1, "0", "0.002", "x"],
        [user_id, "BTCUSD", 2, "-5", "0.002", "x"],
        [STRANGER_ID, "BTCUSD", 1, "1", "0.002", "x"],
    ]
    cancels = [[user_id, "BTCUSD", 2**62], [user_id, "BTCUSD", "1"], [user_id, "NOSUCH", 1], [STRANGER_ID, "BTCUSD", 1]]
    return [
        *(("order.put_limit", params) for params in orders),
        *(("order.put_market", params) for params in markets),
        *(("balance.update", params) for params in updates),
        *(("order.cancel", params) for params in cancels),
        *(("balance.query", params) for params in ([0], [], ["1"], [user_id, "NOSUCH"])),
        ("order.depth", ["BTCUSD", 1_000, "0"]),
        ("order.pending", [user_id, "BTCUSD", 0, 1_000]),
        ("market.kline", ["BTCUSD", 0, 0, 0]),
    ]
