"""What the subscribers of a topic get: one feed for each topic that somebody follows (CONTRACT 5.4).

A feed remembers what it told last, tells a new subscriber that, and makes a message when something is different. It
asks its source and knows no client. `refresh` may wait for a backend; everything else is done at once.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bus import jsontext, text
from bus.calls import Outcome
from bus.catalog import Market
from bus.codes import Code
from bus.deals import deal_text
from bus.messages import QueryKind
from bus.methods import METHODS, Method
from bus.parameters import DEALS_MAX
from gateways.link import NotConnected, TimedOut
from gateways.state import State
from gateways.ws import depth
from gateways.ws.topics import Channel, Topic

CLEAN_S = 60.0  # after which a depth.update is a whole one again (CONTRACT 5.5)
DEALS_TOLD_COUNT = 100  # to a new subscriber
DEALS_AT_ONCE_MAX = 1_000  # in one message
KLINE_ROWS_MAX = 60  # in one message, when market data was away
STATUS_PERIOD_S = 86_400
BUSY_POLL_S = 1.0  # what changes with time alone does so with the second, as long as there were deals lately
QUIET_POLL_S = 60.0
SETTLE_S = 3.0  # so long after a deal it is still seen what changes with the second
BOOK_POLL_S = 5.0  # in case that a killed matcher had shown what it then did not keep
NEVER_S = float("inf")
_BUSY = (Code.SERVICE_UNAVAILABLE, Code.SERVICE_TIMEOUT, Code.INTERNAL_ERROR)  # another time it may answer
_NO_VOLUME = '"volume": "0"'

Answer = tuple[Outcome, int]  # of a backend, and the last event that it takes into account


class Deal(NamedTuple):
    """A deal, as far as market data tells of it."""

    number: int
    time: float
    price_units: int
    amount_units: int
    taker_side: int


class Source(NamedTuple):
    """What feeds are made from."""

    state: State
    ask_market: Callable[[Method, list[Any]], Answer]
    clock: Callable[[], float]  # seconds since 1970
    now: Callable[[], float]  # seconds that never jump
    kline_interval_s: float


class Feed(ABC):
    """One topic. `needed_number` is the last event that a message must take into account."""

    poll_s = NEVER_S  # after which it may have changed without an event

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        self.topic = topic
        self.needed_number = needed_number
        self.is_known = False  # whether it has anything to remember
        self.known_number = 0  # up to which market data has told it of deals
        self.polled_s = 0.0  # by whoever polls it
        self.is_behind = False  # whether what it told last does not take `needed_number` into account yet
        self._source = source

    def told(self) -> list[str]:
        """What a new subscriber gets at once."""
        return self.newest()

    @abstractmethod
    def newest(self) -> list[str]:
        """What brings a subscriber up to date that has missed messages."""

    @abstractmethod
    def refresh(self, market: Market) -> list[str]:
        """Look at the source; what all subscribers get. Raises NotConnected, TimedOut, Behind, Busy."""

    def take(self, deal: Deal, market: Market) -> None:  # noqa: B027  # most feeds ask for what deals make of it
        """A deal of its market has been made."""

    def skip(self) -> None:  # noqa: B027  # likewise
        """Deals may have been missed."""


class Behind(Exception):
    """The backend has not taken all events into account yet: ask it again."""


class Busy(Exception):
    """The backend can't answer now: ask it again, but not at once."""


class _Asking(Feed):
    """Feeds that market data answers."""

    answered_number = 0  # the last event that the last answer takes into account

    def _ask(self, name: str, *params: Any) -> tuple[str | None, bool]:
        """A result, or None when it is refused; and whether it takes into account what it must.

        Raises NotConnected, TimedOut, Busy.
        """
        outcome, self.answered_number = self._source.ask_market(METHODS[name], list(params))
        if outcome in _BUSY:
            raise Busy
        return outcome if isinstance(outcome, str) else None, self.answered_number >= self.needed_number


