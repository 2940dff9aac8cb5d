"""Who follows what, and the loops that tell them: one for each public channel, one that sends.

A channel's topics that may have changed are looked at together, as soon as something happens but not again before the
channel's interval is over. So what happens in between is told once, as it is in the end. Messages gather at the
clients and leave together. One's own orders and balances do not come this way (gateways/ws/events.py).
"""

from collections.abc import Iterable
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from bus.catalog import Market
from conf.settings import Ws
from gateways.link import NotConnected, TimedOut
from gateways.turns import give_way
from gateways.ws.feeds import KINDS, Behind, Busy, Deal, Feed, Source
from gateways.ws.frames import Message
from gateways.ws.metrics import Metrics
from gateways.ws.session import Session
from gateways.ws.topics import CONFLATED, PRIVATE, Channel, Topic

ASKED_AT_ONCE_MAX = 32  # questions to market data of one channel
AGAIN_S = 0.01  # after which a backend is asked again that was behind
RETRY_S = 0.25  # or that did not answer
POLL_S = 1.0  # how often it is seen what has changed with time alone
SENT_AT_ONCE_MAX = 128  # clients, before others have their turn
_IMMEDIATE = {Channel.DEALS: 0.0}
_OF_MEMORY = (Channel.DEPTH, Channel.BOOK)  # the matcher's
_OF_DEALS = (Channel.PRICE, Channel.DEALS)  # made from the deals of events


class Follower(Protocol):
    """A client, as the publisher knows it."""

    session: Session
    out: list[bytes]  # frames that the next `flush` sends
    takes_plain: bool  # frames as they are, not compressed
    held: dict[Topic, None]  # conflated topics that it was too slow for, to be told when it has caught up

    @property
    def is_behind(self) -> bool:
        """Whether messages wait for it to read."""
        ...

    def push(self, message: Message) -> None:
        """Have a message sent with the next `flush`."""
        ...

    def flush(self) -> None:
        """Send what is in `out`."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        ...


class _Lane:
    """A channel's topics that are to be looked at, and when."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.feeds: dict[Feed, None] = {}  # to be looked at when the interval is over
        self.urgent: dict[Feed, None] = {}  # at once: they have told nothing yet, or were not answered
        self.due_s = 0.0
        self.wake = Event()
        self.asked: dict[Feed, bool] = {}  # those that wait for an answer; whether they are to be looked at again then
        self.turns = BoundedSemaphore(ASKED_AT_ONCE_MAX)

    def add(self, feed: Feed, *, is_urgent: bool = False) -> None:
        """Look at a feed when it is time."""
        (self.urgent if is_urgent else self.feeds)[feed] = None
        self.wake.set()

    def remove(self, feed: Feed) -> None:
        """Nobody follows it any more."""
        self.feeds.pop(feed, None)
        self.urgent.pop(feed, None)

    def take(self, now_s: float) -> dict[Feed, None]:
        """Those for which it is time."""
        feeds, self.urgent = self.urgent, {}
        if now_s >= self.due_s:
            feeds |= self.feeds
            self.feeds = {}
            if feeds:
                self.due_s = now_s + self.interval_s
        return feeds

    def wait(self, now_s: float) -> None:
        """Until there may be some."""
        self.wake.wait(max(0.0, self.due_s - now_s) if self.feeds else None)
        self.wake.clear()


