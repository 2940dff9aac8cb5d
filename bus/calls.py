"""Calls of JSON methods over the bus: how a gateway asks the processes that keep history and market data.

    gateway: DEALER ── CALL (tag, method, JSON params) ──► ROUTER: history or market
                    ◄── ANSWER (tag, code, JSON result) ──

Parameters are checked here, where they are answered, by the method table: whoever can connect may send anything.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, Self

import numpy as np
import zmq

from bus import catalog, jsontext
from bus.catalog import Catalog
from bus.codes import Code
from bus.endpoints import COMMANDS_TIMEOUT_MS, ENDPOINTS, LINGER_MS
from bus.messages import KNOWN, BadFrame, FrameKind, pack, unpack
from bus.methods import BY_NUMBER, Backend, Method, check
from bus.parameters import Scope

WAITING_MAX = 100  # calls that wait their turn; more are refused with code 3 (CONTRACT 3: ten for each worker)
TAKEN_AT_ONCE_MAX = 1_000  # from the socket, so that a flood does not keep the loop from answering
_NO_RECORDS = np.zeros(0, np.uint8)

Outcome = str | Code  # the JSON text of a result, or why there is none
Respond = Callable[[Method, list[Any]], Outcome]  # a method and its checked parameters in


class Asked(NamedTuple):
    """A call that waits for its answer."""

    identity: bytes
    tag: int
    method: Method
    values: list[Any]  # checked
    deadline_s: float  # when a gateway stops waiting


def call(method: Method, params: list[Any], tag: int) -> bytes:
    """The frame that asks."""
    return pack(FrameKind.CALL, _NO_RECORDS, jsontext.packed(params), first=tag, total=method.number)


def answer(outcome: Outcome, tag: int, event_number: int = 0) -> bytes:
    """The frame that answers; `event_number` is that of the last event that the outcome takes into account."""
    text, code = (outcome, Code.OK) if isinstance(outcome, str) else ("", outcome)
    known = np.array([(event_number,)], KNOWN)
    return pack(FrameKind.ANSWER, known, text.encode(errors="replace"), first=tag, total=code)


class Service:
    """The socket on which a process answers the methods of one backend.

        with Service(address(bind, sockets_dir, "history", index), Backend.HISTORY) as service:
            while not stopping():
                service.turn(respond, wait_ms=100)

    A call that is wrong is refused with its code, what is no call gets no answer. Raises zmq.ZMQError when the
    address can't be bound.
    """

    def __init__(
        self,
        address: str,
        backend: Backend,
        listed: Callable[[], Catalog] = lambda: catalog.EMPTY,
        context: "zmq.Context[Any] | None" = None,
        now: Callable[[], float] = monotonic,
        known_number: Callable[[], int] = lambda: 0,
    ) -> None:
        """`listed` gives the assets and markets that parameters may name, `known_number` the last event that answers
        take into account.
        """
        self._known_number = known_number
        self._now = now
        self._backend = backend
        self._listed = listed
        self._waiting: deque[Asked] = deque()
        self.socket: Any = (context or zmq.Context.instance()).socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        self.socket.set_hwm(ENDPOINTS[backend.value].high_water_count)
        self.socket.bind(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; calls that wait get no answer."""
        self.socket.close()

    def turn(self, respond: Respond, wait_ms: int = 0) -> int:
        """Take the calls that have come and answer one; return how many still wait."""
        self._take(0 if self._waiting else wait_ms)
        asked = self._next()
        if asked is not None:
            outcome = respond(asked.method, asked.values)
            self._send(asked.identity, answer(outcome, asked.tag, self._known_number()))
            self._take(0)
        return len(self._waiting)

    def _next(self) -> Asked | None:
        """The oldest call that somebody still waits for; what has waited too long gets a code.

        To make results that nobody takes would let the next ones wait too long as well.
        """
        while self._waiting:
            asked = self._waiting.popleft()
            if self._now() < asked.deadline_s:
                return asked
            self._send(asked.identity, answer(Code.SERVICE_TIMEOUT, asked.tag))
        return None

    def _take(self, wait_ms: int) -> None:
        if wait_ms and not self.socket.poll(wait_ms):
            return
        for _ in range(TAKEN_AT_ONCE_MAX):
            try:
                identity, *rest = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(rest) == 1:
                self._consider(identity, rest[0])

    def _consider(self, identity: bytes, data: bytes) -> None:
        try:
            frame = unpack(data)
        except BadFrame:
            return
        if frame.kind is FrameKind.PING:
            self._send(identity, pack(FrameKind.PING, _NO_RECORDS, first=frame.first))
        elif frame.kind is FrameKind.CALL:
            found = self._checked(frame.total, bytes(frame.blob))
            if isinstance(found, Code):
                self._send(identity, answer(found, frame.first))
            else:
                deadline_s = self._now() + COMMANDS_TIMEOUT_MS / 1000
                self._waiting.append(Asked(identity, frame.first, *found, deadline_s))

    def _checked(self, number: int, params: bytes) -> tuple[Method, list[Any]] | Code:
        method = BY_NUMBER.get(number)
        if method is None or method.backend is not self._backend:
            return Code.METHOD_NOT_FOUND
        if len(self._waiting) >= WAITING_MAX:
            return Code.SERVICE_UNAVAILABLE
        try:
            given = jsontext.parse(params)
        except jsontext.BadJson:
            return Code.INVALID_ARGUMENT
        values = check(method, given, Scope(self._listed())) if type(given) is list else None
        return Code.INVALID_ARGUMENT if values is None else (method, values)

    def _send(self, identity: bytes, frame: bytes) -> None:
        try:
            self.socket.send_multipart((identity, frame), zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # who asked has gone, or does not read
