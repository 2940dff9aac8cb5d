"""Requests and replies: envelopes, the checks of every method in their order, batches (CONTRACT 1.2, 2.3)."""

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from bus.calls import Outcome
from bus.codes import ANSWERS, Code
from bus.messages import COMMAND, DETAIL_MAX, LEVEL_VIEW, CommandKind, QueryKind
from bus.methods import METHODS, Backend, Method
from engine.views import Answered
from gateways.commands import Encoded
from gateways.link import Delivered, Link, NotConnected, TimedOut
from gateways.rpc import BATCH_COUNT_MAX, BATCH_REPLY_MAX, Rpc
from gateways.state import State
from tests.gateways.making import FakeLink, FakeState

INVALID = '{"error": {"code": 1, "message": "invalid argument"}, "result": null, "id": 1}'
PUT_LIMIT = [7, "BTCBCH", 1, "1.5", "8000", "0.002", "0.001", "web"]
PUT_MARKET = [7, "BTCBCH", 2, "1.5", "0.002", "web"]
CANCEL = [7, "BTCBCH", 5]
UPDATE = [7, "BTC", "deposit", 100, "1.2345", {"memo": "x"}]
VALID: dict[str, list[Any]] = {
    "order.put_limit": PUT_LIMIT,
    "order.put_market": PUT_MARKET,
    "order.cancel": CANCEL,
    "balance.update": UPDATE,
    "order.pending": [7, "BTCBCH", 0, 10],
    "order.pending_detail": ["BTCBCH", 5],
    "order.book": ["BTCBCH", 1, 0, 10],
    "order.depth": ["BTCBCH", 10, "0"],
    "balance.query": [7],
    "asset.list": [],
    "asset.summary": [],
    "market.list": [],
    "market.summary": [],
}

NOT_USERS: tuple[Any, ...] = (-1, 2**32, 2**63 - 1, 7.0, "7", True, None, [], {})
NOT_MARKETS: tuple[Any, ...] = ("", "btcbch", "BTCBCH ", "BTC", 1, None, True, [], {})
NOT_ASSETS: tuple[Any, ...] = ("", "btc", "BTC ", "BTCBCH", 1, None, True, [], {})
NOT_SIDES: tuple[Any, ...] = (0, 3, -1, 1.0, "1", True, None)
NOT_ABOVE_ZERO: tuple[Any, ...] = (
    "0",
    "-1",
    "",
    "x",
    "nan",
    "Infinity",
    "1e999999999",
    "1" * 30,
    1,
    1.5,
    None,
    True,
    " 1",
)
NOT_RATES: tuple[Any, ...] = ("-0.1", "1", "1.0", "1e0", "nan", "", 0, 0.001, None)
NOT_SHORT: tuple[Any, ...] = ("x" * 31, "\u00e9" * 16, "x" * (1 << 20), 1, None, True, [])
NOT_INTEGERS: tuple[Any, ...] = (1.0, "1", None, True, [], {})
NOT_LIMITS: tuple[Any, ...] = (102, -1, 1000, 2**62, 1.0, "1", None, True)

