"""Requests of a connection as they are answered: each once, in order, and what they make others do."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import gevent
import pytest
from gevent.event import Event

from bus.calls import Outcome
from bus.codes import Code
from gateways.link import NotConnected, TimedOut
from gateways.rpc import Rpc
from gateways.ws import desk
from gateways.ws.auth import Refusal, Verdict, Verifier
from gateways.ws.connection import Connection
from gateways.ws.desk import REQUESTS_WAITING_MAX, Desk
from gateways.ws.resume import Resumer
from gateways.ws.session import Signature, Token
from gateways.ws.topics import Channel, Topic
from tests.gateways.making import BTCBCH
from tests.gateways.ws.making import FakeFollower, wait
from tests.gateways.ws.publishing import Publishing, topic

NAME = BTCBCH.name
USER = 7


class FakeConnection(FakeFollower):
    """A client whose requests are taken."""

    def __init__(self, user_id: int = 0) -> None:
        super().__init__(user_id)
        self.requests: deque[bytes] | None = None
        self.is_hasty = False

    def guard(self, act: Callable[..., None], *args: Any) -> None:
        act(*args)


class FakeRpc:
    """Asks the test."""

    def __init__(self, outcome: Callable[[str, list[Any]], Outcome]) -> None:
        self.outcome = outcome


class Parts:
    """A desk, and those whom it asks: they answer once `may_answer` is set."""

    def __init__(self) -> None:
        self.around = Publishing()
        self.client = FakeConnection()
        self.may_answer = Event()
        self.may_answer.set()
        self.outcome: Outcome | type[Exception] = '"found"'
        self.verdict: Verdict = USER
        self.asked: list[Any] = []
        self.now_s = 100.0
        self.desk = Desk(
            cast(Rpc, FakeRpc(self.answer)),
            self.around.publisher,
            cast(Verifier, self),
            cast(Resumer, self),
            self.around.metrics,
            cache_s=0.5,
            clock=lambda: 1_700_000_000.9,
            now=lambda: self.now_s,
        )

    def _answer(self, asked: Any) -> None:
        self.asked.append(asked)
        self.may_answer.wait()

    def answer(self, method: str, params: list[Any]) -> Outcome:
        self._answer((method, params))
        if isinstance(self.outcome, type):
            raise self.outcome
        return self.outcome

    def verify(self, claim: Token | Signature) -> Verdict:
        self._answer(claim)
        return self.verdict

    def follow(self, _: Any, channel: Channel, topics: frozenset[Topic], after: int | None) -> Outcome:
        self._answer((channel, {each.name for each in topics}, after))
        return '{"status": "success", "sequence": 5}'

    def send(self, *requests: Any) -> None:
        """Requests whose ids are their places, in one piece."""
        for number, (method, *params) in enumerate(requests):
            message = json.dumps({"id": number, "method": method, "params": params})
            self.desk.take(cast(Connection, self.client), message.encode())

    def told(self) -> list[Any]:
        """All that has been told once everything is answered: ids of replies with results or codes, else channels."""
        wait(lambda: self.client.requests is None)
        return [short(message) for message in self.client.take()]

    def ask(self, method: str, *params: Any) -> Any:
        """The reply to a single request."""
        self.send((method, *params))
        [(number, found)] = self.told()
        assert number == 0
        return found


def short(message: Any) -> Any:
    if "method" in message:
        return message["method"]
    assert [*message] == ["error", "result", "id"]
    return message["id"], message["result"] if message["error"] is None else message["error"]["code"]


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.around.close()


SUCCESS = {"status": "success"}


def test_what_needs_nobody_is_answered_at_once(parts: Parts) -> None:
    parts.send(("server.ping",), ("server.time",), ("price.subscribe", "A", 1), ("nope",), ("asset.query",))
    assert parts.client.requests is None
    assert parts.told() == [(0, "pong"), (1, 1_700_000_000), (2, 1), (3, 4), (4, 6)]
    parts.desk.take(cast(Connection, parts.client), b"nonsense")
    assert parts.told() == [(None, 1)]


def test_a_subscription_is_answered_before_what_is_known_of_it(parts: Parts) -> None:
    other = parts.around.follow(topic(Channel.DEPTH))
    wait(lambda: other.sent)
    parts.send(("depth.subscribe", NAME, 5, "0"))
    assert parts.told() == [(0, SUCCESS), "depth.update"]
    assert parts.client.session.names(Channel.DEPTH) == {NAME}


def test_all_is_answered_in_order_however_long_it_takes(parts: Parts) -> None:
    parts.may_answer.clear()
    parts.send(
        ("server.ping",),
        ("price.query", NAME),
        ("server.ping",),
        ("state.query", NAME, 60),
        ("server.auth", "token", "web"),
        ("asset.query",),
        ("order.subscribe", NAME, {"after": 3}),
        ("server.time",),
    )
    gevent.sleep(0.005)
    assert [short(each) for each in parts.client.take()] == [(0, "pong")]
    parts.may_answer.set()
    assert [number for number, _ in parts.told()] == [*range(1, 8)]
    assert parts.asked[2:] == [
        Token("token"),
        ("balance.query", [USER]),
        (Channel.ORDER, {NAME}, 3),
    ]


def test_requests_that_wait_are_limited(parts: Parts) -> None:
    parts.may_answer.clear()
    count = REQUESTS_WAITING_MAX + 3
    parts.send(("price.query", NAME), *[("server.ping",)] * (count - 1))
    gevent.sleep(0.005)
    parts.may_answer.set()
    told = parts.told()
    assert sorted(number for number, _ in told) == [*range(count)]
    assert [number for number, found in told if found == 3] == [count - 2, count - 1]
    assert parts.ask("server.ping") == "pong"


def test_who_is_too_hasty_is_refused(parts: Parts) -> None:
    parts.client.is_hasty = True
    parts.send(("server.ping",), ("price.subscribe", NAME))
    assert parts.told() == [(0, 22), (1, 22)]
    assert parts.client.session.topics == {}
    parts.client.is_hasty = False
    assert parts.ask("server.ping") == "pong"


FAILURES: list[tuple[Outcome | type[Exception], int]] = [
    (NotConnected, 2),
    (TimedOut, 5),
    (Code.INVALID_ARGUMENT, 1),
    (Code.SERVICE_UNAVAILABLE, 3),
]


@pytest.mark.parametrize(("outcome", "number"), FAILURES)
@pytest.mark.parametrize("method", ["price.query", "asset.query"])
def test_what_a_backend_refuses_is_refused_and_not_remembered(
    parts: Parts, method: str, outcome: Any, number: int
) -> None:
    parts.client.session.user_id = USER
    parts.outcome = outcome
    assert parts.ask(method, NAME) == number
    parts.outcome = '"found"'
    assert parts.ask(method, NAME) == "found"


def test_public_answers_are_kept_for_a_moment_and_nobodys_own(parts: Parts) -> None:
    parts.client.session.user_id = USER
    for later_s, params, asked_count in [(0, [NAME], 1), (0.4, [NAME], 1), (0, ["SATBCH"], 2), (0.2, [NAME], 3)]:
        parts.now_s += later_s
        parts.outcome = f'"{asked_count}"'
        assert parts.ask("price.query", *params) == str(1 if params == [NAME] and asked_count < 3 else asked_count)
        assert len(parts.asked) == asked_count
    for _ in range(2):
        parts.ask("asset.query")
    assert len(parts.asked) == 5


@pytest.mark.parametrize(
    ("params", "others"), [([1], [1.0]), ([1], [True]), ([1], ["1"]), ([None], [0]), ([[]], [{}]), (["a"], ["a", 0])]
)
def test_answers_to_other_params_are_others(parts: Parts, params: list[Any], others: list[Any]) -> None:
    parts.ask("deals.query", *params)
    parts.ask("deals.query", *others)
    assert len(parts.asked) == 2


def test_kept_answers_are_limited(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "CACHED_SIZE_MAX", 1_000)
    for number in range(1_000):
        parts.ask("deals.query", NAME, number, 0)
        kept = [len(outcome) + len(key[1]) for key, (_, outcome) in parts.desk._cached.items()]
        assert kept
        assert sum(kept) <= 1_000


VERDICTS: list[tuple[Verdict, Any, int]] = [
    (USER, SUCCESS, USER),
    (Refusal("who?"), 11, 0),
    (Code.INTERNAL_ERROR, 2, 0),
    (Code.SERVICE_TIMEOUT, 5, 0),
    (Code.SERVICE_UNAVAILABLE, 3, 0),
]


@pytest.mark.parametrize(("verdict", "found", "user_id"), VERDICTS)
@pytest.mark.parametrize("request_", [("server.auth", "token", "web"), ("server.sign", "id", "proof", 1)])
def test_who_a_client_is(parts: Parts, verdict: Verdict, found: Any, user_id: int, request_: Any) -> None:
    parts.verdict = verdict
    assert parts.ask(*request_) == found
    assert parts.client.session.user_id == user_id


def test_what_the_service_says_is_told_as_it_is(parts: Parts) -> None:
    parts.verdict = Refusal('€ "x"\n')
    parts.send(("server.auth", "token", "web"))
    wait(lambda: parts.client.requests is None)
    [reply] = parts.client.take()
    assert reply == {"error": {"code": 11, "message": '€ "x"\n'}, "result": None, "id": 0}


def test_becoming_another_user_ends_orders_and_assets_a_refusal_nothing(parts: Parts) -> None:
    parts.send(("server.auth", "token", "web"), ("order.subscribe", NAME), ("price.subscribe", NAME))
    parts.told()
    publisher = parts.around.publisher
    steps: list[tuple[Verdict, list[int]]] = [
        (Refusal("no"), [USER]),
        (Code.SERVICE_TIMEOUT, [USER]),
        (USER, [USER]),
        (8, []),
    ]
    for parts.verdict, users in steps:
        parts.ask("server.auth", "token", "web")
        assert [*publisher.users] == users
    assert parts.client.session.names(Channel.ORDER) == set()
    assert parts.client.session.names(Channel.PRICE) == {NAME}


@pytest.mark.parametrize("slow", [("price.query", NAME), ("server.auth", "token", "web")])
def test_of_a_client_that_has_gone_nothing_is_kept(parts: Parts, slow: Any) -> None:
    parts.may_answer.clear()
    parts.send(slow, ("price.subscribe", NAME), ("order.subscribe", NAME))
    gevent.sleep(0.005)
    parts.client.is_ended = parts.client.is_closed = True
    parts.around.publisher.forget(parts.client)
    parts.may_answer.set()
    assert parts.told() == []
    assert parts.around.has_nothing_left()
