"""The matcher's loop turned by hand over real sockets: who gets which answer, and what hostile clients achieve."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from bus.client import query
from bus.codes import Code
from bus.endpoints import address
from bus.eventlog import Reader
from bus.messages import (
    COMMAND,
    DETAIL_MAX,
    FRAME_BLOB_MAX,
    FRAME_RECORDS_MAX,
    UPDATE_EVENT,
    EventKind,
    Frame,
    FrameKind,
    QueryKind,
    Records,
    pack,
    unpack,
)
from engine import inbox
from engine.answers import NOTHING
from engine.journal_reader import Scan
from engine.matcher import Matcher
from engine.sockets import Sockets
from tests.engine.opened import all_accepted, deposits, opened, private_settings, puts

TURNS_MAX = 50


class Table:
    """A matcher and its clients, in one thread."""

    def __init__(self, matcher: Matcher, context: "zmq.Context[Any]") -> None:
        self.matcher = matcher
        self._context = context
        self._clients: list[Any] = []

    def client(self) -> Any:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address("ipc", self.matcher.paths.sockets_dir, "commands"))
        self._clients.append(socket)
        return socket

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def turn_until_answer(self, client: Any) -> Frame:
        for _ in range(TURNS_MAX):
            self.matcher.turn(20)
            if client.poll(5):
                return unpack(client.recv())
        raise AssertionError("no answer")

    def send(self, client: Any, commands: Records, blob: bytes = b"", tag: int = 5) -> Records:
        client.send(pack(FrameKind.COMMANDS, commands, blob, first=tag))
        frame = self.turn_until_answer(client)
        assert (frame.kind, frame.first) == (FrameKind.RESULTS, tag)
        return frame.records


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    settings = private_settings(tmp_path)
    with opened(settings) as parts, zmq.Context() as context:
        sockets = Sockets.bind("ipc", settings.paths)
        try:
            table = Table(Matcher(parts, sockets, settings.paths, keep_count=2), context)
            yield table
            table.close()
        finally:
            sockets.close()


def test_results_come_after_the_journal_has_the_commands_and_the_log_the_events(table: Table) -> None:
    client = table.client()
    assert all_accepted(table.send(client, deposits()))
    results = table.send(client, puts(10), tag=77)
    assert all_accepted(results)
    assert results["request_id"].tolist() == list(range(10))
    matcher = table.matcher
    journaled = sum(len(entry.frame.records) for entry in Scan(matcher.paths.journal_dir))
    assert journaled == matcher.exchange.sequence == matcher.journal.synced
    told = [frame.records["number"] for frame in Reader(matcher.paths.events_dir).frames(0)]
    assert np.concatenate(told).tolist() == list(range(1, matcher.exchange.event_number + 1))


def test_frames_of_many_clients_in_one_turn_get_their_own_results(table: Table) -> None:
    clients = [table.client() for _ in range(3)]
    table.send(clients[0], deposits())
    for place, client in enumerate(clients):
        orders = puts(4 + place)
        orders["request_id"] += 1000 * place
        client.send(pack(FrameKind.COMMANDS, orders, first=place))
    for place, client in enumerate(clients):
        frame = table.turn_until_answer(client)
        assert frame.first == place
        assert frame.records["request_id"].tolist() == [1000 * place + n for n in range(4 + place)]


def test_details_of_several_clients_stay_their_own(table: Table) -> None:
    clients = [table.client() for _ in range(3)]
    details = [b'{"from": "first"}', b'{"from": "second"}', b""]
    for place, (client, detail) in enumerate(zip(clients, details, strict=True)):
        commands = deposits(1, first_id=place)[:1]
        commands["detail_size"] = len(detail) or 5  # the last one points into what is not its own
        client.send(pack(FrameKind.COMMANDS, commands, detail, first=place))
    codes = [int(table.turn_until_answer(client).records[0]["code"]) for client in clients]
    assert codes == [Code.OK, Code.OK, Code.INVALID_ARGUMENT]
    found = []
    for frame in Reader(table.matcher.paths.events_dir).frames(0):
        for event in frame.records.view(UPDATE_EVENT)[frame.records["kind"] == EventKind.BALANCE_UPDATE]:
            start = event["detail_offset"]
            found.append(bytes(frame.blob[start : start + event["detail_size"]]))
    assert sorted(found) == sorted(details[:2])


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"x" * 10,
        b"x" * 200,
        pack(FrameKind.COMMANDS, puts(1))[:-1],
        pack(FrameKind.COMMANDS, puts(1)) + b"x",
        pack(FrameKind.COMMANDS, np.zeros(FRAME_RECORDS_MAX + 1, COMMAND)),
        pack(FrameKind.RESULTS, NOTHING),
        pack(FrameKind.QUERY, NOTHING),
    ],
)
def test_what_is_no_frame_gets_no_answer_and_harms_nobody(table: Table, bad: bytes) -> None:
    hostile, client = table.client(), table.client()
    hostile.send(bad)
    assert all_accepted(table.send(client, deposits()))
    assert not hostile.poll(10)
    hostile.send_multipart([bad, bad])
    assert all_accepted(table.send(client, deposits(first_id=2)))
    assert not hostile.poll(10)
    assert all_accepted(table.send(hostile, deposits(first_id=3)))


@pytest.mark.parametrize(
    "frame",
    [
        pack(FrameKind.COMMANDS, puts(1)),
        pack(FrameKind.COMMANDS, puts(0)),
        pack(FrameKind.COMMANDS, puts(0), bytes(FRAME_BLOB_MAX)),
        pack(FrameKind.COMMANDS, puts(1), bytes(FRAME_BLOB_MAX - 1)),
        pack(FrameKind.PING, NOTHING),
        b"no frame",
    ],
)
def test_who_never_stops_sending_is_not_received_for_ever(frame: bytes) -> None:
    number = itertools.count(1)

    def receive() -> tuple[bytes, bytes]:
        assert next(number) <= inbox.FRAMES_MAX
        return b"client", frame

    batch = inbox.take(receive)
    assert len(batch.blob) < inbox.BLOB_MAX + FRAME_BLOB_MAX
    assert next(number) > 1


def test_the_largest_batch_fits_the_least_segments(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one turn can receive at most, with segments of the least size: nothing is refused, everything is told."""
    matcher = table.matcher
    sizes = ((inbox.COMMANDS_MAX - 1, inbox.BLOB_MAX - 1), (FRAME_RECORDS_MAX, FRAME_BLOB_MAX))
    frames = []
    for tag, (count, blob_size) in enumerate(sizes):
        commands = deposits(1, first_id=tag)[:1].repeat(count)
        commands["subject_id"] = np.arange(count) + tag * FRAME_RECORDS_MAX
        commands["detail_size"] = DETAIL_MAX
        frames.append((b"who has gone", pack(FrameKind.COMMANDS, commands, bytes(blob_size))))
    waiting = iter(frames)

    def receive(_: Sockets) -> tuple[bytes, bytes]:
        if (frame := next(waiting, None)) is None:
            raise zmq.Again
        return frame

    monkeypatch.setattr(Sockets, "receive_command", receive)
    table.client().send(b"so that there is something to receive")
    number, count = matcher.exchange.event_number, sum(count for count, _ in sizes)
    while not matcher.turn(20):
        pass
    assert matcher.journal.sync_now()
    matcher.turn(0)
    assert matcher.events.durable_number == matcher.exchange.event_number == number + count
    told = [frame.records["number"] for frame in Reader(matcher.paths.events_dir).frames(number)]
    assert np.concatenate(told).tolist() == list(range(number + 1, number + count + 1))