WRONG: list[tuple[str, int, tuple[Any, ...]]] = [
    ("order.put_limit", 0, NOT_USERS),
    ("order.put_limit", 1, NOT_MARKETS),
    ("order.put_limit", 2, NOT_SIDES),
    ("order.put_limit", 3, (*NOT_ABOVE_ZERO, "0.000000009")),
    ("order.put_limit", 4, NOT_ABOVE_ZERO),
    ("order.put_limit", 5, NOT_RATES),
    ("order.put_limit", 6, NOT_RATES),
    ("order.put_limit", 7, NOT_SHORT),
    ("order.put_market", 0, NOT_USERS),
    ("order.put_market", 1, NOT_MARKETS),
    ("order.put_market", 2, NOT_SIDES),
    ("order.put_market", 3, NOT_ABOVE_ZERO),
    ("order.put_market", 4, NOT_RATES),
    ("order.put_market", 5, NOT_SHORT),
    ("order.cancel", 0, NOT_USERS),
    ("order.cancel", 1, NOT_MARKETS),
    ("order.cancel", 2, NOT_INTEGERS),
    ("balance.update", 0, NOT_USERS),
    ("balance.update", 1, NOT_ASSETS),
    ("balance.update", 2, NOT_SHORT),
    ("balance.update", 3, NOT_INTEGERS),
    ("balance.update", 4, ("", "abc", "nan", "inf", "1e999999999", "1e30", 1, None)),
    ("balance.update", 5, ([], "x", 1, None, {"memo": "x" * DETAIL_MAX})),
    ("order.pending", 0, NOT_USERS),
    ("order.pending", 1, NOT_MARKETS),
    ("order.pending", 2, NOT_INTEGERS),
    ("order.pending", 3, NOT_LIMITS),
    ("order.pending_detail", 0, NOT_MARKETS),
    ("order.pending_detail", 1, NOT_INTEGERS),
    ("order.book", 0, NOT_MARKETS),
    ("order.book", 1, NOT_SIDES),
    ("order.book", 2, NOT_INTEGERS),
    ("order.book", 3, NOT_LIMITS),
    ("order.depth", 0, NOT_MARKETS),
    ("order.depth", 1, NOT_LIMITS),
    ("order.depth", 2, ("-1", "x", "", "nan", 0, 0.1, None)),
    ("balance.query", 0, (0, *NOT_USERS)),
]

ENVELOPES_REFUSED = [
    *("", " ", "{", "null", "1", "[]", "{}", '{"id": 1}', '[{"id": 1, "method": "asset.list", "params": []}]'),
    *('{"id": "1", "method": "asset.list", "params": []}', '{"id": 1.0, "method": "asset.list", "params": []}'),
    *('{"id": true, "method": "asset.list", "params": []}', '{"id": null, "method": "asset.list", "params": []}'),
    *('{"id": 9223372036854775808, "method": "asset.list", "params": []}', '{"method": "asset.list", "params": []}'),
    *('{"id": 1, "method": 1, "params": []}', '{"id": 1, "params": []}', '{"id": 1, "method": "asset.list"}'),
    *('{"id": 1, "method": "asset.list", "params": {}}', '{"id": 1, "method": "asset.list", "params": null}'),
    *('{"id": 1, "method": "nope", "params": {}}', '{"id": 1, "method": "asset.list", "params": []} x'),
    *('[{"jsonrpc": "2.0"}, 1]', '[{"jsonrpc": "2.0"}, {"id": 1}]', '["jsonrpc"]'),
]


def make(link: FakeLink | None = None, state: FakeState | None = None, depth_cache_ms: int = 0, **more: Any) -> Rpc:
    """An Rpc over stand-ins."""
    to_matcher = cast(Link, link or FakeLink())
    others = dict.fromkeys((Backend.HISTORY, Backend.MARKET), to_matcher)
    return Rpc(cast(State, state or FakeState()), to_matcher, others, depth_cache_ms=depth_cache_ms, **more)


def ask(rpc: Rpc, method: str, params: list[Any], request_id: int = 1) -> str:
    status, body = rpc.answer(json.dumps({"id": request_id, "method": method, "params": params}).encode())
    assert status == 200
    return body.decode()


@pytest.mark.parametrize("body", ENVELOPES_REFUSED)
def test_a_bad_envelope_is_a_bad_request(body: str) -> None:
    assert make().answer(body.encode()) == (400, b"")


def test_an_unknown_method_is_told_before_its_parameters_or_the_backend_are_looked_at() -> None:
    rpc = make(FakeLink(fails=NotConnected), FakeState(fails=NotConnected))
    text = b'{"error": {"code": 4, "message": "method not found"}, "result": null, "id": -3}'
    assert rpc.answer(b'{"id": -3, "method": "nope", "params": [1], "extra": {}}') == (404, text)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.backend is not Backend.GATEWAY])
def test_without_its_backend_a_method_is_an_internal_server_error(name: str) -> None:
    rpc = make(FakeLink(fails=NotConnected), FakeState(fails=NotConnected))
    body = json.dumps({"id": 1, "method": name, "params": VALID.get(name, [])}).encode()
    assert rpc.answer(body) == (500, b"")


