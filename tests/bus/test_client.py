"""The client against a matcher that answers what the test tells it to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from bus.client import Client, NoAnswer, query
from bus.messages import COMMAND, LEVEL_VIEW, RESULT, Frame, FrameKind, QueryKind, pack, unpack

WAIT_MS = 5_000
NOTHING = np.zeros(0, np.uint8)


class Matcher:
    """A ROUTER that a test turns by hand."""

    def __init__(self, address: str, context: "zmq.Context[Any]") -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self._identity = b""

    def take(self) -> Frame:
        assert self._socket.poll(WAIT_MS)
        self._identity, data = self._socket.recv_multipart()
        return unpack(data)

    def reply(self, data: bytes) -> None:
        self._socket.send_multipart((self._identity, data))

    def answer(self, asked: Frame) -> None:
        results = np.zeros(len(asked.records), RESULT)
        results["request_id"] = asked.records["request_id"]
        self.reply(pack(FrameKind.RESULTS, results, first=asked.first))


@pytest.fixture
def context() -> Iterator["zmq.Context[Any]"]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def matcher(tmp_path: Path, context: "zmq.Context[Any]") -> Matcher:
    return Matcher(f"ipc://{tmp_path}/commands.sock", context)


@pytest.fixture
def client(tmp_path: Path, context: "zmq.Context[Any]") -> Iterator[Client]:
    with Client(f"ipc://{tmp_path}/commands.sock", context) as made:
        yield made


def commands(*ids: int) -> "np.ndarray[Any, Any]":
    made = np.zeros(len(ids), COMMAND)
    made["request_id"] = ids
    return made


def test_many_frames_are_in_flight_and_come_back_by_tag(client: Client, matcher: Matcher) -> None:
    for tag in range(20):
        client.send(commands(tag, 100 + tag), b"{}", tag=tag)
    for tag in range(20):
        asked = matcher.take()
        assert (asked.kind, asked.first, bytes(asked.blob)) == (FrameKind.COMMANDS, tag, b"{}")
        matcher.answer(asked)
    for tag in range(20):
        results = client.receive(WAIT_MS)
        assert results.first == tag
        assert results.records["request_id"].tolist() == [tag, 100 + tag]


def test_a_question_between_commands_leaves_their_results_to_receive(client: Client, matcher: Matcher) -> None:
    client.send(commands(1), tag=1)
    client.send(commands(2), tag=2)
    matcher.answer(matcher.take())
    matcher.answer(matcher.take())
    with pytest.raises(NoAnswer, match="20 ms"):
        client.ask(query(QueryKind.DEPTH, market=3, limit_count=5), timeout_ms=20)
    late = matcher.take()
    assert late.records[0]["market"] == 3
    assert late.records[0]["limit_count"] == 5
    matcher.reply(pack(FrameKind.LEVELS, np.zeros(1, LEVEL_VIEW), first=late.first))  # too late: nobody waits
    with pytest.raises(NoAnswer):
        client.ping(timeout_ms=20)
    assert [client.receive(WAIT_MS).first for _ in range(2)] == [1, 2]
    with pytest.raises(NoAnswer):
        client.receive(timeout_ms=20)


def test_ask_and_ping(tmp_path: Path, context: "zmq.Context[Any]", client: Client, matcher: Matcher) -> None:
    """Answers can only be prepared when the tag is known: it counts down from -1."""
    client.send(commands(1))
    matcher.take()  # so that the matcher knows whom to answer
    matcher.reply(pack(FrameKind.LEVELS, np.zeros(2, LEVEL_VIEW), first=-1, total=1))
    answer = client.ask(query(QueryKind.DEPTH), WAIT_MS)
    assert (answer.kind, len(answer.records), answer.total) == (FrameKind.LEVELS, 2, 1)
    matcher.reply(pack(FrameKind.PING, NOTHING, first=-2, total=77))
    assert client.ping(WAIT_MS).total == 77


def test_without_a_matcher_there_is_no_answer(tmp_path: Path, context: "zmq.Context[Any]") -> None:
    with Client(f"ipc://{tmp_path}/nobody.sock", context) as alone, pytest.raises(TimeoutError):
        alone.ping(timeout_ms=20)
