"""What the player sends over HTTP, and how it reads what comes back, in whatever pieces."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from bus.messages import CommandKind, Side
from market import http_link
from market.links import LinkBroken, MarketView
from market.orderflow import Request

MARKET = MarketView(
    name="BTCUSD",
    index=-1,
    stock="BTC",
    money="USD",
    stock_prec=8,
    money_prec=2,
    fee_prec=4,
    shown_precs={"BTC": 8, "USD": 4},
    asset_indexes={},
)
PUT = Request(CommandKind.PUT_LIMIT, 7, "a", Side.BID, price_units=7_831_850, amount_units=718)


def body(request: Request) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(http_link.encode(request, MARKET))
    return decoded


def test_requests_are_written_with_the_markets_decimals() -> None:
    assert body(PUT) == {
        "method": "order.put_limit",
        "params": [7, "BTCUSD", 2, "0.00000718", "78318.50", "0.002", "0.001", "replay"],
        "id": 1,
    }
    cancel = Request(CommandKind.CANCEL, 7, "a", order_id=12)
    assert body(cancel) == {"method": "order.cancel", "params": [7, "BTCUSD", 12], "id": 1}
    deposit = Request(CommandKind.UPDATE_BALANCE, 7, asset="USD", change_units=10_005, business_id=9)
    assert body(deposit)["params"] == [7, "USD", "replay", 9, "1.0005", {}]


@pytest.mark.parametrize(
    ("left", "deal_stock", "is_open", "has_traded"),
    [("1", "0", True, False), ("0e-8", "1", False, True), ("0.5", "0.5", True, True)],
)
def test_a_reply_tells_what_is_left_and_whether_it_traded(
    left: str, deal_stock: str, is_open: bool, has_traded: bool
) -> None:
    answer = {"error": None, "result": {"id": 12, "left": left, "deal_stock": deal_stock}, "id": 1}
    reply = http_link.decode(PUT, answer, 0.5)
    assert (reply.text, reply.order_id, reply.is_open, reply.has_traded) == ("", 12, is_open, has_traded)


def test_a_refusal_is_told_by_its_text() -> None:
    answer = {"error": {"code": 10, "message": "balance not enough"}, "result": None, "id": 1}
    reply = http_link.decode(PUT, answer, 0.5)
    assert (reply.text, reply.order_id, reply.is_open) == ("balance not enough", 0, False)


def test_a_head_that_is_no_reply_is_refused() -> None:
    assert http_link.parse_head(b"HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length:  12") == (200, 12)
    for head in (b"HTTP/1.1 200 OK", b"SSH-2.0\r\nContent-Length: x", b"\r\nContent-Length: 5"):
        with pytest.raises(LinkBroken, match="not the reply of an exchange"):
            http_link.parse_head(head)


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, listener.getsockname()[1]


def test_a_reply_may_come_in_pieces_and_a_lost_connection_is_told(server: tuple[socket.socket, int]) -> None:
    listener, port = server
    answer = json.dumps({"error": None, "result": {"id": 5, "left": "1", "deal_stock": "0"}, "id": 1}).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)

    def serve() -> None:
        with listener.accept()[0] as peer:
            peer.recv(1 << 16)
            for byte in reply:
                peer.sendall(bytes([byte]))
            peer.recv(1 << 16)

    thread = threading.Thread(target=serve)
    thread.start()
    link = http_link.HttpLink("127.0.0.1", port, connection_count=1)
    link._market = MARKET
    link.send([PUT])
    assert link.room_count() == 0
    assert link.in_flight_count == 1
    while not (replies := link.replies(1.0)):
        pass
    assert [reply.order_id for reply in replies] == [5]
    assert link.room_count() == 1
    link.send([PUT])
    with pytest.raises(LinkBroken, match="closed the connection"):
        link.replies(1.0)
    link.close()
    thread.join()


def test_nobody_there_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkBroken, match=rf"no exchange answers at http://127\.0\.0\.1:{port}"):
        http_link.HttpLink("127.0.0.1", port)
