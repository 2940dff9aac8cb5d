"""Who follows what: the publisher knows it of each client, and when all have left nothing of them is left."""

from typing import Any

import gevent
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.link import NotConnected
from gateways.ws.topics import PRIVATE, Channel, Topic
from tests.gateways.making import BTCBCH
from tests.gateways.ws.making import FakeFollower, wait
from tests.gateways.ws.publishing import Publishing, topic

BOTH = (BTCBCH.name, "SATBCH")
CHANNELS = sorted(Channel)
CLIENTS = 3
steps = st.one_of(
    st.tuples(
        st.just("follow"),
        st.integers(0, CLIENTS - 1),
        st.sampled_from(CHANNELS),
        st.sets(st.sampled_from((*BOTH, "NOPE")), max_size=2),
    ),
    st.tuples(st.just("touch"), st.sampled_from(BOTH), st.integers(0, 2)),
    st.tuples(st.sampled_from(["behind", "catch up", "leave", "other user"]), st.integers(0, CLIENTS - 1)),
    st.tuples(st.sampled_from(["loop", "fail", "work"])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_when_everybody_has_left_nothing_is_left(acts: list[Any]) -> None:
    parts = Publishing()
    clients = [FakeFollower(7 + number) for number in range(CLIENTS)]
    for act in acts:
        match act:
            case ("follow", number, channel, names):
                parts.publisher.change(clients[number], channel, frozenset(topic(channel, name) for name in names))
            case ("touch", name, count):
                parts.touch(name, *range(1, count + 1))
            case ("behind", number):
                clients[number].is_behind = True
            case ("catch up", number):
                clients[number].is_behind = False
                parts.publisher.catch_up(clients[number])
            case ("leave", number):
                parts.publisher.forget(clients[number])
                assert not clients[number].held
                assert clients[number] not in parts.publisher._unsent
                clients[number] = FakeFollower(7 + number)
            case ("other user", number):
                before = clients[number].session.user_id
                clients[number].session.become(before + 1)
                parts.publisher.end_private(clients[number], before)
            case ("loop",):
                gevent.sleep(0.002)
            case ("fail",):
                parts.exchange.fails = parts.market.fails = NotConnected
            case ("work",):
                parts.exchange.fails = parts.market.fails = None
    check_followers(parts, clients)
    for number, client in enumerate(clients):
        if number % 2:
            parts.publisher.forget(client)
        else:
            for channel in Channel:
                parts.end(client, channel)
            client.flush()
    wait(parts.has_nothing_left)
    gevent.sleep(0.002)
    assert parts.has_nothing_left()
    parts.close()


def check_followers(parts: Publishing, clients: list[FakeFollower]) -> None:
    """The publisher knows of each client exactly what it follows."""
    known: dict[Topic, set[Any]] = {each: {*them} for each, them in parts.publisher._followers.items()}
    wanted: dict[Topic, set[Any]] = {}
    users: dict[int, set[Any]] = {}
    for client in clients:
        for channel, topics in client.session.topics.items():
            for each in topics:
                if channel in PRIVATE:
                    users.setdefault(client.session.user_id, set()).add(client)
                else:
                    wanted.setdefault(each, set()).add(client)
    assert known == wanted
    assert {user_id: {*them} for user_id, them in parts.publisher.users.items()} == users
    assert {name for name in (*BOTH, "NOPE") if parts.publisher.follows_market(name)} == {each.name for each in wanted}


def test_becoming_another_user_ends_what_is_private_and_nothing_else() -> None:
    parts = Publishing()
    follower = FakeFollower(7)
    for channel in (Channel.ORDER, Channel.ASSET, Channel.DEPTH):
        parts.follow(topic(channel), follower=follower)
    assert [*parts.publisher.users] == [7]
    assert follower.session.become(8)
    parts.publisher.end_private(follower, 7)
    assert parts.publisher.users == {}
    assert follower.session.names(Channel.ORDER) == follower.session.names(Channel.ASSET) == set()
    assert follower.session.names(Channel.DEPTH) == {BTCBCH.name}
    parts.follow(topic(Channel.ORDER), follower=follower)
    assert parts.publisher.private_followers() == [follower]
    assert [*parts.publisher.users] == [8]
    parts.close()
