"""The feed over real sockets: whatever is dropped, repeated or late, every event comes once and in order."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from bus import eventlog, feed
from bus.eventlog import Gone, Reader, Writer
from bus.feed import Feed, Replay, Step, decide
from bus.messages import Frame, unpack
from tests.bus.making import frame, numbers

WAIT_MS = 5_000
QUIET_MS = 100


@pytest.mark.parametrize(
    ("last", "first", "count", "step"),
    [
        (0, 1, 5, Step.TAKE),
        (4, 5, 1, Step.TAKE),
        (4, 3, 3, Step.TAKE),  # 3 and 4 are known
        (4, 3, 2, Step.SKIP),
        (4, 1, 1, Step.SKIP),
        (4, 6, 1, Step.FILL),
    ],
)
def test_decide(last: int, first: int, count: int, step: Step) -> None:
    assert decide(last, first, count) is step


class Published:
    """A log, and a PUB socket that publishes what it is told to."""

    def __init__(self, directory: Path, context: "zmq.Context[Any]") -> None:
        self.directory = directory / "events"
        self.writer = Writer(self.directory, segment_size=1 << 16)
        self.address = f"ipc://{directory}/events.sock"
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(self.address)

    def wait_for_subscriber(self) -> None:
        self.wait_for(b"\x01")

    def wait_for_the_end_of_it(self) -> None:
        self.wait_for(b"\x00")

    def wait_for(self, word: bytes) -> None:
        assert self._socket.poll(WAIT_MS)
        assert self._socket.recv() == word

    def add(self, count: int, *, published: bool = True) -> None:
        data = frame(self.writer.last_number + 1, count)
        self.writer.append(data)
        self.writer.mark_durable(self.writer.last_number)
        if published:
            self._socket.send(data)

    def publish(self, data: bytes) -> None:
        self._socket.send(data)

    def close(self) -> None:
        self._socket.close()
        self.writer.close()


@pytest.fixture
def context() -> Iterator["zmq.Context[Any]"]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def published(tmp_path: Path, context: "zmq.Context[Any]") -> Iterator[Published]:
    made = Published(tmp_path, context)
    yield made
    made.close()


@pytest.fixture(params=[False, True], ids=["all wait", "the newest waits"])
def newest_only(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def take(source: Feed, last: int) -> list[Frame]:
    """Receive until event `last` is there."""
    frames: list[Frame] = []
    while source.last_number < last:
        if (received := source.receive(WAIT_MS)) is not None:
            frames.append(received)
    return frames


def test_published_events_arrive(published: Published, context: "zmq.Context[Any]", newest_only: bool) -> None:
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        published.add(3)
        published.add(2)
        assert numbers(take(events, 5)) == [1, 2, 3, 4, 5]
        assert events.receive(0) is None


def test_it_starts_with_what_the_log_has(published: Published, context: "zmq.Context[Any]", newest_only: bool) -> None:
    for _ in range(50):
        published.add(10)
    with Feed(published.address, Reader(published.directory), 123, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        published.add(10)
        assert numbers(take(events, 510)) == list(range(124, 511))


def test_dropped_frames_come_from_the_log(published: Published, context: "zmq.Context[Any]", newest_only: bool) -> None:
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        for number in range(60):
            published.add(7, published=number % 3 == 0 or number == 59)
        assert numbers(take(events, 420)) == list(range(1, 421))


def test_a_lost_last_frame_is_found_in_the_silence(
    published: Published, context: "zmq.Context[Any]", monkeypatch: pytest.MonkeyPatch, newest_only: bool
) -> None:
    monkeypatch.setattr(feed, "QUIET_MS", 20)
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        published.add(3)
        published.add(3, published=False)
        assert numbers(take(events, 6)) == [1, 2, 3, 4, 5, 6]


def test_published_frames_do_not_pile_up_where_only_the_newest_waits(
    published: Published, context: "zmq.Context[Any]"
) -> None:
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=True) as events:
        published.wait_for_subscriber()
        for _ in range(500):
            published.add(1)
        waiting = 0
        while events._socket.poll(QUIET_MS):
            events._socket.recv()
            waiting += 1
        assert 0 < waiting < 500
        assert numbers(take(events, 500)) == list(range(1, 501))


def test_repeated_and_overlapping_frames_are_cut(
    published: Published, context: "zmq.Context[Any]", newest_only: bool
) -> None:
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        published.add(4)
        published.publish(frame(1, 4))
        published.publish(frame(3, 2))
        published.add(4, published=False)
        published.publish(frame(3, 6))
        published.publish(frame(2, 7))
        published.add(1)
        assert numbers(take(events, 9)) == list(range(1, 10))


def test_far_behind_nothing_published_is_taken_until_it_has_caught_up(
    published: Published, context: "zmq.Context[Any]", newest_only: bool
) -> None:
    for _ in range(4 * feed.FAR_BEHIND_COUNT):
        published.add(2)
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        found = take(events, 3 * feed.FAR_BEHIND_COUNT)
        published.wait_for_the_end_of_it()
        for _ in range(10):
            published.add(2)
        last = published.writer.last_number
        found += take(events, last)
        assert events.receive(0) is None
        published.wait_for_subscriber()
        published.add(1)
        assert numbers(found + take(events, last + 1)) == list(range(1, last + 2))


def test_what_comes_while_it_subscribes_again_is_found_soon(
    published: Published, context: "zmq.Context[Any]", monkeypatch: pytest.MonkeyPatch, newest_only: bool
) -> None:
    monkeypatch.setattr(feed, "QUIET_MS", 600_000)
    for _ in range(2 * feed.FAR_BEHIND_COUNT):
        published.add(1)
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        found = take(events, published.writer.last_number)
        assert events.receive(0) is None  # it subscribes
        published.add(3, published=False)
        assert numbers(found + take(events, published.writer.last_number)) == list(
            range(1, published.writer.last_number + 1)
        )


def test_iterating_goes_on_for_ever(published: Published, context: "zmq.Context[Any]", newest_only: bool) -> None:
    with Feed(published.address, Reader(published.directory), 0, context, newest_only=newest_only) as events:
        published.wait_for_subscriber()
        published.add(1)
        published.add(2)
        frames = iter(events)
        assert numbers([next(frames), next(frames)]) == [1, 2, 3]


def test_what_is_gone_is_an_error_and_no_silence(tmp_path: Path, context: "zmq.Context[Any]") -> None:
    writer = Writer(tmp_path / "events", segment_size=1 << 16, keep_segments_count=1)
    for _ in range(5):
        writer.append(frame(writer.last_number + 1, 200))
    writer.mark_durable(1000)
    with (
        Feed(f"ipc://{tmp_path}/nobody.sock", Reader(tmp_path / "events"), 0, context) as events,
        pytest.raises(Gone),
    ):
        events.receive(0)
    writer.close()


class Server:
    """The matcher's replay socket, in a thread."""

    def __init__(self, address: str, reader: Reader, context: "zmq.Context[Any]") -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self._reader = reader
        self.asked_count = 0
        self.losing_answers = 0
        self._stopping = False
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            if self._socket.poll(20):
                identity, data = self._socket.recv_multipart()
                self.asked_count += 1
                for number, answer in enumerate(eventlog.replay(self._reader, unpack(data).first)):
                    if number == 1 and self.losing_answers:
                        self.losing_answers -= 1
                    else:
                        self._socket.send_multipart((identity, answer))

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        self._socket.close()


