"""What requests lead to, in tables: the envelope, who may ask, and the methods that are no subscriptions."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.codes import Code
from bus.methods import METHODS
from gateways.ws.session import SESSION_METHODS, Ask, Done, Now, Signature, Todo, Token, id_of
from tests.gateways.ws.making import ask, do, session

REFUSED = Done(Code.INVALID_ARGUMENT)
UNKNOWN = Done(Code.METHOD_NOT_FOUND)
STRANGER = Done(Code.REQUIRE_AUTHENTICATION)
PONG = Done('"pong"')
USER = 7

# CONTRACT 5.3, and the two that are ours.
METHOD_NAMES = {
    *("server.ping", "server.time", "server.auth", "server.sign"),
    *("kline.query", "price.query", "state.query", "today.query", "deals.query", "depth.query"),
    *("order.query", "order.history", "asset.query", "asset.history"),
    *("kline.subscribe", "price.subscribe", "state.subscribe", "today.subscribe", "deals.subscribe"),
    *("depth.subscribe", "order.subscribe", "asset.subscribe", "book.subscribe"),
    *("kline.unsubscribe", "price.unsubscribe", "state.unsubscribe", "today.unsubscribe", "deals.unsubscribe"),
    *("depth.unsubscribe", "order.unsubscribe", "asset.unsubscribe", "book.unsubscribe"),
}
PRIVATE_NAMES = {
    *("order.query", "order.history", "asset.query", "asset.history"),
    *("order.subscribe", "asset.subscribe", "order.unsubscribe", "asset.unsubscribe"),
}


def test_all_methods_are_there() -> None:
    assert set(SESSION_METHODS) == METHOD_NAMES
    assert {name for name, method in SESSION_METHODS.items() if method.is_private} == PRIVATE_NAMES


ENVELOPES = [
    # no request: no id
    ("", None, REFUSED),
    ("ping", None, REFUSED),
    ("1", None, REFUSED),
    ("null", None, REFUSED),
    ('"server.ping"', None, REFUSED),
    ("[]", None, REFUSED),
    ("{}", None, REFUSED),
    ('[{"id": 1, "method": "server.ping", "params": []}]', None, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": []', None, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": []} x', None, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": [],}', None, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": [NaN]}', None, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": ["\\u0000"]}', None, REFUSED),
    ('{"id": 9223372036854775808, "method": "server.ping", "params": []}', None, REFUSED),
    # its id is checked first
    ('{"method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": null, "method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": true, "method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": 1.0, "method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": 1e0, "method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": "1", "method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": [1], "method": "server.ping", "params": []}', None, REFUSED),
    ('{"id": null, "method": "nope", "params": []}', None, REFUSED),
    # then method and params
    ('{"id": 1}', 1, REFUSED),
    ('{"id": 1, "params": []}', 1, REFUSED),
    ('{"id": 1, "method": null, "params": []}', 1, REFUSED),
    ('{"id": 1, "method": 1, "params": []}', 1, REFUSED),
    ('{"id": 1, "method": ["server.ping"], "params": []}', 1, REFUSED),
    ('{"id": 1, "method": "server.ping"}', 1, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": null}', 1, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": {}}', 1, REFUSED),
    ('{"id": 1, "method": "server.ping", "params": "[]"}', 1, REFUSED),
    ('{"id": 1, "method": "nope", "params": {}}', 1, REFUSED),
    ('{"id": 1, "method": "order.query", "params": {}}', 1, REFUSED),
    # then whether there is such a method
    ('{"id": 1, "method": "nope", "params": []}', 1, UNKNOWN),
    ('{"id": 1, "method": "", "params": []}', 1, UNKNOWN),
    ('{"id": 1, "method": "Server.ping", "params": []}', 1, UNKNOWN),
    ('{"id": 1, "method": "depth.update", "params": []}', 1, UNKNOWN),
    ('{"id": 1, "method": "balance.update", "params": []}', 1, UNKNOWN),
    ('{"id": 1, "method": "order.put_limit", "params": []}', 1, UNKNOWN),
    # what is good
    ('{"id": 1, "method": "server.ping", "params": []}', 1, PONG),
    ('{"id": 0, "method": "server.ping", "params": []}', 0, PONG),
    ('{"id": -9223372036854775808, "method": "server.ping", "params": []}', -(1 << 63), PONG),
    ('{"id": 9223372036854775807, "method": "server.ping", "params": []}', (1 << 63) - 1, PONG),
    (' \r\n{"params": [], "more": {}, "method": "server.ping", "id": 3} ', 3, PONG),
    ('{"id": 1, "method": "nope", "params": [], "id": 2, "method": "server.ping"}', 2, PONG),
]


@pytest.mark.parametrize(("text", "request_id", "todo"), ENVELOPES)
def test_envelope(text: str, request_id: int | None, todo: Todo) -> None:
    assert session().take(text.encode()) == (request_id, todo)
    assert id_of(text.encode()) == request_id


@pytest.mark.parametrize("data", [b"\xff", b'{"id": 1, "method": "server.ping", "params": ["\xff"]}', b"[" * 100_000])
def test_what_is_no_text_or_too_deep_is_refused(data: bytes) -> None:
    assert session().take(data) == (None, REFUSED)
    assert id_of(data) is None


PUBLIC = [
    ("server.ping", [], PONG),
    ("server.ping", [1, {}, None], PONG),
    ("server.time", [], Now()),
    ("server.time", ["x"], Now()),
    ("server.auth", ["token", "web"], Token("token")),
    ("server.auth", ["", ""], Token("")),
    ("server.auth", ["token", "x" * 31], Token("token")),
    ("server.auth", ["token", "x" * 32], REFUSED),
    ("server.auth", ["token", "€" * 11], REFUSED),
    ("server.auth", [], REFUSED),
    ("server.auth", ["token"], REFUSED),
    ("server.auth", ["token", "web", "more"], REFUSED),
    ("server.auth", [1, "web"], REFUSED),
    ("server.auth", ["token", None], REFUSED),
    ("server.auth", ["token\r\nX-User: 1", "web"], REFUSED),
    ("server.auth", ["token\n", "web"], REFUSED),
    ("server.auth", ["token\x7f", "web"], REFUSED),
    ("server.auth", ["tökén", "web"], REFUSED),
    ("server.sign", ["id", "proof", 1], Signature("id", "proof", 1)),
    ("server.sign", ["i d\r\n&€", "proof", -1], Signature("i d\r\n&€", "proof", -1)),
    ("server.sign", ["id", "proof", 0], REFUSED),
    ("server.sign", ["id", "proof", True], REFUSED),
    ("server.sign", ["id", "proof", 1.0], REFUSED),
    ("server.sign", ["id", "proof", "1"], REFUSED),
    ("server.sign", ["id", "proof"], REFUSED),
    ("server.sign", ["id", "proof", 1, 1], REFUSED),
    ("server.sign", [1, "proof", 1], REFUSED),
    ("server.sign", ["id", None, 1], REFUSED),
    ("server.sign", ["id", "proof\r\nX: 1", 1], REFUSED),
    ("kline.query", ["BTCBCH", 1, 2, 60], Ask(METHODS["market.kline"], ["BTCBCH", 1, 2, 60], True)),
    ("price.query", ["BTCBCH"], Ask(METHODS["market.last"], ["BTCBCH"], True)),
    ("state.query", ["BTCBCH", 86400], Ask(METHODS["market.status"], ["BTCBCH", 86400], True)),
    ("today.query", ["BTCBCH"], Ask(METHODS["market.status_today"], ["BTCBCH"], True)),
    ("deals.query", ["BTCBCH", 10, 0], Ask(METHODS["market.deals"], ["BTCBCH", 10, 0], True)),
    ("depth.query", ["BTCBCH", 10, "0"], Ask(METHODS["order.depth"], ["BTCBCH", 10, "0"], True)),
    ("depth.query", [{"as": "it is"}], Ask(METHODS["order.depth"], [{"as": "it is"}], True)),
]


@pytest.mark.parametrize(("method", "params", "todo"), PUBLIC)
@pytest.mark.parametrize("user_id", [0, USER])
def test_methods_for_everybody(method: str, params: list[Any], todo: Todo, user_id: int) -> None:
    assert ask(session(user_id), method, params) == todo


OWN = [
    ("order.query", ["BTCBCH", 0, 10], "order.pending", [USER, "BTCBCH", 0, 10]),
    ("order.query", ["BTCBCH", 0], None, []),
    ("order.query", [USER, "BTCBCH", 0, 10], None, []),
    ("order.history", ["BTCBCH", 0, 0, 0, 10, 0], "order.finished", [USER, "BTCBCH", 0, 0, 0, 10, 0]),
    ("order.history", ["BTCBCH", 0, 0, 0, 10], None, []),
    ("order.history", ["BTCBCH", 0, 0, 0, 10, 0, 0], None, []),
    ("asset.query", [], "balance.query", [USER]),
    ("asset.query", ["BTC", 1], "balance.query", [USER, "BTC", 1]),
    ("asset.history", ["", "", 0, 0, 0, 10], "balance.history", [USER, "", "", 0, 0, 0, 10]),
    ("asset.history", [], None, []),
]


@pytest.mark.parametrize(("method", "params", "asked", "asked_params"), OWN)
def test_own_things_are_asked_for_the_user(
    method: str, params: list[Any], asked: str | None, asked_params: list[Any]
) -> None:
    wanted = REFUSED if asked is None else Ask(METHODS[asked], asked_params, False)
    assert ask(session(USER), method, params) == wanted


@pytest.mark.parametrize("name", sorted(PRIVATE_NAMES))
@pytest.mark.parametrize("params", [[], [1], ["BTCBCH", 0, 10], ["x" * 16], [{"after": -1}]])
def test_who_one_is_comes_before_what_one_wants(name: str, params: list[Any]) -> None:
    assert ask(session(), name, params) == STRANGER
    assert ask(session(USER), name, params) != STRANGER


@pytest.mark.parametrize(
    ("before", "after", "is_other"), [(0, USER, False), (USER, USER, False), (USER, 8, True), (8, USER, True)]
)
def test_becoming_a_user(before: int, after: int, is_other: bool) -> None:
    asking = session(before)
    assert asking.become(after) is is_other
    assert ask(asking, "asset.query", []) == Ask(METHODS["balance.query"], [after], False)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(METHOD_NAMES)), st.lists(values, max_size=7), st.sampled_from([0, USER]))
def test_whatever_params_are_there_is_something_to_do_and_the_session_stays_as_it_is(
    method: str, params: list[Any], user_id: int
) -> None:
    asking = session(user_id)
    do(asking, "book.subscribe", ["A", 5])
    before = (asking.user_id, dict(asking.topics), set(asking.numbered))
    request_id, todo = asking.take(json.dumps({"id": 5, "method": method, "params": params}).encode())
    assert isinstance(todo, Todo)
    assert request_id == 5 or "\\u0000" in json.dumps(params) or "\\ud" in json.dumps(params)
    assert (asking.user_id, asking.topics, asking.numbered) == before