class PriceFeed(_Asking):
    """price.update; a price of 0 is none."""

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        super().__init__(topic, source, needed_number)
        self._units = 0
        self._told_units = 0
        self._market: Market | None = None

    def told(self) -> list[str]:
        """In the stripped form, other than every later one (CONTRACT 5.4)."""
        if self._market is None or not self._told_units:
            return []
        return [_update(self.topic, f'"{text.stripped(self._told_units, self._market.money_prec)}"')]

    def newest(self) -> list[str]:
        if self._market is None or not self._told_units:
            return []
        return [_update(self.topic, f'"{text.base(self._told_units, self._market.money_prec)}"')]

    def take(self, deal: Deal, market: Market) -> None:
        self._units = deal.price_units
        self.is_known = True

    def skip(self) -> None:
        self.is_known = False

    def refresh(self, market: Market) -> list[str]:
        self._market = market
        if not self.is_known:
            found, is_current = self._ask("market.last", market.name)
            if not self.is_known and found is not None and is_current:
                self._units = text.parse(found.strip('"'), market.money_prec) or 0
                self.is_known = True
                self.known_number = self.answered_number  # deals up to it would lead back in time
            elif not self.is_known:
                raise Behind
        if self._units == self._told_units:
            return []
        self._told_units = self._units
        return self.newest()


class DealsFeed(_Asking):
    """deals.update: every deal once, newest first in each message."""

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        super().__init__(topic, source, needed_number)
        self._newest: deque[str] = deque(maxlen=DEALS_TOLD_COUNT)  # newest first
        self._waiting: list[tuple[int, str]] = []  # oldest first
        self._told_id = 0  # market data may be ahead of the events: what it told does not come again

    def newest(self) -> list[str]:
        return [self._told(self._newest)] if self._newest else []

    def take(self, deal: Deal, market: Market) -> None:
        if deal.number > self._told_id:
            self._waiting.append((deal.number, deal_text(market, *deal)))

    def skip(self) -> None:
        self.is_known = False
        self._waiting.clear()

    def refresh(self, market: Market) -> list[str]:
        fresh = [] if self.is_known else self._before(market)  # oldest first
        fresh += self._waiting
        self._waiting = []
        if not fresh:
            return []
        self._told_id = fresh[-1][0]
        texts = [told for _, told in fresh]
        self._newest.extendleft(texts[-DEALS_TOLD_COUNT:])
        parts = (texts[start : start + DEALS_AT_ONCE_MAX] for start in range(0, len(texts), DEALS_AT_ONCE_MAX))
        return [self._told(reversed(part)) for part in parts]

    def _told(self, newest_first: Iterable[str]) -> str:
        return _update(self.topic, f"[{', '.join(newest_first)}]")

    def _before(self, market: Market) -> list[tuple[int, str]]:
        """Those before the ones that wait; none if market data is away, which must not hold these up."""
        count_max = DEALS_MAX if self._told_id else DEALS_TOLD_COUNT
        try:
            found, is_current = self._ask("market.deals", market.name, count_max, self._told_id)
        except (NotConnected, TimedOut):
            if not self._waiting or self._told_id:  # after a loss of events it must be asked
                raise
            found, is_current = "[]", True
        if found is None or not is_current:
            raise Behind
        self.is_known = True
        deals = [(each["id"], jsontext.dump(each)) for each in reversed(jsontext.parse(found.encode()))]
        if deals:  # it may have some of those that wait, and newer ones
            self._waiting = [waiting for waiting in self._waiting if waiting[0] > deals[-1][0]]
        return deals


class StatusFeed(_Asking):
    """state.update and today.update."""

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        super().__init__(topic, source, needed_number)
        self._text = ""
        self._seen_number = -1  # of the last event that it was to take into account
        self._settled_s = 0.0  # when what that changed is in the text: a deal is not, in the second that it is made in

    @property
    def poll_s(self) -> float:  # type: ignore[override]  # of the others it is a constant
        is_quiet = _NO_VOLUME in self._text and self._source.now() >= self._settled_s
        return QUIET_POLL_S if is_quiet else BUSY_POLL_S

    def newest(self) -> list[str]:
        return [_update(self.topic, self._text)] if self._text else []

    def refresh(self, market: Market) -> list[str]:
        if self.needed_number != self._seen_number:
            self._seen_number, self._settled_s = self.needed_number, self._source.now() + SETTLE_S
        if self.topic.channel is Channel.STATE:
            found, is_current = self._ask("market.status", market.name, STATUS_PERIOD_S)
        else:
            found, is_current = self._ask("market.status_today", market.name)
        is_new = found is not None and found != self._text
        if found is not None and is_new:
            self._text = found
            self.is_known = True
        if found is not None and not is_current and not is_new:
            raise Behind
        self.is_behind = found is not None and not is_current
        return self.newest() if is_new else []


