"""Subscriptions, in tables: what may be named, what is replaced, what a refusal leaves, how many there may be."""

from typing import Any

import pytest

from bus.codes import Code
from gateways.ws.session import SUCCESS, Change, Done, Follow, Todo
from gateways.ws.topics import PRIVATE, Channel, Topic
from tests.gateways.ws.making import ask, do, session

REFUSED = Done(Code.INVALID_ARGUMENT)
TOO_MANY = Done(Code.TOO_MANY_SUBSCRIPTIONS)
USER = 7
SEVERAL = [Channel.PRICE, Channel.STATE, Channel.TODAY, Channel.DEALS, Channel.ORDER, Channel.ASSET]
NONE: frozenset[Topic] = frozenset()
FIFTEEN = "€" * 5  # bytes


def several(channel: Channel, *names: str) -> frozenset[Topic]:
    return frozenset(Topic(channel, name) for name in names)


def kline(name: str, interval: str) -> Topic:
    return Topic(Channel.KLINE, name, interval=interval)


ONE = [
    ("kline.subscribe", ["BTCBCH", 60], Change(SUCCESS, Channel.KLINE, frozenset({kline("BTCBCH", "60")}))),
    ("kline.subscribe", [FIFTEEN, 1], Change(SUCCESS, Channel.KLINE, frozenset({kline(FIFTEEN, "1")}))),
    ("kline.subscribe", [FIFTEEN + "x", 60], REFUSED),
    ("kline.subscribe", ["BTCBCH"], REFUSED),
    ("kline.subscribe", ["BTCBCH", 60, 60], REFUSED),
    ("kline.subscribe", [1, 60], REFUSED),
    ("kline.subscribe", ["BTCBCH", 0], REFUSED),
    ("kline.subscribe", ["BTCBCH", -60], REFUSED),
    ("kline.subscribe", ["BTCBCH", "60"], REFUSED),
    ("kline.subscribe", ["BTCBCH", 60.0], REFUSED),
    ("kline.subscribe", ["BTCBCH", True], REFUSED),
    ("depth.subscribe", ["BTCBCH", 5], REFUSED),
    ("depth.subscribe", ["BTCBCH", 5, "0", 0], REFUSED),
    ("depth.subscribe", ["x" * 16, 5, "0"], REFUSED),
    ("depth.subscribe", [None, 5, "0"], REFUSED),
    ("depth.subscribe", ["BTCBCH", 0, "0"], REFUSED),
    ("depth.subscribe", ["BTCBCH", -5, "0"], REFUSED),
    ("depth.subscribe", ["BTCBCH", True, "0"], REFUSED),
    ("depth.subscribe", ["BTCBCH", 5.0, "0"], REFUSED),
    ("depth.subscribe", ["BTCBCH", "5", "0"], REFUSED),
    ("depth.subscribe", ["BTCBCH", 5, 0], REFUSED),
    ("depth.subscribe", ["BTCBCH", 5, "0." + "0" * 14], REFUSED),
    ("book.subscribe", ["BTCBCH"], REFUSED),
    ("book.subscribe", ["BTCBCH", 5, "0"], REFUSED),
    ("book.subscribe", ["x" * 16, 5], REFUSED),
    ("book.subscribe", [["BTCBCH"], 5], REFUSED),
    ("book.subscribe", ["BTCBCH", 0], REFUSED),
    ("book.subscribe", ["BTCBCH", 101], REFUSED),
    ("book.subscribe", ["BTCBCH", True], REFUSED),
    ("book.subscribe", ["BTCBCH", 5.0], REFUSED),
    ("book.subscribe", ["BTCBCH", "5"], REFUSED),
]


@pytest.mark.parametrize(("method", "params", "todo"), ONE)
def test_subscriptions_to_one(method: str, params: list[Any], todo: Todo) -> None:
    assert ask(session(), method, params) == todo


