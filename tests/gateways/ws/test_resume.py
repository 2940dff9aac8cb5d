"""Going on from an event, over a real event log: what was missed, once and in order, or a code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gevent
import pytest

from bus.codes import Code
from bus.messages import EventKind
from gateways.link import NotConnected, TimedOut
from gateways.ws import resume
from gateways.ws.topics import Channel, Topic
from tests.gateways.ws.making import BTC, SAT, order_event, wait
from tests.gateways.ws.resuming import (
    COUNT_MAX,
    FAR,
    ME,
    Resuming,
    mine,
    of_another_market,
    others,
    update,
    with_my_number,
)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Resuming]:
    made = Resuming(tmp_path)
    yield made
    made.close()


def test_orders_that_were_missed_come_in_order_with_their_numbers(parts: Resuming) -> None:
    parts.write(mine, others, mine)
    parts.write(of_another_market, with_my_number, with_my_number)
    parts.write(lambda number: order_event(number, ME, EventKind.ORDER_FINISH), others)
    parts.pump()
    for after, wanted in [(0, [1, 3, 7]), (1, [3, 7]), (2, [3, 7]), (3, [7]), (6, [7]), (7, []), (8, [])]:
        assert parts.sequence(Channel.ORDER, after) == 8
        assert parts.numbers() == wanted
    assert parts.is_registered()
    parts.write(mine)
    parts.pump()
    assert parts.numbers() == [9]


def test_without_a_number_there_is_nothing_before_the_present(parts: Resuming) -> None:
    parts.write(mine, mine)
    parts.pump()
    assert parts.sequence(Channel.ORDER, None) == 2
    assert parts.numbers() == []
    parts.write(mine)
    parts.pump()
    assert parts.numbers() == [3]


def test_of_balances_the_present_ones_come_of_those_that_have_changed(parts: Resuming) -> None:
    parts.write(update(BTC.index), update(SAT.index), others)
    parts.write(update(BTC.index), with_my_number)
    parts.pump()
    assert parts.sequence(Channel.ASSET, 0) == 5
    told = [{"BTC": {"available": "4", "freeze": "0e-8"}}, 5]
    assert [message["params"] for message in parts.client.take()] == [told]
    assert parts.sequence(Channel.ASSET, 4) == 5
    assert parts.client.take() == []
    parts.write(mine)
    assert parts.sequence(Channel.ASSET, 4) == 5
    parts.pump()
    assert [[*message["params"][0]] for message in parts.client.take()] == [["BTC"], ["BCH"]]


def test_an_empty_log_is_followed(parts: Resuming) -> None:
    assert parts.sequence(Channel.ORDER, 0) == 0
    assert parts.sequence(Channel.ORDER, None) == 0
    parts.write(mine)
    parts.pump()
    assert parts.numbers() == [1]


def test_the_subscription_from_before_ends_and_its_channel_is_numbered(parts: Resuming) -> None:
    parts.publisher.change(cast(Any, parts.client), Channel.ORDER, frozenset({Topic(Channel.ORDER, "SATBCH")}))
    parts.write(mine, of_another_market)
    parts.pump(0)
    assert parts.sequence(Channel.ORDER, 0) == 0
    parts.pump()
    assert parts.numbers() == [1]
    assert parts.follow(Channel.ORDER, FAR) == Code.INVALID_ARGUMENT
    assert not parts.is_registered()


def test_nothing_to_follow_is_not_followed(parts: Resuming) -> None:
    parts.write(mine)
    parts.pump()
    assert parts.follow(Channel.ORDER, 0, frozenset()) == '{"status": "success", "sequence": 1}'
    assert (parts.client.take(), parts.is_registered()) == ([], False)


def test_frames_of_the_log_are_split_elsewhere_than_this_process_has_come(parts: Resuming) -> None:
    parts.write(*[mine] * 10)
    for number, after, wanted in [(4, 0, [1, 2, 3, 4]), (7, 3, [4, 5, 6, 7]), (7, 7, [])]:
        parts.publisher.event_number = number
        assert parts.sequence(Channel.ORDER, after) == number
        assert parts.numbers() == wanted
    parts.pump()
    assert parts.numbers() == [8, 9, 10]


def test_a_number_that_only_others_have_seen_is_waited_for(parts: Resuming) -> None:
    parts.write(mine, mine)
    following = gevent.spawn(parts.sequence, Channel.ORDER, 2)
    gevent.sleep(0.01)
    assert not following.dead
    parts.pump()
    assert following.get() == 2
    assert parts.numbers() == []


def test_a_number_that_this_process_does_not_reach_is_given_up(
    parts: Resuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "AHEAD_MAX_S", 0.01)
    parts.write(mine, mine)
    assert parts.follow(Channel.ORDER, 2) == Code.SERVICE_TIMEOUT
    assert not parts.is_registered()


@pytest.mark.parametrize("after", [3, 1 << 62])
def test_numbers_of_the_future_are_none(parts: Resuming, after: int) -> None:
    parts.write(mine, mine)
    parts.pump()
    assert parts.follow(Channel.ORDER, after) == Code.INVALID_ARGUMENT


def refused_count(parts: Resuming) -> float | None:
    return parts.metrics._registry.get_sample_value("ws_refused_total", {"limit": "replay_event_max"})


def test_too_far_back_is_too_far(parts: Resuming) -> None:
    for _ in range(11):
        parts.write(*[others] * (COUNT_MAX // 10))
    parts.pump()
    last = COUNT_MAX + COUNT_MAX // 10
    assert parts.follow(Channel.ORDER, last - COUNT_MAX - 1) == Code.EVENTS_GONE
    assert refused_count(parts) == 1
    assert parts.sequence(Channel.ORDER, last - COUNT_MAX) == last


def test_what_is_gone_from_the_log_is_gone(tmp_path: Path) -> None:
    parts = Resuming(tmp_path, segment_size=1 << 16, keep_segments_count=1)
    for _ in range(10):
        parts.write(*[mine] * 200)
    parts.pump()
    first = int(min(file.stem for file in tmp_path.glob("*.events")))
    assert first > 200
    for after in (0, first - 2):
        assert parts.follow(Channel.ORDER, after) == Code.EVENTS_GONE
    assert refused_count(parts) == 2
    assert not parts.is_registered()
    assert parts.sequence(Channel.ORDER, first - 1) == 2000
    assert parts.numbers() == [*range(first, 2001)]
    parts.close()


def test_what_goes_while_it_is_told_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "FRAMES_AT_ONCE", 1)
    parts = Resuming(tmp_path, segment_size=1 << 16, keep_segments_count=2)
    for _ in range(5):
        parts.write(*[mine] * 200)
    parts.pump()
    number = int(min(file.stem for file in tmp_path.glob("*.events"))) - 1
    parts.client.on_flush = lambda: parts.write(*[mine] * 200) if parts.writer.last_number < 5_000 else None
    assert parts.follow(Channel.ORDER, number) == Code.EVENTS_GONE
    assert not parts.is_registered()
    parts.close()


@pytest.mark.parametrize(("fails", "code"), [(NotConnected, Code.INTERNAL_ERROR), (TimedOut, Code.SERVICE_TIMEOUT)])
@pytest.mark.parametrize("channel", [Channel.ORDER, Channel.ASSET])
def test_without_the_exchange_there_is_a_code(parts: Resuming, channel: Channel, fails: Any, code: Code) -> None:
    parts.write(mine)
    parts.pump()
    parts.exchange.fails = fails
    assert parts.follow(channel, 0) == code
    assert not parts.is_registered()


def test_a_log_that_has_less_than_was_told_is_not_waited_for_for_ever(
    parts: Resuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matcher that makes its log anew is behind for a moment; others go on meanwhile."""
    monkeypatch.setattr(resume, "AHEAD_MAX_S", 0.05)
    parts.write(mine, mine)
    parts.publisher.event_number = 5
    turns = list[int]()
    following = gevent.spawn(parts.follow, Channel.ORDER, 0)
    while not following.dead:
        gevent.sleep(0.001)
        turns.append(1)
    assert following.get() == Code.SERVICE_TIMEOUT
    assert len(turns) > 3
    parts.client.take()
    following = gevent.spawn(parts.sequence, Channel.ORDER, 0)
    gevent.sleep(0.01)
    parts.write(mine, mine, mine)
    assert following.get() == 5
    assert parts.numbers() == [1, 2, 3, 4, 5]