@pytest.fixture
def server(published: Published, context: "zmq.Context[Any]", monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(eventlog, "REPLAY_FRAMES_MAX", 5)
    made = Server(f"{published.address}.replay", Reader(published.directory), context)
    yield made
    made.close()


def test_on_another_machine_gaps_are_filled_through_the_replay_socket(
    published: Published, server: Server, context: "zmq.Context[Any]"
) -> None:
    for _ in range(23):
        published.add(10)
    replay = Replay(f"{published.address}.replay", context)
    with Feed(published.address, replay, 15, context) as events:
        published.wait_for_subscriber()
        published.add(10, published=False)
        published.add(10)
        assert numbers(take(events, 250)) == list(range(16, 251))
    assert server.asked_count >= 5
    replay.close()


def test_a_replayed_frame_that_is_lost_is_asked_for_again(
    published: Published, server: Server, context: "zmq.Context[Any]"
) -> None:
    for _ in range(12):
        published.add(10)
    server.losing_answers = 3
    replay = Replay(f"{published.address}.replay", context)
    assert numbers(list(replay.frames(0))) == list(range(1, 121))
    replay.close()


def test_a_replay_that_does_not_answer_has_nothing_yet(
    tmp_path: Path, context: "zmq.Context[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "REPLAY_TIMEOUT_MS", 20)
    replay = Replay(f"ipc://{tmp_path}/nobody.sock", context)
    assert list(replay.frames(0)) == []
    replay.close()


@given(st.integers(0, 30), st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), max_size=30))
def test_taken_frames_never_overlap_and_never_leave_a_gap(after: int, arriving: list[tuple[int, int]]) -> None:
    last, taken = after, list[int]()
    for first, count in arriving:
        if decide(last, first, count) is Step.TAKE:
            taken += numbers([eventlog.rest_of(unpack(frame(first, count)), last)])
            last = first + count - 1
    assert taken == list(range(after + 1, after + 1 + len(taken)))