@pytest.mark.parametrize("interval", ["0", "0.0", "0e5", "-0", "0.01", ".01", "1e-2", "0.0100", "0.00000001", "1E-8"])
def test_depth_takes_an_interval_that_is_equal_to_one_of_the_settings(interval: str) -> None:
    topic = Topic(Channel.DEPTH, "BTCBCH", 5, interval)
    assert ask(session(), "depth.subscribe", ["BTCBCH", 5, interval]) == Change(
        SUCCESS, Channel.DEPTH, frozenset({topic}), (topic,)
    )


@pytest.mark.parametrize(
    ("limit", "interval"),
    [
        (5, "0.1"),
        (5, "0.011"),
        (5, "-0.01"),
        (5, ""),
        (5, "x"),
        (5, "NaN"),
        (5, "inf"),
        (5, "1e99"),
        (5, "1e-30"),  # is not 0
        (6, "0"),
        (1 << 62, "0"),
    ],
)
def test_depth_that_is_refused_for_its_limit_or_interval_ends_the_old_one(limit: int, interval: str) -> None:
    asking = session()
    do(asking, "depth.subscribe", ["BTCBCH", 5, "0"])
    assert do(asking, "depth.subscribe", ["BTCBCH", limit, interval]) == Change(
        Code.INVALID_ARGUMENT, Channel.DEPTH, NONE
    )
    assert asking.topics[Channel.DEPTH] == NONE


@pytest.mark.parametrize("channel", SEVERAL)
def test_subscriptions_to_several(channel: Channel) -> None:
    asking, method = session(USER), f"{channel}.subscribe"
    both = several(channel, "A", "B")
    told = () if channel in PRIVATE else (Topic(channel, "B"), Topic(channel, "A"))
    todo = do(asking, method, ["B", "A", "B"])
    assert isinstance(todo, Change)
    assert todo[:3] == (SUCCESS, channel, both)
    assert channel in PRIVATE or todo.told == told
    assert do(asking, method, [FIFTEEN])[2] == several(channel, FIFTEEN)  # type: ignore[misc]
    assert do(asking, method, []) == Change(SUCCESS, channel, NONE)


@pytest.mark.parametrize("channel", SEVERAL)
@pytest.mark.parametrize("bad", [1, True, None, 1.0, ["A"], "x" * 16, FIFTEEN + "x"])
def test_up_to_the_first_bad_one_several_are_followed(channel: Channel, bad: Any) -> None:
    asking, method = session(USER), f"{channel}.subscribe"
    do(asking, method, ["Z"])
    for params, kept in [(["A", "B", bad, "C"], ("A", "B")), ([bad, "A"], ())]:
        wanted = Change(Code.INVALID_ARGUMENT, channel, several(channel, *kept))
        assert do(asking, method, params) == wanted
        assert asking.names(channel) == set(kept)


@pytest.mark.parametrize("channel", sorted(set(Channel) - {Channel.BOOK}))
@pytest.mark.parametrize("params", [[], ["B"], [1, None, {}]])
def test_unsubscribing_ends_all_of_a_kind(channel: Channel, params: list[Any]) -> None:
    assert ask(session(USER), f"{channel}.unsubscribe", params) == Change(SUCCESS, channel, NONE)


def book(name: str, limit: int) -> Topic:
    return Topic(Channel.BOOK, name, limit)


def test_books_stand_beside_each_other() -> None:
    asking = session()
    steps = [
        ("subscribe", ["A", 5], {("A", 5)}, ("A", 5)),
        ("subscribe", ["B", 100], {("A", 5), ("B", 100)}, ("B", 100)),
        ("subscribe", ["A", 1], {("A", 1), ("B", 100)}, ("A", 1)),
        ("subscribe", ["B", 100], {("A", 1), ("B", 100)}, ("B", 100)),
        ("unsubscribe", ["C", 1, None, ["A"]], {("A", 1), ("B", 100)}, None),
        ("unsubscribe", ["A"], {("B", 100)}, None),
        ("subscribe", ["C", 2], {("B", 100), ("C", 2)}, ("C", 2)),
        ("unsubscribe", [], set(), None),
    ]
    for name, params, held, told in steps:
        wanted = Change(
            SUCCESS, Channel.BOOK, frozenset(book(*each) for each in held), () if told is None else (book(*told),)
        )
        assert do(asking, f"book.{name}", params) == wanted, (name, params)


