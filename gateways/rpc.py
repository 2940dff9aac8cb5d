"""JSON-RPC: the bytes of a request in, an HTTP status and the bytes of a reply out (CONTRACT 1.2).

What a method needs, and whether it is known at all, is in the method table; here is how it is answered. A request
that changes something goes to the matcher over the link, the others read its state; history and market data have
links of their own.
"""

import struct
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any

from bus import jsontext
from bus.calls import Outcome
from bus.catalog import Catalog
from bus.codes import ANSWERS, Code
from bus.messages import RESULT, CommandKind
from bus.methods import METHODS, Backend, Method, check
from bus.orders import order_text
from bus.parameters import Scope
from gateways import openrpc, replies, turns
from gateways.commands import ENCODERS, Encoded
from gateways.link import Delivered, Found, Link, NotConnected, TimedOut
from gateways.reads import READS, KeptDepths, Read
from gateways.state import State

BATCH_COUNT_MAX = 1000  # requests in a jsonrpc batch
BATCH_REPLY_MAX = 4 << 20  # characters of its results after which it gets no more reads: pages are large
BATCH_TIME_MAX_S = 10.0  # after which what is left of it is refused: each request may wait a second for a backend

Reply = tuple[int, bytes]  # HTTP status, body
Call = Callable[[list[Any]], Outcome]  # parameters in

BAD_REQUEST: Reply = (400, b"")
NO_BACKEND: Reply = (500, b"")
_CODE_AT: int = RESULT.fields["code"][1]  # type: ignore[index]  # named: numpy's stub allows None
_ORDER_AT: int = RESULT.fields["order"][1]  # type: ignore[index]  # likewise
_code_and_kind_at = struct.Struct("<ib").unpack_from  # `kind` follows `code`
_UPDATED = '{"status": "success"}'
assert not Code.OK
_UPDATE_BALANCE = int(CommandKind.UPDATE_BALANCE)  # an enum's members are slow to look up
_CODES = {int(code): code for code in Code}


