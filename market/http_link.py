"""The player's link over HTTP: several keep-alive connections, one request in flight on each, one thread."""

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from bus.messages import CommandKind
from market.links import MAKER_RATE, REPLY_TIMEOUT_S, SOURCE, TAKER_RATE, LinkBroken, MarketView
from market.orderflow import Reply, Request

CONNECTION_COUNT = 32
RECEIVE_SIZE = 1 << 16
HEAD_END = b"\r\n\r\n"


class _Connection:
    """One socket, the request that is on its way there and what has come of the reply."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=REPLY_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request: Request | None = None
        self.sent_s = 0.0
        self.received = bytearray()

    def post(self, body: bytes) -> None:
        head = f"POST / HTTP/1.1\r\nHost: exchange\r\nContent-Length: {len(body)}\r\n\r\n"
        self.sent_s = time.perf_counter()
        self.socket.sendall(head.encode() + body)

    def receive(self) -> dict[str, Any] | None:
        """The reply when it is complete. Raises LinkBroken."""
        if not (data := self.socket.recv(RECEIVE_SIZE)):
            raise LinkBroken("the exchange closed the connection")
        self.received += data
        head_end = self.received.find(HEAD_END)
        if head_end < 0:
            return None
        body_start = head_end + len(HEAD_END)
        status, size = parse_head(bytes(self.received[:head_end]))
        if len(self.received) < body_start + size:
            return None
        body = bytes(self.received[body_start : body_start + size])
        del self.received[: body_start + size]
        if not body:
            raise LinkBroken(f"the exchange answered with HTTP status {status} and no body")
        reply: dict[str, Any] = orjson.loads(body)
        return reply


class HttpLink:
    """A `Link` to the HTTP gateway."""

    def __init__(self, host: str, port: int, connection_count: int = CONNECTION_COUNT) -> None:
        self._selector = selectors.DefaultSelector()
        try:
            self._free = [_Connection(host, port) for _ in range(connection_count)]
        except OSError as error:
            raise LinkBroken(f"no exchange answers at http://{host}:{port}: {error.strerror or error}") from None
        for connection in self._free:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._market: MarketView | None = None

    @property
    def in_flight_count(self) -> int:
        return len(self._selector.get_map()) - len(self._free)

    def market(self, name: str) -> MarketView:
        shown = {asset["name"]: asset["prec"] for asset in self._call("asset.list", [])}
        for row in self._call("market.list", []):
            if row["name"] == name:
                known = {key: row[key] for key in ("name", "stock", "money", "stock_prec", "money_prec", "fee_prec")}
                self._market = MarketView(**known, index=-1, shown_precs=shown, asset_indexes={})
                return self._market
        raise LinkBroken(f"the exchange has no market {name}")

    def room_count(self) -> int:
        return len(self._free)

    def send(self, requests: Sequence[Request]) -> None:
        assert self._market is not None, "ask for the market first"
        for request in requests:
            connection = self._free.pop()
            connection.request = request
            connection.post(encode(request, self._market))

    def replies(self, wait_s: float) -> list[Reply]:
        replies = []
        for key, _ in self._selector.select(wait_s):
            connection: _Connection = key.data
            if (answer := connection.receive()) is not None:
                assert connection.request is not None
                replies.append(decode(connection.request, answer, time.perf_counter() - connection.sent_s))
                self._free.append(connection)
        return replies

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def _call(self, method: str, params: list[Any]) -> Any:
        connection = self._free[-1]
        connection.post(orjson.dumps({"method": method, "params": params, "id": 1}))
        while (answer := connection.receive()) is None:
            pass
        if answer["error"]:
            raise LinkBroken(f"{method}: {answer['error']['message']}")
        return answer["result"]


def parse_head(head: bytes) -> tuple[int, int]:
    """Status and body size of a reply's head. Raises LinkBroken."""
    first, *lines = head.split(b"\r\n")
    try:
        for line in lines:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                return int(first.split()[1]), int(value)
    except (IndexError, ValueError):
        pass
    raise LinkBroken(f"not the reply of an exchange: {first[:60]!r}")


def encode(request: Request, market: MarketView) -> bytes:
    """The JSON-RPC body of a request."""
    method, params = _METHODS[request.kind](request, market)
    return orjson.dumps({"method": method, "params": params, "id": 1})


def _put(request: Request, market: MarketView) -> tuple[str, list[Any]]:
    amount, price = text(request.amount_units, market.stock_prec), text(request.price_units, market.money_prec)
    return "order.put_limit", [
        request.user_id,
        market.name,
        request.side,
        amount,
        price,
        TAKER_RATE,
        MAKER_RATE,
        SOURCE,
    ]


def _cancel(request: Request, market: MarketView) -> tuple[str, list[Any]]:
    return "order.cancel", [request.user_id, market.name, request.order_id]


def _update(request: Request, market: MarketView) -> tuple[str, list[Any]]:
    change = text(request.change_units, market.shown_precs[request.asset])
    return "balance.update", [request.user_id, request.asset, SOURCE, request.business_id, change, {}]


_METHODS: dict[int, Callable[[Request, MarketView], tuple[str, list[Any]]]] = {
    CommandKind.PUT_LIMIT: _put,
    CommandKind.CANCEL: _cancel,
    CommandKind.UPDATE_BALANCE: _update,
}


def decode(request: Request, answer: dict[str, Any], latency_s: float) -> Reply:
    """The reply that a JSON-RPC answer tells."""
    if error := answer["error"]:
        return Reply(request, error["message"], 0, False, False, latency_s)
    if request.kind != CommandKind.PUT_LIMIT:
        return Reply(request, "", 0, False, False, latency_s)
    order = answer["result"]
    is_open, has_traded = float(order["left"]) > 0, float(order["deal_stock"]) > 0
    return Reply(request, "", order["id"], is_open, has_traded, latency_s)


def text(units: int, prec: int) -> str:
    """A number of 10^-prec as decimal text."""
    whole, rest = divmod(units, 10**prec)
    return f"{whole}.{rest:0{prec}d}" if prec else str(whole)
