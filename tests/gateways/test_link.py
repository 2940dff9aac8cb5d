"""The way to the matcher, over real sockets to a stand-in that this test moves by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
import zmq
from gevent import Greenlet

from bus import calls
from bus.codes import Code
from bus.endpoints import COMMANDS_TIMEOUT_MS
from bus.messages import (
    FRAME,
    FRAME_RECORDS_MAX,
    LEVEL_VIEW,
    QUERY,
    RESULT,
    Frame,
    FrameKind,
    QueryKind,
    pack,
    unpack,
)
from bus.methods import METHODS
from gateways.commands import Encoded, cancel, update_balance
from gateways.link import Link, NotConnected, TimedOut
from tests.gateways.making import BTCBCH, CATALOG

CANCEL = cancel([7, BTCBCH, 5])
LAST = METHODS["market.last"]
PATIENCE_S = 30.0


class Matcher:
    """The other end: gives frames and sends what it is told."""

    def __init__(self, address: str) -> None:
        self._socket: Any = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.bind(address)

    def close(self) -> None:
        self._socket.close(0)

    def take(self) -> tuple[bytes, Frame]:
        with gevent.Timeout(PATIENCE_S):
            while not self._socket.poll(0):
                gevent.sleep(0.001)
        identity, data = self._socket.recv_multipart()
        return identity, unpack(data)

    def send(self, identity: bytes, frame: bytes) -> None:
        self._socket.send_multipart((identity, frame))

    def answer(self) -> Frame:
        """Take a frame of commands and accept them all."""
        identity, frame = self.take()
        self.send(identity, results(frame))
        return frame

    @property
    def has_frames(self) -> bool:
        return bool(self._socket.poll(50))


def results(frame: Frame) -> bytes:
    rows = np.zeros(len(frame.records), RESULT)
    rows["request_id"] = frame.records["request_id"]
    rows["sequence"] = np.arange(1, len(rows) + 1)
    return pack(FrameKind.RESULTS, rows)


def outcome(call: Callable[[], Any]) -> "Greenlet[..., Any]":
    """A greenlet that ends with what `call` returns, or the class of what it raises."""

    def run() -> Any:
        try:
            return call()
        except (NotConnected, TimedOut) as error:
            return type(error)

    return gevent.spawn(run)


def sequence(found: tuple[bytes, int] | None) -> int:
    assert found is not None
    data, at = found
    return int(np.frombuffer(data, RESULT, 1, at)[0]["sequence"])


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/commands.sock"


@pytest.fixture
def matcher(address: str) -> Iterator[Matcher]:
    made = Matcher(address)
    yield made
    made.close()


@pytest.fixture
def link(address: str) -> Iterator[Link]:
    made = Link(address)
    yield made
    made.close()


def connect(link: Link, matcher: Matcher) -> None:
    """Wait until a ping passes."""
    with gevent.Timeout(PATIENCE_S):
        while True:
            ping = outcome(link.ping)
            gevent.sleep(0.01)
            if not ping.ready():
                identity, frame = matcher.take()
                matcher.send(identity, pack(FrameKind.PING, np.zeros(0, "u1"), first=frame.first, total=42))
                assert ping.get().total == 42
                return


def test_without_a_matcher_nothing_waits(link: Link) -> None:
    assert outcome(lambda: link.ask(CANCEL)).get(timeout=PATIENCE_S) is NotConnected
    assert outcome(lambda: link.ask_all([CANCEL, CANCEL])).get(timeout=PATIENCE_S) == [NotConnected, NotConnected]
    assert outcome(link.ping).get(timeout=PATIENCE_S) is NotConnected


def test_what_comes_in_one_turn_leaves_in_one_frame_and_each_gets_its_own_result(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = [outcome(lambda: link.ask(CANCEL)) for _ in range(5)]
    frame = matcher.answer()
    assert len(frame.records) == 5
    assert [sequence(each.get()) for each in asked] == [1, 2, 3, 4, 5]
    assert list(frame.records["user_id"]) == [7] * 5


def test_details_lie_one_after_the_other_in_the_blob(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asset = CATALOG.assets[0]
    commands: list[Encoded] = []
    for number in (1, 2):
        encoded = update_balance([7, asset, b"x", number, 1, {"n": number}])
        assert encoded is not None
        commands += [encoded, CANCEL]
    outcome(lambda: link.ask_all(commands))
    frame = matcher.answer()
    details = [bytes(frame.blob[row["detail_offset"] :][: row["detail_size"]]) for row in frame.records[::2]]
    assert details == [b'{"n": 1, "id": 1}', b'{"n": 2, "id": 2}']


def test_results_may_come_in_any_order_and_in_pieces(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = outcome(lambda: link.ask_all([CANCEL] * 3))
    identity, frame = matcher.take()
    rows = unpack(results(frame)).records
    for row in (rows[2:], rows[:1], rows[1:2]):
        matcher.send(identity, pack(FrameKind.RESULTS, row))
    assert [sequence(found) for found in asked.get()] == [1, 2, 3]


def test_more_than_a_frame_may_hold_leaves_in_several(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = outcome(lambda: link.ask_all([CANCEL] * (FRAME_RECORDS_MAX + 1)))
    assert [len(matcher.answer().records) for _ in range(2)] == [FRAME_RECORDS_MAX, 1]
    assert len(asked.get()) == FRAME_RECORDS_MAX + 1


def test_a_reply_that_is_late_is_dropped(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = outcome(lambda: link.ask(CANCEL))
    identity, frame = matcher.take()
    assert asked.get(timeout=COMMANDS_TIMEOUT_MS / 1000 + PATIENCE_S) is TimedOut
    matcher.send(identity, results(frame))
    later = outcome(lambda: link.ask(CANCEL))
    matcher.answer()
    assert sequence(later.get()) == 1


def test_of_many_the_late_ones_only_are_missing(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = outcome(lambda: link.ask_all([CANCEL] * 2))
    identity, frame = matcher.take()
    matcher.send(identity, pack(FrameKind.RESULTS, unpack(results(frame)).records[1:]))
    first, second = asked.get(timeout=COMMANDS_TIMEOUT_MS / 1000 + PATIENCE_S)
    assert first is None
    assert sequence(second) == 2


def test_there_is_an_end_to_what_may_wait(address: str, matcher: Matcher) -> None:
    link = Link(address, in_flight_max=2)
    connect(link, matcher)
    assert not link.is_full
    asked = [outcome(lambda: link.ask(CANCEL)) for _ in range(2)]
    gevent.sleep(0)
    assert link.is_full
    matcher.answer()
    gevent.joinall(asked)
    assert not link.is_full
    link.close()


def test_a_query_gets_its_records(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = outcome(lambda: link.query(np.array([(QueryKind.DEPTH, 0, 0, 10, 0, 0, 0, 0)], QUERY)))
    identity, frame = matcher.take()
    assert frame.records[0]["limit_count"] == 10
    levels = np.array([(5, (6, 0))], LEVEL_VIEW)
    matcher.send(identity, pack(FrameKind.LEVELS, levels, first=frame.first, total=1))
    found = asked.get()
    assert (found.total, found.records) == (1, levels)


def test_a_matcher_that_comes_back_is_found_again(address: str, link: Link) -> None:
    first = Matcher(address)
    connect(link, first)
    first.close()
    gevent.sleep(0.05)
    assert outcome(lambda: link.ask(CANCEL)).get(timeout=PATIENCE_S) in (NotConnected, TimedOut)
    second = Matcher(address)
    connect(link, second)
    asked = outcome(lambda: link.ask(CANCEL))
    second.answer()
    assert sequence(asked.get()) == 1
    second.close()


def call(link: Link, *params: Any) -> "Greenlet[..., Any]":
    """A call under way."""
    asked = outcome(lambda: link.call(LAST, list(params)))
    gevent.sleep(0)
    return asked


def reply(service: Matcher, text: str = '"1"') -> Frame:
    """Take a call and answer it."""
    identity, frame = service.take()
    service.send(identity, calls.answer(text, frame.first))
    return frame


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Matcher]]:
    made = [Matcher(f"ipc://{tmp_path}/history{number}.sock") for number in (0, 1)]
    yield made
    for service in made:
        service.close()


@pytest.fixture
def both(tmp_path: Path, services: list[Matcher]) -> Iterator[Link]:
    """A link to both services."""
    made = Link(*(f"ipc://{tmp_path}/history{number}.sock" for number in (0, 1)))
    for service in services:
        connect_in_turn(made, service, services)
    yield made
    made.close()


def connect_in_turn(link: Link, service: Matcher, services: list[Matcher]) -> None:
    """Wait until a ping reaches one of several; the others' are answered too."""
    with gevent.Timeout(PATIENCE_S):
        while True:
            outcome(link.ping)
            gevent.sleep(0.01)
            for each in services:
                if each.has_frames:
                    identity, frame = each.take()
                    each.send(identity, pack(FrameKind.PING, np.zeros(0, "u1"), first=frame.first))
                    if each is service:
                        return


