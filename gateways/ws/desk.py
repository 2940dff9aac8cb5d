"""Doing what sessions say: replies, questions to backends, claims of identity, subscriptions.

The requests of one connection are answered in their order, one after the other. Most are answered at once; the first
one that must wait for something gets a greenlet, which also answers those that come meanwhile.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import assert_never

import gevent

from bus import jsontext
from bus.calls import Outcome
from bus.codes import Code
from gateways import replies
from gateways.link import NotConnected, TimedOut
from gateways.rpc import Rpc
from gateways.ws.auth import REFUSAL_NUMBER, Refusal, Verifier
from gateways.ws.connection import Connection
from gateways.ws.frames import Message
from gateways.ws.metrics import Metrics
from gateways.ws.publisher import Publisher
from gateways.ws.resume import Resumer
from gateways.ws.session import SUCCESS, Ask, Change, Done, Follow, Now, Signature, Todo, Token, id_of

REQUESTS_WAITING_MAX = 100  # of a connection; more are refused
REQUESTS_WAITING_SIZE_MAX = 256 * 1024  # bytes of them, beside the last one
CACHED_SIZE_MAX = 16 << 20  # characters of answers
ANSWERS_WAITING_SIZE = 256 * 1024  # bytes that wait for the client, after which its next request waits too
ROOM_POLL_S = 0.02


class Desk:
    """Answers the requests of all connections."""

    def __init__(
        self,
        rpc: Rpc,
        publisher: Publisher,
        verifier: Verifier,
        resumer: Resumer,
        metrics: Metrics,
        *,
        cache_s: float,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rpc = rpc
        self._publisher = publisher
        self._verifier = verifier
        self._resumer = resumer
        self._metrics = metrics
        self._cache_s = cache_s
        self._clock = clock
        self._now = now
        self._cached: dict[tuple[str, bytes], tuple[float, str]] = {}  # until when an answer may be reused
        self._cached_size = 0

    def take(self, connection: Connection, message: bytes) -> None:
        """A request has come: answer it, or see to it that it is answered. The caller flushes."""
        self._metrics.requests.inc()
        if connection.is_hasty:
            self._metrics.rate_refused.inc()
            reply(connection, Code.TOO_MANY_REQUESTS, id_of(message))
        elif connection.requests is None:
            request_id, todo = connection.session.take(message)
            if not self._do_at_once(connection, request_id, todo):
                connection.requests = deque()
                gevent.spawn(connection.guard, self._work, connection, request_id, todo)
        elif _has_room(connection.requests):
            connection.requests.append(message)
        else:
            reply(connection, Code.SERVICE_UNAVAILABLE, id_of(message))

    def _work(self, connection: Connection, request_id: int | None, todo: Todo) -> None:
        """Do what takes a while, then what has come meanwhile."""
        requests = connection.requests
        assert requests is not None
        try:
            _wait_for_reader(connection)
            self._do(connection, request_id, todo)
            while requests and not connection.is_ended:
                request_id, todo = connection.session.take(requests.popleft())
                if not self._do_at_once(connection, request_id, todo):
                    connection.flush()
                    _wait_for_reader(connection)
                    self._do(connection, request_id, todo)
        finally:
            connection.requests = None
            connection.flush()

    def _do_at_once(self, connection: Connection, request_id: int | None, todo: Todo) -> bool:
        """Do what needs no waiting; whether it was that."""
        match todo:
            case Done(outcome):
                if outcome is Code.TOO_MANY_SUBSCRIPTIONS:
                    self._metrics.subscriptions_refused.inc()
                reply(connection, outcome, request_id)
            case Now():
                reply(connection, str(int(self._clock())), request_id)
            case Change(outcome, channel, topics, told):
                reply(connection, outcome, request_id)
                self._publisher.change(connection, channel, topics, told)
            case _:
                return False
        return True

    def _do(self, connection: Connection, request_id: int | None, todo: Todo) -> None:
        """Do what may need waiting."""
        match todo:
            case Ask():
                reply(connection, self._ask(todo), request_id)
            case Token() | Signature():
                self._identify(connection, request_id, todo)
            case Follow(channel, topics, after):
                reply(connection, self._resumer.follow(connection, channel, topics, after), request_id)
            case Done() | Now() | Change():
                self._do_at_once(connection, request_id, todo)
            case _:
                assert_never(todo)

    def _ask(self, ask: Ask) -> Outcome:
        if not ask.is_public or not self._cache_s:
            return self._outcome(ask)
        key = (ask.method.name, jsontext.packed(ask.params))
        until_s, kept = self._cached.get(key, (0.0, ""))
        if self._now() < until_s:
            return kept
        outcome = self._outcome(ask)
        if isinstance(outcome, str):
            size = len(outcome) + len(key[1])
            if self._cached_size + size > CACHED_SIZE_MAX:
                self._cached.clear()
                self._cached_size = 0
            self._cached_size += size  # of one that is replaced, too: it is only cleared sooner
            self._cached[key] = (self._now() + self._cache_s, outcome)
        return outcome

    def _outcome(self, ask: Ask) -> Outcome:
        try:
            return self._rpc.outcome(ask.method.name, ask.params)
        except NotConnected:
            return Code.INTERNAL_ERROR
        except TimedOut:
            return Code.SERVICE_TIMEOUT

    def _identify(self, connection: Connection, request_id: int | None, claim: Token | Signature) -> None:
        verdict = self._verifier.verify(claim)
        if connection.is_ended:
            return
        if isinstance(verdict, Refusal):
            connection.push(Message(refused(verdict, request_id)))
        elif isinstance(verdict, Code):
            reply(connection, verdict, request_id)
        else:
            session = connection.session
            before = session.user_id
            if session.become(verdict):
                self._publisher.end_private(connection, before)
            reply(connection, SUCCESS, request_id)


def _has_room(requests: deque[bytes]) -> bool:
    return len(requests) < REQUESTS_WAITING_MAX and sum(map(len, requests)) <= REQUESTS_WAITING_SIZE_MAX


def _wait_for_reader(connection: Connection) -> None:
    """Until the client has read most of its answers: many large ones at once are no reason to disconnect it."""
    while connection.backlog_size > ANSWERS_WAITING_SIZE and not connection.is_ended:
        gevent.sleep(ROOM_POLL_S)


def reply(connection: Connection, outcome: Outcome, request_id: int | None) -> None:
    """Push the reply to a request."""
    if isinstance(outcome, str):
        assert request_id is not None, "only a good request has a result"
        connection.push(Message(replies.answered(outcome, request_id)))
    else:
        connection.push(Message(replies.refused(outcome, request_id)))


def refused(refusal: Refusal, request_id: int | None) -> str:
    """The envelope of what the service of authentication refuses."""
    error = f'{{"code": {REFUSAL_NUMBER}, "message": {jsontext.quoted(refusal.text)}}}'
    return f'{{"error": {error}, "result": null, "id": {"null" if request_id is None else request_id}}}'
