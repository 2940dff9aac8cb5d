"""One client's session, without a socket: a message in, what is to be done about it out (CONTRACT 5.2, 5.3).

The session knows who the client is and what it has subscribed to, and changes nothing but itself. Whoever owns it
does what it says: sends the reply, asks a backend, has a token checked, registers topics (gateways/ws/desk.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from bus import jsontext, text
from bus.calls import Outcome
from bus.codes import Code
from bus.methods import METHODS, Method
from bus.parameters import PAGE_MAX
from gateways.ws.topics import PRIVATE, Channel, Topic

NAME_MAX = 15  # bytes of a market, an asset or an interval (CONTRACT 5.3)
SOURCE_MAX = 31  # bytes of what server.auth remembers
SUCCESS = '{"status": "success"}'
AFTER = "after"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What subscriptions may name."""

    depth_limits: frozenset[int]
    depth_intervals: frozenset[Decimal]
    subscription_count_max: int


class Done(NamedTuple):
    """The request is answered."""

    outcome: Outcome


class Ask(NamedTuple):
    """A backend has the answer."""

    method: Method
    params: list[Any]
    is_public: bool  # the same for everybody: may be reused for a moment


class Now(NamedTuple):
    """The clock has the answer."""


class Token(NamedTuple):
    """Somebody else has to say who the client is: `auth_url`."""

    token: str


class Signature(NamedTuple):
    """The same of a signature: `sign_url`."""

    access_id: str
    authorisation: str
    tonce: int


class Change(NamedTuple):
    """The client's topics of a channel are to be these."""

    outcome: Outcome
    channel: Channel
    topics: frozenset[Topic]
    told: tuple[Topic, ...] = ()  # of which it gets at once what is known


class Follow(NamedTuple):
    """The same for one's own orders or balances, with numbers: what came after event `after` comes first."""

    channel: Channel
    topics: frozenset[Topic]
    after: int | None


Todo = Done | Ask | Now | Token | Signature | Change | Follow
_NOTHING: frozenset[Topic] = frozenset()
_REFUSED = Done(Code.INVALID_ARGUMENT)
_UNKNOWN = Done(Code.METHOD_NOT_FOUND)
_STRANGER = Done(Code.REQUIRE_AUTHENTICATION)


