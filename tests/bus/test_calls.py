"""Calls over the bus: what is asked wrongly is refused, what comes too fast too, what is no call gets no answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from bus import calls
from bus.calls import WAITING_MAX, Outcome, Service
from bus.codes import Code
from bus.messages import Frame, FrameKind, pack, unpack
from bus.methods import METHODS, Backend, Method

PATIENCE_MS = 30_000
DETAIL = METHODS["order.finished_detail"]
NO_RECORDS = np.zeros(0, np.uint8)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(f"ipc://{tmp_path}/history.sock", Backend.HISTORY) as made:
        yield made


@pytest.fixture
def asker(tmp_path: Path, service: Service) -> Iterator[Any]:
    socket: Any = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"ipc://{tmp_path}/history.sock")
    yield socket
    socket.close()


def respond(method: Method, values: list[Any]) -> Outcome:
    return json.dumps([method.name, values])


def reply(asker: Any) -> Frame:
    assert asker.poll(PATIENCE_MS), "no answer"
    return unpack(asker.recv())


def asked(asker: Any, service: Service, frame: bytes) -> Frame:
    asker.send(frame)
    for _ in range(PATIENCE_MS):
        service.turn(respond, wait_ms=1)
        if asker.poll(0):
            break
    return reply(asker)


def test_a_call_gets_the_answer_of_its_method_with_its_tag(asker: Any, service: Service) -> None:
    answer = asked(asker, service, calls.call(DETAIL, [17], 5))
    assert (answer.kind, answer.first, answer.total) == (FrameKind.ANSWER, 5, Code.OK)
    assert json.loads(bytes(answer.blob)) == ["order.finished_detail", [17]]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (calls.call(DETAIL, [0], 1), Code.INVALID_ARGUMENT),
        (calls.call(DETAIL, [1, 2], 1), Code.INVALID_ARGUMENT),
        (calls.call(METHODS["market.last"], ["BTCUSD"], 1), Code.METHOD_NOT_FOUND),
        (calls.call(METHODS["order.cancel"], [1, "BTCUSD", 1], 1), Code.METHOD_NOT_FOUND),
        (pack(FrameKind.CALL, NO_RECORDS, b"[1]", first=1, total=-9), Code.METHOD_NOT_FOUND),
        *(
            (pack(FrameKind.CALL, NO_RECORDS, params, first=1, total=DETAIL.number), Code.INVALID_ARGUMENT)
            for params in (b"", b"[", b"{}", b"1", b"\xff", b"[" * 5000, b'"order"')
        ),
    ],
)
def test_what_is_wrong_is_refused_without_being_asked(asker: Any, service: Service, frame: bytes, code: Code) -> None:
    answer = asked(asker, service, frame)
    assert (answer.kind, answer.first, answer.total, bytes(answer.blob)) == (FrameKind.ANSWER, 1, code, b"")


def test_what_is_no_call_gets_no_answer_and_harms_nobody(asker: Any, service: Service) -> None:
    for garbage in (b"", b"x" * 64, pack(FrameKind.ANSWER, NO_RECORDS, first=3), pack(FrameKind.QUERY, NO_RECORDS)):
        asker.send(garbage)
    asker.send_multipart([b"", calls.call(DETAIL, [1], 1)])
    assert asked(asker, service, calls.call(DETAIL, [2], 9)).first == 9


def test_a_ping_is_answered(asker: Any, service: Service) -> None:
    answer = asked(asker, service, pack(FrameKind.PING, NO_RECORDS, first=8))
    assert (answer.kind, answer.first) == (FrameKind.PING, 8)


def test_what_has_waited_too_long_is_not_looked_up_any_more() -> None:
    clock = [0.0]
    looked_up: list[int] = []

    def slowly(method: Method, values: list[Any]) -> Outcome:
        clock[0] += 0.4
        looked_up.append(values[0])
        return "null"

    context = zmq.Context[Any]()
    place = "inproc://slow"  # what was sent has come
    with Service(place, Backend.HISTORY, context=context, now=lambda: clock[0]) as service:
        socket: Any = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(place)
        for tag in (1, 2, 3, 4, 5):
            socket.send(calls.call(DETAIL, [tag], tag))
        while service.turn(slowly):
            pass
        answers = [reply(socket) for _ in range(5)]
        socket.close()
    context.term()
    assert {answer.first: answer.total for answer in answers} == {1: 0, 2: 0, 3: 0, 4: 5, 5: 5}
    assert looked_up == [1, 2, 3]


def test_an_answer_is_utf_8_whatever_it_holds() -> None:
    assert bytes(unpack(calls.answer('"\ud800\u00e9"', 1)).blob) == '"?\u00e9"'.encode()


def test_parameters_may_be_nested_as_deep_as_a_request(asker: Any, service: Service) -> None:
    nested: list[Any] = []
    for _ in range(900):
        nested = [nested]
    answer = asked(asker, service, calls.call(METHODS["order.finished"], [7, "x", 0, 0, 0, 10, 0, nested], 1))
    assert answer.total == Code.OK


def test_more_than_may_wait_are_refused_and_those_that_wait_are_answered(asker: Any, service: Service) -> None:
    count = WAITING_MAX + 20
    for tag in range(count):
        asker.send(calls.call(DETAIL, [7], tag))
    answers: list[Frame] = []
    while len(answers) < count:
        service.turn(respond, wait_ms=1)
        while asker.poll(0):
            answers.append(unpack(asker.recv()))
    codes = {answer.first: answer.total for answer in answers}
    assert len(codes) == count
    assert sum(code == Code.SERVICE_UNAVAILABLE for code in codes.values()) <= 20
    assert all(codes[tag] == Code.OK for tag in range(WAITING_MAX))