def test_hostile_commands_get_a_code_and_are_not_journaled(table: Table) -> None:
    client = table.client()
    random = np.random.default_rng(1)
    sequence = table.matcher.exchange.sequence
    noise = np.frombuffer(random.bytes(COMMAND.itemsize * 500), COMMAND).copy()
    noise["kind"] = random.integers(0, 7, len(noise))
    results = table.send(client, noise)
    assert (results["code"] != Code.OK).all()
    assert table.matcher.exchange.sequence == sequence
    table.matcher.exchange.audit()


def test_pings_and_queries_are_answered(table: Table) -> None:
    client = table.client()
    client.send(pack(FrameKind.PING, NOTHING, first=9))
    pong = table.turn_until_answer(client)
    assert (pong.kind, pong.first, pong.total) == (FrameKind.PING, 9, table.matcher.exchange.sequence)
    client.send(pack(FrameKind.QUERY, query(QueryKind.MARKETS), first=10))
    assert table.turn_until_answer(client).records["name"].tolist() == [b"BTCUSD", b"ETHUSD", b"ETHBTC"]
    for senseless in (query(99), query(QueryKind.DEPTH, market=12345)):
        client.send(pack(FrameKind.QUERY, senseless, first=11))
        answer = table.turn_until_answer(client)
        assert (answer.kind, answer.total) == (FrameKind.PING, -1)


def test_without_room_commands_get_code_3_and_nothing_changes(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    client = table.client()
    table.send(client, deposits())
    before = table.matcher.exchange.dump()
    monkeypatch.setattr(table.matcher.journal, "has_room", lambda size: False)
    results = table.send(client, puts(3))
    assert (results["code"] == Code.SERVICE_UNAVAILABLE).all()
    assert results["request_id"].tolist() == [0, 1, 2]
    after = table.matcher.exchange.dump()
    assert all((before[name] == after[name]).all() for name in before)
    monkeypatch.undo()
    assert all_accepted(table.send(client, puts(3)))


def test_a_sweep_of_more_events_than_the_buffer_holds_is_told_in_full(table: Table) -> None:
    client = table.client()
    table.send(client, deposits())
    asks = puts(4000)
    asks["side"], asks["user_id"] = 1, 1
    asks["price_units"] += np.arange(4000) % 200
    assert all_accepted(table.send(client, asks))
    bid = puts(2)[1:]
    bid["amount_units"], bid["price_units"] = 4000 * 10**6, 10**11
    number = table.matcher.exchange.event_number
    result = table.send(client, bid)[0]
    assert (result["code"], result["order"]["left_units"]) == (Code.OK, 0)
    assert table.matcher.exchange.event_number == number + 2 * 4000 + 1
    assert table.matcher.events.durable_number == table.matcher.exchange.event_number
    table.matcher.exchange.audit()