ELSEWHERE = [name for name, method in METHODS.items() if method.backend in (Backend.HISTORY, Backend.MARKET)]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_history_and_market_data_answer_is_passed_on_with_the_parameters_as_they_came(name: str) -> None:
    link = FakeLink(outcome='[1, "0e-8"]')
    assert ask(make(link), name, [1, "x", {}]) == '{"error": null, "result": [1, "0e-8"], "id": 1}'
    assert link.calls == [(name, [1, "x", {}])]
    assert ask(make(FakeLink(outcome=Code.INVALID_ARGUMENT)), name, []) == INVALID


def test_every_engine_method_is_tried() -> None:
    assert set(VALID) == {name for name, method in METHODS.items() if method.backend is Backend.ENGINE}
    assert len(VALID) == 13


@pytest.mark.parametrize(("name", "place", "values"), WRONG, ids=lambda part: str(part)[:20])
def test_a_wrong_parameter_is_an_invalid_argument(name: str, place: int, values: tuple[Any, ...]) -> None:
    link = FakeLink()
    rpc = make(link)
    for value in values:
        params = [*VALID[name][:place], value, *VALID[name][place + 1 :]]
        assert ask(rpc, name, params) == INVALID, value
    assert not link.frames


@pytest.mark.parametrize("name", [name for name, params in VALID.items() if METHODS[name].rest is None])
def test_a_missing_or_an_extra_parameter_is_an_invalid_argument(name: str) -> None:
    rpc = make()
    assert ask(rpc, name, VALID[name][:-1]) == INVALID
    assert ask(rpc, name, [*VALID[name], 0]) == INVALID
    assert ask(rpc, name, []) == INVALID


@pytest.mark.parametrize("name", ["asset.summary", "market.summary", "balance.query"])
def test_each_name_of_a_list_must_be_known(name: str) -> None:
    for wrong in NOT_MARKETS[:3]:
        assert ask(make(), name, [*VALID[name], wrong]) == INVALID


def test_a_limit_order_becomes_a_command() -> None:
    link = FakeLink()
    ask(make(link), "order.put_limit", PUT_LIMIT)
    expected = np.zeros(1, COMMAND)
    expected["kind"], expected["side"], expected["user_id"] = CommandKind.PUT_LIMIT, 1, 7
    expected["amount_units"], expected["price_units"] = 15 * 10**7, 8000 * 10**8
    expected["taker_rate_units"], expected["maker_rate_units"] = 20, 10
    expected["text"][0][:3], expected["text_size"] = list(b"web"), 3
    assert link.commands == expected


def test_a_market_order_becomes_a_command() -> None:
    link = FakeLink()
    ask(make(link), "order.put_market", PUT_MARKET)
    command = link.commands[0]
    assert (command["kind"], command["side"], command["amount_units"]) == (CommandKind.PUT_MARKET, 2, 15 * 10**7)
    assert (command["taker_rate_units"], command["maker_rate_units"], command["price_units"]) == (20, 0, 0)


def test_a_cancel_becomes_a_command() -> None:
    link = FakeLink()
    ask(make(link), "order.cancel", CANCEL)
    command = link.commands[0]
    assert (command["kind"], command["user_id"], command["subject_id"]) == (CommandKind.CANCEL, 7, 5)


def test_a_balance_update_becomes_a_command_and_its_detail_text() -> None:
    link = FakeLink()
    reply = ask(make(link), "balance.update", [0, "BTC", "fee", -5, "-1.234567899", {"id": 1, "memo": "\u00e9"}])
    assert reply == '{"error": null, "result": {"status": "success"}, "id": 1}'
    command = link.commands[0]
    assert (command["user_id"], command["subject_id"], command["asset"]) == (0, -5, 0)
    assert list(command["change_units"]) == [-123456789, -1]
    assert link.frames[0][0][1] == '{"id": -5, "memo": "\u00e9"}'.encode()
    assert command["detail_size"] == len(link.frames[0][0][1])


@pytest.mark.parametrize("code", [code for code in Code if code and ANSWERS[code].http_status == 200])
def test_a_refusal_of_the_matcher_is_told_in_the_words_of_the_table(code: Code) -> None:
    number, text, _ = ANSWERS[code]
    reply = ask(make(FakeLink(code=code)), "order.cancel", CANCEL, request_id=9)
    assert reply == f'{{"error": {{"code": {number}, "message": "{text}"}}, "result": null, "id": 9}}'