class Rpc:
    """Answers requests, one after the other in each greenlet."""

    def __init__(
        self,
        state: State,
        link: Link,
        others: Mapping[Backend, Link],
        *,
        depth_cache_ms: int = 0,
        now: Callable[[], float] = monotonic,
        give_way: Callable[[], None] = turns.give_way,
    ) -> None:
        """`others` are the links to what is not the matcher; `give_way` lets other greenlets run."""
        self._state = state
        self._give_way = give_way
        self._link = link
        self._others = others
        self._now = now
        self._depths = KeptDepths(depth_cache_ms / 1000, now)
        self._calls: dict[str, Call] = {name: self._call(method) for name, method in METHODS.items()}

    def answer(self, body: bytes) -> Reply:
        """Answer a request, or a batch of them."""
        try:
            request = jsontext.parse(body)
        except jsontext.BadJson:
            return BAD_REQUEST
        if type(request) is dict:
            return self._answer_one(request)
        return self._answer_batch(request) if is_batch(request) else BAD_REQUEST

    def outcome(self, method: str, params: list[Any]) -> Outcome:
        """What a call leads to. Raises NotConnected, TimedOut."""
        return self._calls.get(method, _unknown)(params)

    def _answer_one(self, request: dict[str, Any]) -> Reply:
        if not is_request(request):
            return BAD_REQUEST
        try:
            outcome = self.outcome(request["method"], request["params"])
        except NotConnected:
            return NO_BACKEND
        except TimedOut:
            outcome = Code.SERVICE_TIMEOUT
        if isinstance(outcome, str):
            return 200, replies.answered(outcome, request["id"]).encode()
        return ANSWERS[outcome].http_status, replies.refused(outcome, request["id"]).encode()

    def _answer_batch(self, requests: list[dict[str, Any]]) -> Reply:
        """Answer in order; commands that follow each other go to the matcher together."""
        outcomes: list[Outcome] = []
        together: list[tuple[Method, list[Any]]] = []
        size, end_s = 0, self._now() + BATCH_TIME_MAX_S
        for request in requests:
            method = METHODS.get(request["method"]) if is_request(request) else None
            if method is not None and method.is_command:
                together.append((method, request["params"]))
                continue
            outcomes += self._commands(together, end_s)
            together = []
            is_served = size < BATCH_REPLY_MAX and self._now() < end_s
            outcome = self._answer_part(request) if is_served else Code.SERVICE_UNAVAILABLE
            outcomes.append(outcome)
            if isinstance(outcome, str):
                size += len(outcome)
                self._give_way()
        outcomes += self._commands(together, end_s)
        return 200, f"[{', '.join(map(_enveloped, outcomes, requests))}]".encode()

    def _answer_part(self, request: dict[str, Any]) -> Outcome:
        """Answer one of a batch that is no command; it has no HTTP status of its own."""
        if not is_request(request):
            return Code.INVALID_ARGUMENT
        try:
            return self.outcome(request["method"], request["params"])
        except NotConnected:
            return Code.INTERNAL_ERROR
        except TimedOut:
            return Code.SERVICE_TIMEOUT

    def _call(self, method: Method) -> Call:
        if method.backend is Backend.GATEWAY:
            return _discover
        if method.backend in self._others:
            return partial(self._others[method.backend].call, method)
        if method.is_command:
            return partial(self._command, method)
        if method.name == "order.depth":
            return partial(self._depth, method)
        return partial(self._read, method, READS[method.name])

    def _depth(self, method: Method, params: list[Any]) -> Outcome:
        kept = self._depths.kept(params)
        return self._read(method, self._depths.read, params) if kept is None else kept

    def _read(self, method: Method, read: Read, params: list[Any]) -> Outcome:
        catalog = self._state.catalog()
        values = check(method, params, Scope(catalog))
        if values is None:
            return Code.INVALID_ARGUMENT
        return read(self._state, values, catalog)

    def _command(self, method: Method, params: list[Any]) -> Outcome:
        if self._link.is_full:
            return Code.SERVICE_UNAVAILABLE
        catalog = self._state.catalog()
        command = _encoded(method, params, catalog)
        if command is None:
            return Code.INVALID_ARGUMENT
        return _told(self._link.ask(command), catalog)

    def _commands(self, calls: list[tuple[Method, list[Any]]], end_s: float) -> list[Outcome]:
        """Outcomes of commands that are sent in one frame, before `end_s` or not at all."""
        if not calls:
            return []
        if self._link.is_full or self._now() >= end_s:
            return [Code.SERVICE_UNAVAILABLE] * len(calls)
        try:
            catalog = self._state.catalog()
            commands = [_encoded(method, params, catalog) for method, params in calls]
            sent = [command for command in commands if command is not None]
            found = iter(self._link.ask_all(sent) if sent else ())
        except NotConnected:
            return [Code.INTERNAL_ERROR] * len(calls)
        except TimedOut:
            return [Code.SERVICE_TIMEOUT] * len(calls)
        return [
            Code.INVALID_ARGUMENT if command is None else _told_if_any(next(found), catalog) for command in commands
        ]


def is_request(request: dict[str, Any]) -> bool:
    """Whether id, method and params are there and of the right types."""
    return type(request.get("id")) is int and type(request.get("method")) is str and type(request.get("params")) is list


def is_batch(requests: list[Any]) -> bool:
    """Whether an array is a jsonrpc batch; the original knows none and refuses every array."""
    return 0 < len(requests) <= BATCH_COUNT_MAX and all(type(each) is dict and "jsonrpc" in each for each in requests)


def _discover(params: list[Any]) -> Outcome:
    return openrpc.document().decode()


def _unknown(params: list[Any]) -> Outcome:
    return Code.METHOD_NOT_FOUND


def _enveloped(outcome: Outcome, request: dict[str, Any]) -> str:
    request_id = request.get("id")
    if isinstance(outcome, str):
        return replies.answered(outcome, request["id"])
    return replies.refused(outcome, request_id if type(request_id) is int else None)


def _encoded(method: Method, params: list[Any], catalog: Catalog) -> Encoded | None:
    values = check(method, params, Scope(catalog))
    return None if values is None else ENCODERS[method.name](values)


def _told_if_any(found: Delivered, catalog: Catalog) -> Outcome:
    if isinstance(found, tuple):
        return _told(found, catalog)
    return Code.SERVICE_TIMEOUT if found is None else Code.INTERNAL_ERROR


def _told(found: Found, catalog: Catalog) -> Outcome:
    """The outcome that a RESULT tells."""
    frame, at = found
    number, kind = _code_and_kind_at(frame, at + _CODE_AT)
    if number:
        return _CODES[number]
    if kind == _UPDATE_BALANCE:
        return _UPDATED
    return order_text(frame, at + _ORDER_AT, catalog.market_by_index)