FOLLOWED = [
    ([{}], (), None),
    (["A", {}], ("A",), None),
    (["A", {"after": None}], ("A",), None),
    (["A", "B", "A", {"after": 0}], ("A", "B"), 0),
    ([{"after": (1 << 63) - 1}], (), (1 << 63) - 1),
]
NOT_FOLLOWED = [
    ["A", {"after": -1}],
    ["A", {"after": True}],
    ["A", {"after": 1.0}],
    ["A", {"after": "1"}],
    ["A", {"After": 1}],
    ["A", {"after": 1, "more": 1}],
    ["A", 1, {"after": 1}],
    ["A", "x" * 16, {"after": 1}],
    ["A", {"after": 1}, {"after": 1}],
]


@pytest.mark.parametrize("channel", sorted(PRIVATE))
def test_following_with_numbers(channel: Channel) -> None:
    for params, names, after in FOLLOWED:
        assert ask(session(USER), f"{channel}.subscribe", params) == Follow(channel, several(channel, *names), after)
    asking = session(USER)
    do(asking, f"{channel}.subscribe", ["Z"])
    for bad in NOT_FOLLOWED:
        assert do(asking, f"{channel}.subscribe", bad) == REFUSED, bad
    assert asking.names(channel) == {"Z"}
    assert ask(asking, f"{channel}.subscribe", [{"after": 1}, "A"]) == Change(Code.INVALID_ARGUMENT, channel, NONE)


def test_only_order_and_asset_go_on_from_a_number() -> None:
    for channel in SEVERAL[:4]:
        todo = ask(session(USER), f"{channel}.subscribe", ["A", {"after": 1}])
        assert todo == Change(Code.INVALID_ARGUMENT, channel, several(channel, "A"))


def test_what_carries_numbers_is_the_last_wish() -> None:
    asking = session(USER)
    for params, numbered in [(["A", {}], {Channel.ORDER}), (["A"], set()), ([{}], {Channel.ORDER}), ([], set())]:
        do(asking, "order.subscribe", params)
        assert asking.numbered == numbered


LIMITED = [
    ("price.subscribe", ["A", "B", "C", "D"], True),
    ("price.subscribe", ["A", "B", "C", "D", "D"], True),
    ("price.subscribe", ["A", "B", "C", "D", "E"], False),
    ("kline.subscribe", ["A", 60], True),
    ("order.subscribe", ["A", "B", "C", {}], True),
    ("order.subscribe", ["A", "B", "C", "D", {}], True),
    ("order.subscribe", ["A", "B", "C", "D", "E", {}], False),
]


@pytest.mark.parametrize(("method", "params", "is_taken"), LIMITED)
def test_subscriptions_are_limited(method: str, params: list[Any], is_taken: bool) -> None:
    assert (ask(session(USER, 4), method, params) != TOO_MANY) is is_taken


def test_all_channels_count_against_the_limit_and_what_is_replaced_does_not() -> None:
    asking = session(USER, 4)
    do(asking, "price.subscribe", ["A", "B"])
    do(asking, "book.subscribe", ["A", 5])
    do(asking, "depth.subscribe", ["A", 5, "0"])
    for method, params in [
        ("book.subscribe", ["B", 5]),
        ("kline.subscribe", ["A", 60]),
        ("price.subscribe", ["A", "B", "C"]),
        ("asset.subscribe", ["A"]),
        ("asset.subscribe", ["A", {}]),
    ]:
        assert do(asking, method, params) == TOO_MANY, method
    assert do(asking, "price.subscribe", ["A", "B", "C", 1]) == REFUSED
    assert asking.names(Channel.PRICE) == {"A", "B"}
    for method, params in [
        ("book.subscribe", ["A", 1]),
        ("depth.subscribe", ["B", 10, "0"]),
        ("price.subscribe", ["C", "D"]),
        ("price.subscribe", ["C", 1]),
        ("asset.subscribe", ["A"]),
    ]:
        assert isinstance(do(asking, method, params), Change), method