@dataclass(slots=True)
class Session:
    """Who it is and what it follows. `user_id` 0 is nobody."""

    rules: Rules
    user_id: int = 0
    topics: dict[Channel, frozenset[Topic]] = field(default_factory=dict)
    numbered: set[Channel] = field(default_factory=set)  # whose notifications carry the number of their event

    def take(self, message: bytes) -> tuple[int | None, Todo]:
        """A request's id, None if it has none, and what is to be done about it."""
        try:
            request = jsontext.parse(message)
        except jsontext.BadJson:
            return None, _REFUSED
        if type(request) is not dict:
            return None, _REFUSED
        request_id, name, params = request.get("id"), request.get("method"), request.get("params")
        if type(request_id) is not int:
            return None, _REFUSED
        if type(name) is not str or type(params) is not list:
            return request_id, _REFUSED
        known = SESSION_METHODS.get(name)
        if known is None:
            return request_id, _UNKNOWN
        if known.is_private and not self.user_id:
            return request_id, _STRANGER
        return request_id, known.take(self, params)

    def become(self, user_id: int) -> bool:
        """The client has shown that it is this user; whether what it followed as another must end."""
        is_other = self.user_id not in (0, user_id)
        self.user_id = user_id
        return is_other

    def names(self, channel: Channel) -> set[str]:
        """The markets or assets that it follows on a channel."""
        return {topic.name for topic in self.topics.get(channel, _NOTHING)}

    def keep(self, channel: Channel, topics: frozenset[Topic], *, is_numbered: bool = False) -> None:
        """It follows these now."""
        self.topics[channel] = topics
        if is_numbered:
            self.numbered.add(channel)
        else:
            self.numbered.discard(channel)

    def has_room(self, channel: Channel, topics: frozenset[Topic]) -> bool:
        """Whether it may follow so many."""
        others_count = sum(len(held) for other, held in self.topics.items() if other is not channel)
        return others_count + len(topics) <= self.rules.subscription_count_max

    def _change(self, channel: Channel, topics: frozenset[Topic], told: tuple[Topic, ...]) -> Todo:
        if not self.has_room(channel, topics):
            return Done(Code.TOO_MANY_SUBSCRIPTIONS)
        return Change(SUCCESS, channel, topics, told)

    def auth(self, params: list[Any]) -> Todo:
        """server.auth [token, source]"""
        if len(params) != 2 or not _are_texts(*params) or len(params[1].encode()) > SOURCE_MAX:
            return _REFUSED
        return Token(params[0]) if _is_header(params[0]) else _REFUSED

    def sign(self, params: list[Any]) -> Todo:
        """server.sign [access_id, authorisation, tonce]"""
        if len(params) != 3 or not _are_texts(*params[:2]) or type(params[2]) is not int or not params[2]:
            return _REFUSED
        return Signature(*params) if _is_header(params[1]) else _REFUSED

    def subscribe_kline(self, params: list[Any]) -> Todo:
        """kline.subscribe [market, interval]: in place of the one before"""
        if len(params) != 2 or not _is_name(params[0]) or type(params[1]) is not int or params[1] <= 0:
            return _REFUSED
        topics = frozenset({Topic(Channel.KLINE, params[0], interval=str(params[1]))})
        return self._change(Channel.KLINE, topics, ())

    def subscribe_depth(self, params: list[Any]) -> Todo:
        """depth.subscribe [market, limit, interval]: in place of the one before, which ends even if this is refused"""
        if len(params) != 3 or not _is_name(params[0]) or type(params[1]) is not int or params[1] <= 0:
            return _REFUSED
        market, limit, interval = params
        if not _is_name(interval):
            return _REFUSED
        if limit not in self.rules.depth_limits or number(interval) not in self.rules.depth_intervals:
            return Change(Code.INVALID_ARGUMENT, Channel.DEPTH, _NOTHING)
        topic = Topic(Channel.DEPTH, market, limit, interval)
        return self._change(Channel.DEPTH, frozenset({topic}), (topic,))

    def subscribe_book(self, params: list[Any]) -> Todo:
        """book.subscribe [market, limit]: beside those of other markets"""
        if len(params) != 2 or not _is_name(params[0]) or type(params[1]) is not int or not 0 < params[1] < PAGE_MAX:
            return _REFUSED
        topic = Topic(Channel.BOOK, *params)
        others = {held for held in self.topics.get(Channel.BOOK, _NOTHING) if held.name != topic.name}
        return self._change(Channel.BOOK, frozenset(others | {topic}), (topic,))

    def unsubscribe_book(self, params: list[Any]) -> Todo:
        """book.unsubscribe [market...]: those, or all"""
        held = self.topics.get(Channel.BOOK, _NOTHING)
        ended = {name for name in params if type(name) is str}
        return Change(SUCCESS, Channel.BOOK, frozenset(topic for topic in held if params and topic.name not in ended))

    def subscribe(self, channel: Channel, params: list[Any]) -> Todo:
        """NAME.subscribe [market...] for several at once: in place of those before; up to the first bad one they
        are followed though the request is refused (CONTRACT 5.3)
        """
        good = next((place for place, name in enumerate(params) if not _is_name(name)), len(params))
        topics = tuple(dict.fromkeys(Topic(channel, name) for name in params[:good]))
        if good < len(params):
            whole = frozenset(topics)
            return Change(Code.INVALID_ARGUMENT, channel, whole) if self.has_room(channel, whole) else _REFUSED
        return self._change(channel, frozenset(topics), topics)

    def follow(self, channel: Channel, params: list[Any]) -> Todo:
        """order.subscribe [market...], asset.subscribe [asset...]; with {"after": number} at the end, see Follow"""
        if not params or type(params[-1]) is not dict:
            return self.subscribe(channel, params)
        *names, options = params
        after = options.get(AFTER)
        is_number = after is None or (type(after) is int and after >= 0)
        if not is_number or not options.keys() <= {AFTER} or not all(map(_is_name, names)):
            return _REFUSED
        topics = frozenset(Topic(channel, name) for name in names)
        if not self.has_room(channel, topics):
            return Done(Code.TOO_MANY_SUBSCRIPTIONS)
        return Follow(channel, topics, after)

    def own(self, method: Method, size: int | None, params: list[Any]) -> Todo:
        """A question about the user's own things, in which the user comes first; `size` is that of `params`."""
        if size is not None and len(params) != size:
            return _REFUSED
        return Ask(method, [self.user_id, *params], is_public=False)


@dataclass(frozen=True, kw_only=True)
class SessionMethod:
    """A method of the gateway: `params` and `about` are for readers."""

    take: Callable[[Session, list[Any]], Todo]
    params: str = ""
    about: str = ""
    is_private: bool = False  # needs server.auth or server.sign before