class Publisher:
    """All topics that are followed here. `event_number` and `is_informed` are kept by whoever takes events."""

    def __init__(self, settings: Ws, source: Source, metrics: Metrics) -> None:
        self.event_number = 0
        self.is_informed = True  # whether events come, and it is known up to which they have
        self.users: dict[int, dict[Follower, None]] = {}  # those who follow their orders or balances
        self._source = source
        self._metrics = metrics
        self._feeds: dict[Topic, Feed] = {}
        self._followers: dict[Topic, dict[Follower, None]] = {}
        self._of_market: dict[str, dict[Feed, None]] = {}
        self._lanes = {
            channel: _Lane(_IMMEDIATE.get(channel, getattr(settings, f"{channel}_interval_ms", 0) / 1000))
            for channel in KINDS
        }
        self._unsent: dict[Follower, None] = {}
        self._sending = Event()
        self._greenlets: list[Any] = []

    def start(self) -> None:
        """Begin the loops."""
        loops = [gevent.spawn(self._run, channel, lane) for channel, lane in self._lanes.items()]
        self._greenlets = [*loops, gevent.spawn(self._send), gevent.spawn(self._poll)]

    def check(self) -> None:
        """See that all loops go on. Raises what ended one."""
        for greenlet in self._greenlets:
            if greenlet.exception is not None:
                raise greenlet.exception

    def stop(self) -> None:
        """End the loops."""
        gevent.killall(self._greenlets)

    def change(
        self,
        follower: Follower,
        channel: Channel,
        topics: frozenset[Topic],
        told: Iterable[Topic] = (),
        *,
        is_numbered: bool = False,
    ) -> None:
        """Let a client follow these topics of a channel instead of those that it did; push what is `told` at once."""
        before = follower.session.topics.get(channel, frozenset())
        follower.session.keep(channel, topics, is_numbered=is_numbered)
        for topic in topics - before:
            self._add(follower, topic)
        for topic in before - topics:
            self._remove(follower, topic)
        if channel in PRIVATE:
            self._know_user(follower)
            return
        for topic in told:
            self._push(follower, self._feeds[topic].told())

    def end_private(self, follower: Follower, user_id: int) -> None:
        """The client is no longer this user."""
        for channel in PRIVATE:
            self.change(follower, channel, frozenset())
        self._forget_user(follower, user_id)

    def forget(self, follower: Follower) -> None:
        """The client has gone."""
        for topics in follower.session.topics.values():
            for topic in topics:
                self._remove(follower, topic)
        follower.session.topics.clear()
        self._forget_user(follower, follower.session.user_id)
        self._unsent.pop(follower, None)

    def catch_up(self, follower: Follower) -> None:
        """Tell a client that has caught up what it was too slow for."""
        held, follower.held = follower.held, {}
        for topic in held:
            if topic in follower.session.topics.get(topic.channel, ()):
                self._push(follower, self._feeds[topic].newest())
        follower.flush()

    def touch(self, market: str, deals: Iterable[tuple[Deal, Market]] = ()) -> None:
        """Something has happened in a market: look at all that is followed of it."""
        feeds = self._of_market.get(market)
        if not feeds:
            return
        deals = list(deals)
        for feed in feeds:
            channel = feed.topic.channel
            if channel in _OF_DEALS:  # of market data it needs what was before it
                if self.event_number > feed.known_number:
                    for deal, listed in deals:
                        feed.take(deal, listed)
            else:
                feed.needed_number = self.event_number
            if deals or channel in (Channel.DEPTH, Channel.BOOK):
                self._lanes[channel].add(feed)

    def skip(self) -> None:
        """Events are lost: look at everything anew."""
        for topic, feed in self._feeds.items():
            feed.needed_number = self.event_number
            feed.skip()
            self._lanes[topic.channel].add(feed)

    def follows_market(self, market: str) -> bool:
        """Whether anything of a market is followed."""
        return market in self._of_market

    def private_followers(self) -> list[Follower]:
        """Everybody who follows orders or balances."""
        return list(dict.fromkeys(follower for followers in self.users.values() for follower in followers))

    def _add(self, follower: Follower, topic: Topic) -> None:
        if topic.channel in PRIVATE:
            return
        if topic not in self._feeds:
            feed = KINDS[topic.channel](topic, self._source, self.event_number)
            self._feeds[topic] = feed
            self._followers[topic] = {}
            self._of_market.setdefault(topic.name, {})[feed] = None
            self._lanes[topic.channel].add(feed, is_urgent=True)
            self._metrics.topics.inc()
        self._followers[topic][follower] = None

    def _remove(self, follower: Follower, topic: Topic) -> None:
        follower.held.pop(topic, None)
        if topic.channel in PRIVATE:
            return
        followers = self._followers[topic]
        followers.pop(follower, None)
        if followers:
            return
        feed = self._feeds.pop(topic)
        del self._followers[topic]
        feeds = self._of_market[topic.name]
        del feeds[feed]
        if not feeds:
            del self._of_market[topic.name]
        self._lanes[topic.channel].remove(feed)
        self._metrics.topics.dec()

    def _know_user(self, follower: Follower) -> None:
        session = follower.session
        if any(session.topics.get(channel) for channel in PRIVATE):
            self.users.setdefault(session.user_id, {})[follower] = None
        else:
            self._forget_user(follower, session.user_id)

    def _forget_user(self, follower: Follower, user_id: int) -> None:
        followers = self.users.get(user_id, {})
        followers.pop(follower, None)
        if not followers:
            self.users.pop(user_id, None)

    def _run(self, channel: Channel, lane: _Lane) -> None:
        """The loop of a channel."""
        while True:
            lane.wait(monotonic())
            for number, feed in enumerate(lane.take(monotonic()), 1):
                if channel in _OF_MEMORY or (channel in _OF_DEALS and feed.is_known):
                    self._refresh(feed, lane)
                elif feed in lane.asked:
                    lane.asked[feed] = True
                else:  # nobody else waits for the answer
                    lane.asked[feed] = False
                    gevent.spawn(self._ask, feed, lane)
                if number % ASKED_AT_ONCE_MAX == 0:
                    give_way()

    def _ask(self, feed: Feed, lane: _Lane) -> None:
        """Refresh a feed of market data, which may take a while."""
        try:
            with lane.turns:
                self._refresh(feed, lane)
        finally:
            is_wanted_again = lane.asked.pop(feed)
        if is_wanted_again and self._feeds.get(feed.topic) is feed:
            lane.add(feed)

    def _refresh(self, feed: Feed, lane: _Lane) -> None:
        """See whether a topic has changed, and tell its followers."""
        if self._feeds.get(feed.topic) is not feed:  # nobody follows it any more
            return
        feed.polled_s = monotonic()
        try:
            market = self._source.state.catalog().market_by_name.get(feed.topic.name)
            if market is None:
                return
            told = feed.refresh(market)
        except Behind:
            self._again(feed, lane, AGAIN_S)
            return
        except (NotConnected, TimedOut, Busy):
            self._again(feed, lane, RETRY_S)
            return
        if told and self._feeds.get(feed.topic) is feed:
            self._tell(feed.topic, told)
        if feed.is_behind and self._feeds.get(feed.topic) is feed:
            lane.add(feed)

    def _again(self, feed: Feed, lane: _Lane, pause_s: float) -> None:
        if self._feeds.get(feed.topic) is not feed:  # nobody follows it any more
            return
        gevent.spawn_later(pause_s, self._add_again, feed, lane)

    def _add_again(self, feed: Feed, lane: _Lane) -> None:
        if self._feeds.get(feed.topic) is feed:
            lane.add(feed, is_urgent=True)

    def _tell(self, topic: Topic, told: list[str]) -> None:
        followers = self._followers.get(topic)
        if not followers:
            return
        messages = [Message(text) for text in told]
        frames = [message.plain for message in messages]
        if topic.channel in CONFLATED and (behind := [each for each in followers if each.is_behind]):
            for follower in behind:
                follower.held[topic] = None
            self._metrics.conflated.inc(len(behind))
            followers = dict.fromkeys(each for each in followers if not each.is_behind)
        for follower in followers:  # what it costs to tell one of thousands is what this process can do
            if follower.takes_plain:
                follower.out += frames
            else:
                for message in messages:
                    follower.push(message)
        self._unsent.update(followers)
        self._metrics.sent.inc(len(followers) * len(messages))
        self._metrics.sent_size.inc(len(followers) * sum(map(len, messages)))
        self._sending.set()

    def _push(self, follower: Follower, told: list[str]) -> None:
        for text in told:
            follower.push(Message(text))
        self._metrics.sent.inc(len(told))
        self._metrics.sent_size.inc(sum(map(len, told)))
        self._unsent[follower] = None
        self._sending.set()

    def _send(self) -> None:
        """The loop that sends what has gathered."""
        while True:
            self._sending.wait()
            self._sending.clear()
            unsent, self._unsent = self._unsent, {}
            for number, follower in enumerate(unsent, 1):
                follower.flush()
                if number % SENT_AT_ONCE_MAX == 0:
                    give_way()

    def _poll(self) -> None:
        """The loop that sees what changes with time."""
        while True:
            gevent.sleep(POLL_S)
            now_s = monotonic()
            for topic, feed in self._feeds.items():
                if now_s >= feed.polled_s + feed.poll_s:
                    self._lanes[topic.channel].add(feed)
