"""One client's connection: bytes that go in part, clients that do not read, say nothing or too much, and the end."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import gevent
import pytest

from gateways.ws.connection import BURST_S, CLOSE_TIMEOUT_S, PART_TIMEOUT_S
from tests.gateways.ws.making import wait
from tests.gateways.ws.peer import Pair
from tests.gateways.ws.raw_client import CLOSE, PING, PONG, TEXT, Frame, closing, frame, handshake

SMALL = 4096  # bytes of the system's buffer
NORMAL, GOING_AWAY, PROTOCOL, POLICY, TOO_BIG = 1000, 1001, 1002, 1008, 1009
SWITCHING = "HTTP/1.1 101 Switching Protocols"
Make = Callable[..., Pair]


class Clock:
    """The time that connections see: it passes when it is told to."""

    now_s = 1_000.0

    def later(self, pair: Pair, *seconds: float) -> None:
        """Let so much time pass, and each time let the connection see to its deadlines."""
        for each in seconds:
            self.now_s += each
            pair.connection.sweep(self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("gateways.ws.connection.monotonic", lambda: made.now_s)
    return made


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    """Makes pairs that are closed at the end; `is_shaken` says whether the handshake is done."""
    with contextlib.ExitStack() as stack:

        def make_one(*, is_shaken: bool = True, **options: Any) -> Pair:
            pair = Pair(**options)
            stack.callback(pair.close)
            if is_shaken:
                assert pair.peer.shake() == SWITCHING
            return pair

        yield make_one


def turn_loop() -> None:
    """Let the loop look at its sockets."""
    gevent.sleep(0.002)


def texts(frames: list[Frame]) -> list[str]:
    return [each.payload.decode() for each in frames if each.opcode == TEXT]


@pytest.mark.parametrize("seed", range(6))
def test_frames_stay_whole_and_in_order_however_the_client_reads(make: Make, seed: int) -> None:
    random, pushed, found = Random(seed), list[str](), list[Frame]()
    pair = make(send_size=SMALL, send_buffer_max_size=1 << 24)
    for number in range(60):
        match random.randrange(3):
            case 0:
                pair.peer.read(random.choice((1, 100, 5_000)))
            case 1:
                turn_loop()
            case 2:
                some = [f"{number} " + "x" * random.choice((0, 10, 118, 200, 9_000, 66_000)) for _ in range(2)]
                pair.push(*some)
                pushed += some
        found += pair.peer.frames()
    while len(found) < len(pushed):
        gevent.sleep(0)
        pair.peer.read(100_000)
        found += pair.peer.frames()
    assert texts(found) == pushed
    wait(lambda: not pair.connection.is_behind)
    assert pair.connection.backlog_size == 0


def test_who_has_caught_up_is_told_so(make: Make) -> None:
    pair = make(send_size=SMALL)
    pair.push("x" * 10)
    assert not pair.connection.is_behind
    assert pair.events == []
    pair.push("x" * 50_000)
    assert pair.connection.is_behind
    assert 0 < pair.connection.backlog_size < 50_004
    wait(lambda: (pair.peer.read(), pair.events)[1])
    assert (pair.events, pair.connection.is_behind) == (["caught up"], False)


def test_who_lets_too_much_wait_is_closed_after_the_frame_that_had_begun(make: Make) -> None:
    pair = make(send_size=SMALL, send_buffer_max_size=1 << 16)
    sent = [f"{number:5} " + "x" * 9_000 for number in range(20)]
    for text in sent:
        pair.push(text)
    assert pair.counted("closed", "send_buffer_max_size") == 1
    assert pair.connection.is_ended
    assert pair.events == ["end"]
    pair.push("nothing comes after a close frame")
    found = list[Frame]()

    def look() -> bool:
        pair.peer.read()
        found.extend(pair.peer.frames())
        return found[-1:] != [] and found[-1].opcode == CLOSE

    wait(look)
    assert found[-1].code == POLICY
    assert texts(found) == sent[: len(found) - 1]
    assert not pair.connection.is_closed
    pair.answer_close()
    assert [event for event in pair.events if event != "caught up"] == ["end", "leave"]


def test_close_frames_have_their_place_among_what_waits(make: Make) -> None:
    pair = make(send_size=SMALL)
    pair.push("x" * 50_000, "y")
    pair.connection.close(GOING_AWAY, "the end")
    pair.push("no more")
    found = pair.peer.wait_frames(3)
    assert [(each.opcode, each.code if each.opcode == CLOSE else 0) for each in found] == [
        (TEXT, 0),
        (TEXT, 0),
        (CLOSE, GOING_AWAY),
    ]
    pair.answer_close()


def test_who_reads_nothing_for_too_long_is_dropped(make: Make, clock: Clock) -> None:
    pair = make(send_size=SMALL, slow_timeout_s=30.0)
    pair.push("x" * 50_000)
    clock.later(pair, 29.0)
    assert not pair.connection.is_closed
    clock.later(pair, 1.0)
    assert pair.connection.is_closed
    assert pair.counted("closed", "slow_timeout_s") == 1
    assert pair.events == ["end", "leave"]


def test_who_reads_slowly_stays(make: Make, clock: Clock) -> None:
    pair = make(send_size=SMALL, slow_timeout_s=30.0)
    pair.push("x" * 50_000)
    while pair.connection.is_behind:
        clock.later(pair, 29.0)
        pair.peer.read()
        turn_loop()
    clock.later(pair, 29.0)
    assert not pair.connection.is_closed


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", handshake()[:-1]])
def test_a_handshake_that_does_not_come_is_not_waited_for(make: Make, clock: Clock, said: bytes) -> None:
    pair = make(is_shaken=False, handshake_timeout_s=10.0)
    pair.peer.send(said)
    turn_loop()
    clock.later(pair, 9.5)
    assert not pair.connection.is_closed
    clock.later(pair, 0.5)
    assert pair.connection.is_closed
    assert pair.counted("closed", "handshake_timeout_s") == 1


def test_after_the_handshake_there_is_time(make: Make, clock: Clock) -> None:
    pair = make(handshake_timeout_s=10.0, ping_interval_s=0.0)
    clock.later(pair, 3_000.0)
    assert pair.connection.wire.is_open


@pytest.mark.parametrize("said", ["everything", "nothing"])
def test_who_is_not_heard_of_is_told_to_go_once(make: Make, clock: Clock, said: str) -> None:
    pair = make(is_shaken=said == "everything", idle_timeout_s=100.0, ping_interval_s=0.0, handshake_timeout_s=200.0)
    clock.later(pair, 99.0)
    assert pair.counted("closed", "idle_timeout_s") == 0
    clock.later(pair, 1.0, 0.5, 0.5, 0.5)
    if said == "everything":
        assert [each.code for each in pair.peer.wait_frames(1)] == [GOING_AWAY]
        assert pair.counted("closed", "idle_timeout_s") == 1
        pair.answer_close()
    else:
        assert pair.counted("closed", "idle_timeout_s") == 0


def test_who_is_silent_is_sent_a_ping_and_its_pong_keeps_it(make: Make, clock: Clock) -> None:
    pair = make(ping_interval_s=30.0, idle_timeout_s=60.0)
    clock.later(pair, 10.0, 21.0, 9.0, 19.0)
    [ping] = pair.peer.wait_frames(1)
    assert ping.opcode == PING
    pair.peer.send(frame(PONG, ping.payload))
    wait(lambda: pair.connection.heard_s == clock.now_s)
    clock.later(pair, 59.0)
    assert pair.connection.wire.is_open
    clock.later(pair, 1.0)
    assert not pair.connection.wire.is_open


def test_who_is_behind_is_sent_no_ping(make: Make, clock: Clock) -> None:
    pair = make(send_size=SMALL, ping_interval_s=5.0)
    pair.push("x" * 50_000)
    clock.later(pair, 6.0)
    assert [each.opcode for each in pair.peer.wait_frames(1)] == [TEXT]


def test_pings_are_answered_with_what_they_carry(make: Make) -> None:
    pair = make()
    pair.peer.send(frame(PING, b"as it is"))
    assert pair.peer.wait_frames(1) == [Frame(PONG, b"as it is")]


def test_a_client_that_closes_gets_its_close_frame_and_then_the_end(make: Make) -> None:
    pair = make()
    pair.on_take = lambda: pair.push("the answer")
    pair.peer.send(frame(TEXT, b"a question") + closing(NORMAL, b"bye"))
    found = pair.peer.wait_over()
    assert texts(found) == ["the answer"]
    assert (found[-1].opcode, found[-1].code) == (CLOSE, NORMAL)
    assert pair.taken == [b"a question"]
    assert not pair.connection.is_closed  # its last bytes may still be read
    pair.peer.close()
    wait(lambda: pair.connection.is_closed)
    assert pair.events == ["end", "leave"]


@pytest.mark.parametrize("opening", [closing(NORMAL), b"\xff" * 20])
def test_a_client_that_does_not_go_is_cut_off(make: Make, clock: Clock, opening: bytes) -> None:
    pair = make()
    pair.peer.send(opening)
    assert pair.peer.wait_over()[-1].opcode == CLOSE
    clock.later(pair, PART_TIMEOUT_S)
    assert pair.connection.is_closed


def test_a_client_that_does_not_answer_a_close_frame_is_cut_off(make: Make, clock: Clock) -> None:
    pair = make()
    pair.connection.close(GOING_AWAY, "the end")
    clock.later(pair, CLOSE_TIMEOUT_S - 0.5)
    assert not pair.connection.is_closed
    clock.later(pair, 0.5)
    assert pair.connection.is_closed


def test_a_client_that_vanishes_is_forgotten(make: Make) -> None:
    for says in (b"", frame(TEXT, b"half")[:3]):
        pair = make()
        pair.peer.send(says)
        pair.peer.close()
        wait(partial(getattr, pair.connection, "is_closed"))
        pair.push("x")
        assert pair.events == ["end", "leave"]


def test_a_client_that_vanished_is_found_out_when_something_is_sent(make: Make) -> None:
    pair = make()
    pair.peer.close()
    pair.push("x", "y")
    assert pair.connection.is_closed
    pair.push("z")
    assert pair.events == ["end", "leave"]


@pytest.mark.parametrize("begin", ["close", "sweep", "give up"])
def test_once_the_server_has_begun_to_close_nothing_is_taken(make: Make, clock: Clock, begin: str) -> None:
    """A subscription that came then would be kept for ever: its end has been told."""
    pair = make(send_size=SMALL, send_buffer_max_size=1 << 16)
    match begin:
        case "close":
            pair.connection.close(GOING_AWAY, "the end")
        case "sweep":
            clock.later(pair, 4_000.0)
        case "give up":
            pair.push("x" * 100_000, "x" * 100_000)  # the one that has begun does not count
    assert pair.events == ["end"]
    pair.peer.send(frame(TEXT, b"late") + frame(TEXT, b"later"))
    turn_loop()
    pair.peer.send(frame(TEXT, b"latest") + closing(NORMAL))
    pair.peer.wait_over()
    assert pair.taken == []


@pytest.mark.parametrize("cut", [0, 1, 100, len(handshake()) - 2, len(handshake()) + 3])
def test_what_comes_with_the_handshake_is_taken(make: Make, cut: int) -> None:
    pair = make(is_shaken=False)
    data = handshake() + frame(TEXT, b"one") + frame(TEXT, b"two")
    for part in (data[:cut], data[cut:]):
        pair.peer.send(part)
        turn_loop()
    assert pair.taken == [b"one", b"two"]
    pair.peer.read()
    assert pair.peer.received.startswith(SWITCHING.encode())


RATE = 5
BURST = RATE * BURST_S


def hasty(pair: Pair) -> list[bool]:
    """For each message that is taken from now on: whether it is one too many."""
    found: list[bool] = []
    pair.on_take = lambda: found.append(pair.connection.is_hasty)
    return found


RATES = [
    # messages at once, how many of them are one too many
    ([BURST], 0),
    ([BURST + 1], 1),
    ([BURST, 1], 1),
    ([BURST - 1, 1, 1], 1),
    ([BURST + BURST // 2], BURST // 2),
    ([2 * BURST], BURST),
]


@pytest.mark.parametrize(("bursts", "refused_count"), RATES)
def test_requests_that_are_too_many_are_told_from_those_that_are_not(
    make: Make, bursts: list[int], refused_count: int
) -> None:
    pair = make(request_rate_max=RATE)
    found = hasty(pair)
    for count in bursts:
        wanted_count = len(found) + count
        pair.peer.send(frame(TEXT, b"x") * count)
        turn_loop()
        while len(found) < wanted_count:  # what was sent comes in one piece or in several
            gevent.sleep(0.01)
    assert found == [False] * (sum(bursts) - refused_count) + [True] * refused_count
    assert not pair.connection.is_ended


@pytest.mark.parametrize("opcode", [TEXT, PING])
def test_who_goes_on_is_closed_once_and_in_good_order(make: Make, opcode: int) -> None:
    pair = make(request_rate_max=1)
    pair.peer.send(frame(opcode, b"x") * 200)
    wait(lambda: pair.connection.is_ended)
    pair.peer.send(frame(TEXT, b"more"))
    turn_loop()
    pair.peer.send(closing(NORMAL))
    found = pair.peer.wait_over()
    assert [each.code for each in found if each.opcode == CLOSE] == [POLICY]
    assert pair.taken == ([b"x"] * 2 * BURST_S if opcode == TEXT else [])  # half of them are refused
    assert pair.counted("closed", "request_rate_max") == 1
    pair.peer.close()
    wait(lambda: pair.connection.is_closed)


def test_a_wrong_frame_ends_the_connection_and_what_was_right_before_is_answered(make: Make) -> None:
    pair = make()
    pair.on_take = lambda: pair.push("the answer")
    pair.peer.send(frame(TEXT, b"good") + frame(TEXT, b"bad", mask=None))
    found = pair.peer.wait_over()
    assert texts(found) == ["the answer"]
    assert found[-1].code == PROTOCOL


def test_a_message_that_is_too_large_ends_the_connection_and_is_counted_once(make: Make) -> None:
    pair = make(send_size=SMALL, message_max_size=1024)
    pair.push("x" * 50_000)  # which it does not read, so that the connection does not end yet
    for part in (frame(TEXT, b"x" * 1025), b"x" * 100, b"x" * 100):
        pair.peer.send(part)
        turn_loop()
    assert pair.peer.wait_over()[-1].code == TOO_BIG
    assert pair.taken == []
    assert pair.counted("closed", "message_max_size") == 1


def test_a_client_that_says_so_itself_has_met_no_limit(make: Make) -> None:
    pair = make()
    pair.peer.send(closing(TOO_BIG))
    pair.peer.wait_over()
    assert pair.counted("closed", "message_max_size") == 0