def test_a_call_carries_its_parameters_and_brings_back_a_text_or_a_code(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = call(link, "BTCBCH", None, {"a": [1.5]})
    frame = reply(matcher, '"8000.0 \u00e9"')
    assert (frame.kind, frame.total, bytes(frame.blob)) == (FrameKind.CALL, LAST.number, b'["BTCBCH",null,{"a":[1.5]}]')
    assert asked.get() == '"8000.0 \u00e9"'
    asked = call(link)
    identity, frame = matcher.take()
    matcher.send(identity, calls.answer(Code.SERVICE_UNAVAILABLE, frame.first))
    assert asked.get() is Code.SERVICE_UNAVAILABLE


def test_calls_may_be_answered_in_any_order(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = [call(link, number) for number in range(3)]
    taken = [matcher.take() for _ in asked]
    for identity, frame in reversed(taken):
        matcher.send(identity, calls.answer(bytes(frame.blob).decode(), frame.first))
    assert [each.get() for each in asked] == ["[0]", "[1]", "[2]"]


def test_an_answer_may_be_large(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = call(link)
    text = f'"{"x" * (8 << 20)}"'
    reply(matcher, text)
    assert asked.get(timeout=PATIENCE_S) == text


def test_calls_have_their_share_of_what_may_wait(address: str, matcher: Matcher) -> None:
    link = Link(address, in_flight_max=2)
    connect(link, matcher)
    asked = [call(link) for _ in range(2)]
    assert call(link).get(timeout=PATIENCE_S) is Code.SERVICE_UNAVAILABLE
    for _ in asked:
        reply(matcher)
    assert [each.get() for each in asked] == ['"1"', '"1"']
    link.close()


def test_without_a_service_a_call_does_not_wait(link: Link) -> None:
    assert call(link).get(timeout=PATIENCE_S) is NotConnected


def test_a_call_that_is_not_answered_times_out_and_its_late_answer_is_dropped(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    asked = call(link)
    identity, frame = matcher.take()
    assert asked.get(timeout=COMMANDS_TIMEOUT_MS / 1000 + PATIENCE_S) is TimedOut
    matcher.send(identity, calls.answer('"late"', frame.first))
    later = call(link)
    reply(matcher, '"new"')
    assert later.get() == '"new"'


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"x",
        b"x" * 64,
        b"x" * 1000,
        pack(FrameKind.RESULTS, np.zeros(3, RESULT))[:-1],
        pack(FrameKind.RESULTS, np.zeros(3, RESULT))[: FRAME.itemsize],
        pack(FrameKind.ANSWER, np.zeros(0, "u1"), b"[]", first=10**9),
        pack(FrameKind.ANSWER, np.zeros(0, "u1"), b"[]", first=-1),
    ],
)
def test_what_is_no_answer_is_dropped(link: Link, matcher: Matcher, wrong: bytes) -> None:
    connect(link, matcher)
    asked = call(link)
    identity, frame = matcher.take()
    matcher.send(identity, wrong)
    matcher.send(identity, calls.answer('"1"', frame.first))
    assert asked.get(timeout=PATIENCE_S) == '"1"'


def test_an_answer_that_makes_no_sense_is_an_error(link: Link, matcher: Matcher) -> None:
    connect(link, matcher)
    empty = np.zeros(0, "u1")
    expected: list[tuple[Callable[[int], bytes], Any]] = [
        (lambda tag: pack(FrameKind.ANSWER, empty, first=tag, total=999), Code.INTERNAL_ERROR),
        (lambda tag: pack(FrameKind.PING, empty, first=tag), Code.INTERNAL_ERROR),
        (lambda tag: pack(FrameKind.ANSWER, empty, b"[]", first=tag)[:-1], NotConnected),
        (lambda tag: pack(FrameKind.ANSWER, empty, b"\xff", first=tag), "\ufffd"),
    ]
    for answer, told in expected:
        asked = call(link)
        identity, frame = matcher.take()
        matcher.send(identity, answer(frame.first))
        assert asked.get(timeout=PATIENCE_S) == told


def test_two_services_take_turns(both: Link, services: list[Matcher]) -> None:
    asked = [call(both) for _ in range(6)]
    for service in services:
        for _ in range(3):
            reply(service)
        assert not service.has_frames
    assert [each.get() for each in asked] == ['"1"'] * 6


def test_when_one_of_two_is_gone_the_other_answers(both: Link, services: list[Matcher]) -> None:
    lost = [call(both) for _ in range(2)]
    answered_by = services[1]
    services[0].take()
    services[0].close()
    reply(answered_by)
    assert sorted(map(str, (each.get(timeout=COMMANDS_TIMEOUT_MS / 1000 + PATIENCE_S) for each in lost))) == sorted([
        '"1"',
        str(TimedOut),
    ])
    for _ in range(6):
        asked = call(both)
        reply(answered_by)
        assert asked.get() == '"1"'


def test_when_both_are_gone_nothing_waits_and_one_that_comes_back_is_found(
    tmp_path: Path, both: Link, services: list[Matcher]
) -> None:
    for service in services:
        service.close()
    with gevent.Timeout(PATIENCE_S):
        while call(both).get() is not NotConnected:
            gevent.sleep(0.01)
    services[1] = Matcher(f"ipc://{tmp_path}/history1.sock")
    connect(both, services[1])
    asked = call(both)
    reply(services[1])
    assert asked.get() == '"1"'