class KlineFeed(_Asking):
    """kline.update: the newest rows, when the last of them has changed. A new subscriber waits for that."""

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        super().__init__(topic, source, needed_number)
        self._rows = ""
        self._last_row: list[Any] = []

    @property
    def poll_s(self) -> float:  # type: ignore[override]  # likewise
        """Until the next row begins."""
        if not self._last_row:
            return QUIET_POLL_S
        left_s: float = self._last_row[0] + int(self.topic.interval) - self._source.clock()
        return min(max(left_s, BUSY_POLL_S), QUIET_POLL_S)

    def told(self) -> list[str]:
        return []

    def newest(self) -> list[str]:
        return [f'{{"method": "kline.update", "params": {self._rows}, "id": null}}'] if self._rows else []

    def refresh(self, market: Market) -> list[str]:
        now = int(self._source.clock())
        start = now - int(self._source.kline_interval_s + 1)
        if self._last_row:  # the last state of that row, and what came after it, may not be told yet
            start = min(start, max(self._last_row[0], now - KLINE_ROWS_MAX * int(self.topic.interval)))
        found, is_current = self._ask("market.kline", market.name, start, now, int(self.topic.interval))
        rows = jsontext.parse(found.encode()) if found is not None else []
        is_new = bool(rows) and rows[-1] != self._last_row
        if found is not None and is_new:
            self._rows, self._last_row = found, rows[-1]
        if found is not None and not is_current and not is_new:
            raise Behind
        self.is_behind = found is not None and not is_current
        return self.newest() if is_new else []


class DepthFeed(Feed):
    """depth.update: all of it at first and once a minute, else what has changed (CONTRACT 5.5)."""

    poll_s = BOOK_POLL_S

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        super().__init__(topic, source, needed_number)
        self._sides = depth.EMPTY
        self._market: Market | None = None
        self._clean_s = 0.0  # when all of it was told

    def newest(self) -> list[str]:
        return [] if self._market is None else [depth.depth_update(self._market, self._sides)]

    def refresh(self, market: Market) -> list[str]:
        interval_units = text.parse(self.topic.interval, market.money_prec)
        before, after = self._sides, read_sides(self._source.state, market, self.topic.limit, interval_units or 0)
        now_s = self._source.now()
        if self._market is None:
            self._market, self.is_known = market, True
            told: str | None = depth.depth_update(market, after)
            self._clean_s = now_s
        else:
            told = depth.depth_change(market, before, after, self.topic.limit)
            if told is not None and now_s - self._clean_s >= CLEAN_S:
                told = depth.depth_update(market, after)
                self._clean_s = now_s
        if told is None:
            return []
        self._sides = after
        return [told]


class BookFeed(Feed):
    """book.update: a snapshot, then deltas that say which message they continue."""

    poll_s = BOOK_POLL_S

    def __init__(self, topic: Topic, source: Source, needed_number: int) -> None:
        super().__init__(topic, source, needed_number)
        self._sides = depth.EMPTY
        self._market: Market | None = None
        self._sequence = 0

    def newest(self) -> list[str]:
        return [] if self._market is None else [depth.book_snapshot(self._market, self._sides, self._sequence)]

    def refresh(self, market: Market) -> list[str]:
        number = self.needed_number  # memory is there already, or ahead
        before, after = self._sides, read_sides(self._source.state, market, self.topic.limit, 0)
        if self._market is None:
            self._market, self.is_known = market, True
            self._sides, self._sequence = after, number
            return self.newest()
        sequence = max(number, self._sequence + 1)
        told = depth.book_delta(market, before, after, sequence, self._sequence)
        if told is None:
            return []
        self._sides, self._sequence = after, sequence
        return [told]


def read_sides(state: State, market: Market, limit: int, interval_units: int) -> depth.Sides:
    """Both sides as they are now. Raises NotConnected, TimedOut."""
    found = state.answer(QueryKind.DEPTH, market=market.index, limit=limit, interval=interval_units)
    return depth.sides(found.records, found.total)


def _update(topic: Topic, told: str) -> str:
    return f'{{"method": "{topic.channel}.update", "params": [{jsontext.quoted(topic.name)}, {told}], "id": null}}'


KINDS: dict[Channel, type[Feed]] = {
    Channel.KLINE: KlineFeed,
    Channel.PRICE: PriceFeed,
    Channel.STATE: StatusFeed,
    Channel.TODAY: StatusFeed,
    Channel.DEALS: DealsFeed,
    Channel.DEPTH: DepthFeed,
    Channel.BOOK: BookFeed,
}
