"""The loops that tell followers, over stand-ins: at which moments, what slow clients get, and what spoils nobody."""

import json
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from gateways.link import NotConnected
from gateways.ws import feeds, publisher
from gateways.ws.topics import PRIVATE, Channel, Topic
from tests.gateways.making import BTCBCH, CATALOG
from tests.gateways.ws.making import FakeFollower, wait
from tests.gateways.ws.publishing import Publishing, topic

SATBCH = CATALOG.market_by_name["SATBCH"]
QUIET_S = 0.03  # in which nothing comes
STATUS = '{{"period": 86400, "last": "{}", "volume": "0", "deal": "0"}}'


@pytest.fixture
def parts(request: pytest.FixtureRequest) -> Iterator[Publishing]:
    made = Publishing(getattr(request, "param", 1))
    yield made
    made.close()


class Clock:
    """The time that the publisher sees."""

    now_s = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands still; takes effect with the next look at the time."""
    made = Clock()
    monkeypatch.setattr(publisher, "monotonic", lambda: made.now_s)
    return made


INTERVAL_MS = 10
INTERVAL_S = INTERVAL_MS / 1000
having_interval = pytest.mark.parametrize("parts", [INTERVAL_MS], indirect=True)


def quiet() -> None:
    """Let time pass in which nothing should come."""
    gevent.sleep(QUIET_S)


def prices(follower: FakeFollower) -> list[str]:
    return [message["params"][1] for message in follower.told]


@having_interval
def test_what_happens_within_an_interval_is_told_once_as_it_is_in_the_end(clock: Clock, parts: Publishing) -> None:
    follower = parts.follow(topic(Channel.DEPTH))
    wait(follower.take)
    for amount in range(1, 20):
        parts.set_ask(3, amount)
        parts.touch()
        gevent.sleep(0)
    quiet()
    assert follower.take() == []
    clock.now_s += INTERVAL_S
    wait(lambda: follower.told)
    quiet()
    assert [message["params"] for message in follower.take()] == [[False, {"asks": [["3", "19"]]}, BTCBCH.name]]
    parts.touch()
    clock.now_s += INTERVAL_S
    quiet()
    assert follower.take() == []


@having_interval
def test_what_happens_after_an_interval_of_quiet_is_told_at_once(clock: Clock, parts: Publishing) -> None:
    follower = parts.follow(topic(Channel.PRICE))
    wait(lambda: parts.market.calls)
    clock.now_s += 5 * INTERVAL_S
    parts.touch(BTCBCH.name, 10**8)
    wait(lambda: follower.told)
    for price in (2, 3):
        parts.touch(BTCBCH.name, price * 10**8)
        quiet()
    assert prices(follower) == ["1.00000000"]
    clock.now_s += INTERVAL_S
    wait(lambda: len(follower.told) > 1)
    assert prices(follower) == ["1.00000000", "3.00000000"]


@having_interval
@pytest.mark.parametrize("cause", ["others subscribe", "market data is behind"])
def test_an_interval_is_kept_whatever_else_there_is_to_tell(clock: Clock, parts: Publishing, cause: str) -> None:
    follower = parts.follow(topic(Channel.PRICE))
    parts.touch(BTCBCH.name, 10**8)
    wait(lambda: follower.told)
    if cause == "market data is behind":
        parts.publisher.event_number = 1_000  # which it does not know yet
    for number in range(5):
        parts.follow(Topic(Channel.PRICE, f"NEW{number}" if cause == "others subscribe" else SATBCH.name))
        parts.touch(BTCBCH.name, (2 + number) * 10**8)
        quiet()
    assert prices(follower) == ["1.00000000"]
    clock.now_s += INTERVAL_S
    wait(lambda: len(follower.told) > 1)
    assert prices(follower) == ["1.00000000", "6.00000000"]


def test_two_followers_get_the_same_bytes(parts: Publishing) -> None:
    one, other = parts.follow(topic(Channel.DEALS)), parts.follow(topic(Channel.DEALS))
    packing = FakeFollower()
    packing.takes_plain = False
    twin = FakeFollower()
    twin.takes_plain = False
    for follower in (packing, twin):
        parts.follow(topic(Channel.DEALS), follower=follower)
    wait(lambda: parts.market.calls)
    quiet()
    parts.touch(BTCBCH.name, 1, 2)
    wait(lambda: all(follower.sent for follower in (one, other, packing, twin)))
    assert [*map(id, one.sent)] == [*map(id, other.sent)]
    assert [*map(id, packing.messages)] == [*map(id, twin.messages)]
    assert one.told == packing.told


@pytest.mark.parametrize("channel", sorted(set(Channel) - PRIVATE))
def test_subscribing_again_keeps_what_stays_and_tells_it_at_once(parts: Publishing, channel: Channel) -> None:
    parts.market.outcomes |= {
        "market.last": '"7.00000000"',
        "market.status": STATUS.format(1),
        "market.status_today": STATUS.format(1),
        "market.kline": json.dumps([[60, "1", "1", "1", "1", "1", "1", BTCBCH.name]]),
    }
    follower = parts.follow(topic(channel))
    if channel is not Channel.DEALS:
        wait(follower.take)
    asked = len(parts.market.calls) + len(parts.exchange.asked)
    feed = parts.publisher._feeds[topic(channel)]
    parts.follow(topic(channel), topic(channel, SATBCH.name), follower=follower)
    is_told = channel not in (Channel.DEALS, Channel.KLINE)
    assert len(follower.out) == is_told
    assert parts.publisher._feeds[topic(channel)] is feed
    parts.follow(topic(channel), follower=follower)
    assert len(follower.out) == 2 * is_told
    assert [*parts.publisher._feeds] == [topic(channel)]
    assert len(parts.market.calls) + len(parts.exchange.asked) == asked


def test_a_second_subscriber_is_told_at_once_and_the_first_one_not(parts: Publishing) -> None:
    parts.set_ask(3, 1)
    first = parts.follow(topic(Channel.BOOK))
    wait(first.take)
    second = parts.follow(topic(Channel.BOOK))
    assert len(second.out) == 1
    quiet()
    assert (len(first.told), len(second.told)) == (0, 1)


def test_two_who_come_before_anything_is_known_are_told_once(parts: Publishing) -> None:
    both = [parts.follow(topic(Channel.BOOK)) for _ in range(2)]
    wait(lambda: all(follower.sent for follower in both))
    quiet()
    assert [len(follower.told) for follower in both] == [1, 1]


def test_a_follower_that_is_behind_gets_the_newest_once_it_has_caught_up(parts: Publishing) -> None:
    slow, quick = parts.follow(topic(Channel.DEPTH)), parts.follow(topic(Channel.DEPTH))
    wait(lambda: slow.take() and quick.take())
    slow.is_behind = True
    for amount in range(1, 6):
        parts.set_ask(3, amount)
        parts.touch()
        wait(quick.take)
    assert (slow.take(), [*slow.held]) == ([], [topic(Channel.DEPTH)])
    slow.is_behind = False
    parts.publisher.catch_up(slow)
    assert [message["params"] for message in slow.take()] == [[True, {"asks": [["3", "5"]], "bids": []}, BTCBCH.name]]
    assert slow.held == {}
    parts.set_ask(3, 6)
    parts.touch()
    wait(lambda: slow.told)
    assert slow.told == quick.told


@pytest.mark.parametrize(("channel", "newest"), [(Channel.PRICE, [BTCBCH.name, "2.00000000"]), (Channel.KLINE, [[60]])])
def test_what_is_told_then_is_no_first_message(parts: Publishing, channel: Channel, newest: list[object]) -> None:
    """Of a k-line there is none, of a price it is written otherwise."""
    parts.market.outcomes["market.kline"] = "[[60]]"
    slow = parts.follow(topic(channel))
    slow.is_behind = True
    parts.touch(BTCBCH.name, 2 * 10**8)
    wait(lambda: slow.held)
    parts.publisher.catch_up(slow)
    assert [message["params"] for message in slow.take()] == [newest]


def test_a_follower_that_is_behind_is_told_every_deal_all_the_same(parts: Publishing) -> None:
    slow = parts.follow(topic(Channel.DEALS))
    wait(lambda: parts.market.calls)
    slow.is_behind = True
    for _ in range(3):
        parts.touch(BTCBCH.name, 5)
        quiet()
    assert [len(message["params"][1]) for message in slow.told] == [1, 1, 1]
    assert slow.held == {}


@pytest.mark.parametrize("change", ["ended", "replaced", "gone"])
def test_what_was_held_back_is_not_told_to_who_wants_it_no_more(parts: Publishing, change: str) -> None:
    slow = parts.follow(topic(Channel.DEPTH))
    wait(slow.take)
    slow.is_behind = True
    parts.set_ask(3, 1)
    parts.touch()
    wait(lambda: slow.held)
    match change:
        case "ended":
            parts.end(slow, Channel.DEPTH)
        case "replaced":
            parts.follow(topic(Channel.DEPTH, SATBCH.name), follower=slow)
        case "gone":
            parts.publisher.forget(slow)
    slow.is_behind = False
    assert slow.held == {}
    parts.publisher.catch_up(slow)
    assert [message["params"][2] for message in slow.take()] in ([], [SATBCH.name])


@pytest.mark.parametrize("channel", [Channel.DEPTH, Channel.PRICE, Channel.DEALS, Channel.STATE])
def test_a_market_that_does_not_exist_or_fails_spoils_nobody(parts: Publishing, channel: Channel) -> None:
    parts.market.outcomes["market.status"] = STATUS.format(1)
    nobody = parts.follow(topic(channel, "NOPE"))
    follower = FakeFollower()
    parts.publisher.change(follower, channel, frozenset({topic(channel, "NOPE"), topic(channel)}))
    parts.exchange.fails = NotConnected
    quiet()
    parts.exchange.fails = None
    parts.set_ask(3, 1)
    parts.touch(BTCBCH.name, 7)
    parts.market.number = parts.publisher.event_number
    wait(lambda: follower.told)
    assert nobody.told == []
    parts.publisher.check()


@pytest.mark.parametrize("channel", [Channel.STATE, Channel.KLINE])
def test_what_market_data_did_not_know_yet_is_told_as_soon_as_it_does(parts: Publishing, channel: Channel) -> None:
    """Two deals follow each other; when it is asked, market data knows of the first."""

    def set_last(last: str) -> None:
        parts.market.outcomes["market.status"] = STATUS.format(last)
        parts.market.outcomes["market.kline"] = json.dumps([[1_700_000_000, last, last, last, last, "1", "1", "x"]])

    follower = parts.follow(topic(channel))
    set_last("1")
    parts.touch(BTCBCH.name, 1)
    parts.touch(BTCBCH.name, 2)
    parts.market.number = 1
    wait(lambda: follower.told)
    quiet()
    set_last("2")
    parts.market.number = 2
    wait(lambda: len(follower.told) > 1, patience_s=0.9)  # long before it is polled
    assert len(follower.told) == 2


def test_an_answer_that_was_asked_for_somebody_who_has_gone_is_for_nobody(parts: Publishing) -> None:
    parts.market.outcomes["market.deals"] = '[{"id": 1}]'
    gone = parts.follow(topic(Channel.DEALS))
    answer = Event()
    parts.market.meanwhile = answer.wait
    wait(lambda: parts.market.calls)
    parts.end(gone, Channel.DEALS)
    follower = parts.follow(topic(Channel.DEALS))
    wait(lambda: len(parts.market.calls) == 2)
    answer.set()
    wait(lambda: follower.told)
    quiet()
    assert [message["params"][1] for message in follower.told] == [[{"id": 1}]]
    assert gone.told == []


def test_a_question_that_is_not_answered_holds_up_nobody_else(parts: Publishing) -> None:
    follower = parts.follow(topic(Channel.DEALS))
    wait(lambda: parts.publisher._feeds[topic(Channel.DEALS)].is_known)
    answer = Event()
    parts.market.meanwhile = answer.wait
    parts.follow(topic(Channel.DEALS, SATBCH.name))
    wait(lambda: len(parts.market.calls) == 2)
    for _ in range(3):
        parts.touch(BTCBCH.name, 5)
        wait(follower.take)
    answer.set()


def test_what_changes_with_time_is_looked_at_again(parts: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.publisher.stop()
    monkeypatch.setattr(publisher, "POLL_S", 0.005)
    monkeypatch.setattr(feeds, "BUSY_POLL_S", 0.01)
    monkeypatch.setattr(feeds, "SETTLE_S", 0.0)
    parts.publisher.start()
    parts.market.outcomes["market.status"] = STATUS.format(1).replace('"volume": "0"', '"volume": "1"')
    follower = parts.follow(topic(Channel.STATE))
    wait(follower.take)
    parts.market.outcomes["market.status"] = STATUS.format(2)
    wait(follower.take)
    polled_count = len(parts.market.calls)
    quiet()
    assert len(parts.market.calls) == polled_count  # without volume there is little to look for
