"""order.subscribe and asset.subscribe that go on from an event: what a client missed while it was away, then the rest.

What was missed comes from the event log, or from Kafka (gateways/ws/stream.py), before the reply to the request; the
reply's `sequence` is a number up to which everything has been told. Then the loop of events goes on
(gateways/ws/events.py), with nothing between.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import gevent
import numpy as np
from gevent.lock import BoundedSemaphore

from bus.calls import Outcome
from bus.codes import Code
from bus.eventlog import Gone
from bus.messages import UPDATE_EVENT, EventKind, Frame, Records
from gateways.link import NotConnected, TimedOut
from gateways.state import State
from gateways.turns import give_way
from gateways.ws.connection import Connection
from gateways.ws.metrics import Metrics
from gateways.ws.own import balances, push_balances, push_order
from gateways.ws.publisher import Publisher
from gateways.ws.stream import Past
from gateways.ws.topics import Channel, Topic

FRAMES_AT_ONCE = 16  # that are looked through before others have their turn
EVENTS_AT_ONCE = 256  # that are told before others have their turn: some milliseconds of work
PAUSE_S = 0.005  # until this process has come so far
READ_POLL_S = 0.05  # until a client has read some of what it gets; a thousand that do not read must cost little
BACKLOG_SIZE = 256 * 1024  # that may wait for the client
AHEAD_MAX_S = 2.0  # how long a number may be one that only others have seen
_ORDER_KIND_MAX = int(EventKind.ORDER_FINISH)  # the first kinds are the three of orders


class _Left(Exception):
    """The client has gone meanwhile."""


class Missed(NamedTuple):
    """A user's events of a frame, and the frame's last number."""

    records: Records
    last_number: int


class Resumer:
    """Lets clients go on from where they were."""

    def __init__(
        self,
        state: State,
        publisher: Publisher,
        metrics: Metrics,
        past: Callable[[], Past],
        event_count_max: int,
    ) -> None:
        """`past` gives what a client has missed, one for each."""
        self._state = state
        self._publisher = publisher
        self._metrics = metrics
        self._past = past
        self._event_count_max = event_count_max
        self._turn = BoundedSemaphore(1)  # one goes on in each round of the loop, however many come back together

    def follow(
        self, connection: Connection, channel: Channel, topics: frozenset[Topic], after_number: int | None
    ) -> Outcome:
        """Push what was missed after an event and let the client follow from there; the outcome of its request."""
        self._publisher.change(connection, channel, frozenset())
        if not self._publisher.is_informed:
            return Code.SERVICE_TIMEOUT
        log = self._past()
        number = self._publisher.event_number if after_number is None else after_number
        if number > log.durable_number:
            return Code.INVALID_ARGUMENT
        if not self._arrive(number):
            return Code.SERVICE_TIMEOUT
        is_far = self._publisher.event_number - number > self._event_count_max
        if is_far or number + 1 < log.first_number:
            self._metrics.replays_refused.inc()
            return Code.EVENTS_GONE
        try:
            number = self._tell(connection, channel, topics, log, number)
        except Gone:
            self._metrics.replays_refused.inc()
            return Code.EVENTS_GONE
        except NotConnected:
            return Code.INTERNAL_ERROR
        except (TimedOut, _Left):
            return Code.SERVICE_TIMEOUT
        return f'{{"status": "success", "sequence": {number}}}'

    def _arrive(self, number: int) -> bool:
        """Wait until this process has come so far: another one may have told the client."""
        end_s = time.monotonic() + AHEAD_MAX_S
        while self._publisher.event_number < number and time.monotonic() < end_s:
            gevent.sleep(PAUSE_S)
        return self._publisher.event_number >= number

    def _tell(self, connection: Connection, channel: Channel, topics: frozenset[Topic], log: Past, number: int) -> int:
        """Push what was missed after `number`, then follow; the last number that is told.

        Raises Gone, NotConnected, TimedOut, _Left.
        """
        wanted = {topic.name for topic in topics}
        user_id = connection.session.user_id
        changed: dict[str, None] = {}  # assets
        number_before = number
        end_s = time.monotonic() + AHEAD_MAX_S
        told_count = self._pause(connection)  # since the last pause; none at the end, or it would never catch up
        while True:
            until_number = self._publisher.event_number
            for frame_count, part in enumerate(missed(log, number, user_id, channel), 1):
                if number >= until_number:
                    break
                events = part.records[part.records["number"] <= until_number]
                for start in range(0, len(events), EVENTS_AT_ONCE):
                    if told_count >= EVENTS_AT_ONCE or connection.backlog_size > BACKLOG_SIZE:
                        told_count = self._pause(connection)
                    some = events[start : start + EVENTS_AT_ONCE]
                    told_count += len(some)
                    changed |= self._tell_events(connection, channel, wanted, some)
                number = min(part.last_number, until_number)
                if frame_count % FRAMES_AT_ONCE == 0:
                    told_count = self._pause(connection)
            if changed:
                texts = balances(self._state, user_id, changed)
                self._metrics.sent.inc(push_balances([connection], texts, number, number_before, is_numbered=True))
                changed.clear()
            if connection.is_ended:
                raise _Left
            if number >= self._publisher.event_number:  # else it went on meanwhile
                self._publisher.change(connection, channel, topics, is_numbered=True)
                return number
            if number == number_before:  # the log has less than this process was told
                if time.monotonic() > end_s:
                    raise TimedOut
                gevent.sleep(PAUSE_S)
            number_before = number

    def _tell_events(
        self, connection: Connection, channel: Channel, wanted: set[str], events: Records
    ) -> dict[str, None]:
        """Push the orders among a user's events; the assets whose balances they have changed."""
        if not len(events):
            return {}
        catalog = self._state.catalog()
        found: dict[str, None] = {}
        for place, kind in enumerate(events["kind"].tolist()):
            event = events[place : place + 1]
            if kind == EventKind.BALANCE_UPDATE:
                found[catalog.asset_by_index[event.view(UPDATE_EVENT)["asset"][0]].name] = None
                continue
            market = catalog.market_by_index[event["market"][0]]
            if channel is Channel.ASSET:
                found |= {market.stock.name: None, market.money.name: None}
            elif market.name in wanted:
                self._metrics.sent.inc(push_order([connection], event, catalog, is_numbered=True))
        return {name: None for name in found if name in wanted}

    def _pause(self, connection: Connection) -> int:
        """Give others their turn, and a client that reads slowly its time; nothing is told since. Raises _Left."""
        with self._turn:
            give_way()
        while connection.backlog_size > BACKLOG_SIZE and not connection.is_ended:
            gevent.sleep(READ_POLL_S)
        if connection.is_ended:
            raise _Left
        return 0


def missed(log: Past, after_number: int, user_id: int, channel: Channel) -> Iterator[Missed]:
    """For each frame of events that is durable now: those that concern a user's topics of a channel. Raises Gone."""
    for frame in log.frames(after_number):
        yield Missed(own(frame, user_id, channel), frame.first + len(frame.records) - 1)


def own(frame: Frame, user_id: int, channel: Channel) -> Records:
    """The events of a frame that are about a user's orders; and about its balances, if that is the channel."""
    records = frame.records
    is_own = (records["kind"] <= _ORDER_KIND_MAX) & (records["order"]["user_id"] == user_id)
    if channel is Channel.ASSET:
        updates = records.view(UPDATE_EVENT)
        is_own |= (records["kind"] == EventKind.BALANCE_UPDATE) & (updates["user_id"] == user_id)
    found: Records = records[np.flatnonzero(is_own)]
    return found