def test_a_matcher_that_does_not_answer_is_a_gateway_timeout() -> None:
    body = json.dumps({"id": 1, "method": "order.cancel", "params": CANCEL}).encode()
    text = b'{"error": {"code": 5, "message": "service timeout"}, "result": null, "id": 1}'
    assert make(FakeLink(fails=TimedOut)).answer(body) == (504, text)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.is_command])
def test_too_many_in_flight_is_told_before_the_parameters_are_looked_at(name: str) -> None:
    reply = ask(make(FakeLink(is_full=True)), name, [])
    assert reply == '{"error": {"code": 3, "message": "service unavailable"}, "result": null, "id": 1}'


def test_a_page_is_asked_for_as_it_was_wished_even_before_the_first() -> None:
    state = FakeState()
    assert '"limit": 101, "offset": -1, "total": 0' in ask(make(state=state), "order.pending", [7, "SATBCH", -1, 101])
    assert '"offset": 5, "limit": 0, "total": 0' in ask(make(state=state), "order.book", ["BTCBCH", 2, 5, 0])
    assert state.asked == [
        {"kind": QueryKind.PENDING, "market": 1, "user_id": 7, "offset": -1, "limit": 101},
        {"kind": QueryKind.BOOK, "market": 0, "side": 2, "offset": 5, "limit": 0},
    ]


def test_lists_are_in_the_order_of_the_listing_and_take_anything() -> None:
    assets = '[{"name": "BCH", "prec": 8}, {"name": "BTC", "prec": 8}, {"name": "SAT", "prec": 4}]'
    assert ask(make(), "asset.list", [None, {}]) == f'{{"error": null, "result": {assets}, "id": 1}}'


def level(price_units: int) -> Answered:
    return Answered(np.array([(price_units, (100_000_000, 0))], LEVEL_VIEW), 1)


def test_a_depth_is_reused_for_the_very_same_parameters_as_long_as_it_may() -> None:
    state, clock = FakeState({QueryKind.DEPTH: level(10**8)}), [100.0]
    rpc = make(state=state, depth_cache_ms=50, now=lambda: clock[0])
    first = ask(rpc, "order.depth", ["BTCBCH", 10, "0"])
    assert '"asks": [["1", "1"]], "bids": []' in first
    state.answers[QueryKind.DEPTH] = level(2 * 10**8)
    clock[0] += 0.049
    assert ask(rpc, "order.depth", ["BTCBCH", 10, "0"]) == first
    for params in (["BTCBCH", 9, "0"], ["BTCBCH", 10, "0.0"], ["SATBCH", 10, "0"]):
        assert ask(rpc, "order.depth", params) != first
    assert ask(rpc, "order.depth", ["BTCBCH", 102, "0"]) == INVALID
    clock[0] += 0.002
    assert '"asks": [["2", "1"]]' in ask(rpc, "order.depth", ["BTCBCH", 10, "0"])


def test_a_depth_is_never_reused_when_it_must_not() -> None:
    state = FakeState({QueryKind.DEPTH: level(10**8)})
    rpc = make(state=state)
    for _ in range(3):
        ask(rpc, "order.depth", ["BTCBCH", 10, "0"])
    assert len(state.asked) == 3


def batch(rpc: Rpc, *requests: dict[str, Any]) -> tuple[int, Any]:
    status, body = rpc.answer(json.dumps([{"jsonrpc": "2.0", **request} for request in requests]).encode())
    return status, json.loads(body) if body else None


def test_a_batch_is_answered_in_order_and_commands_in_a_row_go_together() -> None:
    link = FakeLink()
    status, replies = batch(
        make(link),
        {"id": 5, "method": "order.cancel", "params": CANCEL},
        {"id": 4, "method": "order.cancel", "params": []},
        {"id": 3, "method": "balance.update", "params": UPDATE},
        {"id": 2, "method": "asset.list", "params": []},
        {"id": 1, "method": "order.put_limit", "params": PUT_LIMIT},
    )
    assert status == 200
    assert [reply["id"] for reply in replies] == [5, 4, 3, 2, 1]
    assert [len(frame) for frame in link.frames] == [2, 1]
    assert [reply["error"] and reply["error"]["code"] for reply in replies] == [None, 1, None, None, None]
    assert replies[2]["result"] == {"status": "success"}