def number(written: str) -> Decimal | None:
    """What an interval is, whichever way it is written; None if it is no number."""
    return None if text.parse(written, 0) is None else Decimal(written)


def id_of(message: bytes) -> int | None:
    """The id of a request that is not looked at any closer."""
    try:
        request = jsontext.parse(message)
    except jsontext.BadJson:
        return None
    request_id = request.get("id") if type(request) is dict else None
    return request_id if type(request_id) is int else None


def _are_texts(*values: Any) -> bool:
    return all(type(value) is str for value in values)


def _is_name(value: Any) -> bool:
    return type(value) is str and len(value.encode(errors="replace")) <= NAME_MAX


def _is_header(value: str) -> bool:
    """Whether a value can stand in a header: no line ends, which would begin another one (CONTRACT 10.5 W9)."""
    return value.isprintable() and value.isascii()


def _public(name: str, about: str = "") -> SessionMethod:
    method = METHODS[name]
    params = ", ".join(each for each, _ in method.parameters)
    return SessionMethod(
        take=lambda _, params: Ask(method, params, is_public=True),
        params=params,
        about=f"As {name}. {about or method.about}",
    )


def _own(name: str, params: str, size: int | None) -> SessionMethod:
    method = METHODS[name]
    return SessionMethod(
        take=lambda session, params: session.own(method, size, params),
        params=params,
        about=f"As {name}. {method.about}",
        is_private=True,
    )


def _several(channel: Channel, about: str) -> SessionMethod:
    return SessionMethod(
        take=lambda session, params: session.subscribe(channel, params), params="market...", about=about
    )


def _followed(channel: Channel, params: str, about: str) -> SessionMethod:
    return SessionMethod(
        take=lambda session, params: session.follow(channel, params), params=params, about=about, is_private=True
    )


def _ended(channel: Channel) -> SessionMethod:
    return SessionMethod(
        take=lambda _, params: Change(SUCCESS, channel, _NOTHING),
        params="",
        about="Ends all of that kind.",
        is_private=channel in PRIVATE,
    )


SESSION_METHODS: dict[str, SessionMethod] = {
    "server.ping": SessionMethod(take=lambda _, params: Done('"pong"'), about='Answers "pong".'),
    "server.time": SessionMethod(take=lambda _, params: Now(), about="The time, in whole seconds since 1970."),
    "server.auth": SessionMethod(take=Session.auth, params="token, source", about="Says who you are, by a token."),
    "server.sign": SessionMethod(
        take=Session.sign, params="access_id, authorisation, tonce", about="Says who you are, by a signature."
    ),
    "kline.query": _public("market.kline"),
    "price.query": _public("market.last"),
    "state.query": _public("market.status"),
    "today.query": _public("market.status_today"),
    "deals.query": _public("market.deals"),
    "depth.query": _public("order.depth", "Prices and amounts of both sides, best first."),
    "order.query": _own("order.pending", "market, offset, limit", 3),
    "order.history": _own("order.finished", "market, start_time, end_time, offset, limit, side", 6),
    "asset.query": _own("balance.query", "asset...", None),
    "asset.history": _own("balance.history", "asset, business, start_time, end_time, offset, limit", 6),
    "kline.subscribe": SessionMethod(
        take=Session.subscribe_kline, params="market, interval", about="The k-line of one market, in seconds."
    ),
    "price.subscribe": _several(Channel.PRICE, "Last prices."),
    "state.subscribe": _several(Channel.STATE, "What happened in the last 24 hours."),
    "today.subscribe": _several(Channel.TODAY, "What happened today."),
    "deals.subscribe": _several(Channel.DEALS, "Deals, each once; first the newest 100."),
    "depth.subscribe": SessionMethod(
        take=Session.subscribe_depth,
        params="market, limit, interval",
        about="The depth of one market: first all of it, then what changes.",
    ),
    "book.subscribe": SessionMethod(
        take=Session.subscribe_book,
        params="market, limit",
        about="The depth of a market with sequence numbers and checksums; several markets if you like.",
    ),
    "order.subscribe": _followed(Channel.ORDER, "market..., {after}", "Your orders."),
    "asset.subscribe": _followed(Channel.ASSET, "asset..., {after}", "Your balances."),
    **{f"{channel}.unsubscribe": _ended(channel) for channel in Channel if channel is not Channel.BOOK},
    "book.unsubscribe": SessionMethod(
        take=Session.unsubscribe_book, params="market...", about="Ends those named, or all."
    ),
}