def test_a_client_that_reads_slowly_is_waited_for(parts: Resuming) -> None:
    for _ in range(20):
        parts.write(*[mine] * 10)
    parts.pump()

    def fill() -> None:
        parts.client.backlog_size = resume.BACKLOG_SIZE + 1

    parts.client.on_flush = fill
    following = gevent.spawn(parts.sequence, Channel.ORDER, 0)
    count = 0
    while count < 200:
        wait(lambda: parts.client.sent)
        gevent.sleep(2 * resume.PAUSE_S)
        count += len(parts.client.sent)
        assert len(parts.client.sent) == 10, "a frame's, and it waits"
        parts.client.sent.clear()
        parts.client.backlog_size = 0
    assert following.get() == 200


@pytest.mark.parametrize("channel", [Channel.ORDER, Channel.ASSET])
def test_a_client_that_leaves_meanwhile_is_not_registered(parts: Resuming, channel: Channel) -> None:
    parts.write(mine, mine)
    parts.pump()

    def leave() -> None:
        parts.client.is_ended = parts.client.is_closed = True
        parts.publisher.forget(cast(Any, parts.client))

    parts.client.on_flush = leave
    assert isinstance(parts.follow(channel, 0), Code)
    assert not parts.is_registered()
    parts.client.on_flush = lambda: None
    assert isinstance(parts.follow(channel, 2), Code), "nor if there is nothing to tell it"
    assert not parts.is_registered()