def test_what_is_wrong_with_one_of_a_batch_does_not_touch_the_others() -> None:
    _, replies = batch(
        make(FakeLink(outcome=Code.INTERNAL_ERROR)),
        {"id": "x", "method": "asset.list", "params": []},
        {"id": 2, "method": "nope", "params": []},
        {"id": 3, "method": "market.last", "params": []},
        {"id": 4, "method": "asset.list", "params": []},
    )
    assert [(reply["id"], reply["error"] and reply["error"]["code"]) for reply in replies] == [
        (None, 1),
        (2, 4),
        (3, 2),
        (4, None),
    ]


@pytest.mark.parametrize(("fails", "code"), [(NotConnected, 2), (TimedOut, 5)])
def test_a_batch_without_a_matcher(fails: Any, code: int) -> None:
    _, replies = batch(make(FakeLink(fails=fails)), {"id": 1, "method": "order.cancel", "params": CANCEL})
    assert replies[0]["error"]["code"] == code


def test_of_a_batch_of_which_a_part_left_that_part_is_told() -> None:
    class HalfGone(FakeLink):
        def ask_all(self, commands: Sequence[Encoded]) -> list[Delivered]:
            return [*super().ask_all(commands[:1]), NotConnected]

    request = {"id": 1, "method": "order.cancel", "params": CANCEL}
    _, replies = batch(make(HalfGone()), request, request)
    assert [reply["error"] and reply["error"]["code"] for reply in replies] == [None, 2]


def test_a_batch_has_a_limit() -> None:
    request = {"id": 1, "method": "asset.list", "params": []}
    assert batch(make(), *[request] * BATCH_COUNT_MAX)[0] == 200
    assert batch(make(), *[request] * (BATCH_COUNT_MAX + 1)) == (400, None)


def test_a_batch_does_not_wait_for_ever_for_those_who_do_not_answer() -> None:
    clock = [100.0]

    class SlowLink(FakeLink):
        def call(self, method: Method, params: list[Any]) -> Outcome:
            clock[0] += 1
            return super().call(method, params)

    link = SlowLink(fails=TimedOut)
    read, command = ({"id": 1, "method": name, "params": CANCEL} for name in ("market.last", "order.cancel"))
    _, replies = batch(make(link, now=lambda: clock[0]), *[read] * 20, command)
    codes = [reply["error"]["code"] for reply in replies]
    assert codes == [5] * 10 + [3] * 11
    assert not link.frames


def test_a_batch_of_large_replies_has_a_limit_and_lets_others_run() -> None:
    levels = np.zeros(202, LEVEL_VIEW)
    levels["price_units"] = 10**17 + np.arange(202)
    turns: list[int] = []
    link = FakeLink()
    rpc = make(link, FakeState({QueryKind.DEPTH: Answered(levels, 101)}), give_way=lambda: turns.append(1))
    read = {"id": 1, "method": "order.depth", "params": ["BTCBCH", 101, "0"]}
    one = len(ask(rpc, **{name: read[name] for name in ("method", "params")}))  # type: ignore[arg-type]
    read_count = BATCH_REPLY_MAX // one
    command = {"id": 1, "method": "order.cancel", "params": CANCEL}
    _, replies = batch(rpc, *[read] * (BATCH_COUNT_MAX - 1), command)
    codes = [reply["error"] and reply["error"]["code"] for reply in replies]
    served_count = codes.index(3)
    assert read_count <= served_count <= read_count + 10
    assert codes == [None] * served_count + [3] * (BATCH_COUNT_MAX - 1 - served_count) + [None]
    assert len(turns) == served_count


def test_the_interface_describes_itself() -> None:
    document = json.loads(ask(make(), "rpc.discover", []))["result"]
    described = {method["name"]: method for method in document["methods"]}
    assert set(described) == set(METHODS)
    for name, params in VALID.items():
        required = [param for param in described[name]["params"] if param["required"]]
        assert len(required) == len(params), name
    errors = [error["code"] for error in described["order.put_market"]["errors"]]
    assert errors == [1, 3, 5, 10, 12, 11]
    for name in ("market.last", "order.deals"):
        assert [error["code"] for error in described[name]["errors"]] == [1, 2, 3, 5]
