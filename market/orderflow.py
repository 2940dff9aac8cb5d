"""Recorded rows to requests of our exchange: what to send, and in which order. Knows no socket and no clock.

Each exchange id becomes one user's order. What may be asked about an order depends on the reply to the request
before: a cancel names the id that *our* engine gave, and a filled order has nothing left to cancel. So an order has
one request in flight at most, and rows that come meanwhile wait behind it; other orders go on.

    row        order open here        order gone here (filled, refused, never seen)
    created    -                      put
    changed    cancel, then put       skipped
    deleted    cancel                 skipped
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.messages import CommandKind, Side
from market.bitstamp import Row

FIRST_USER_ID = 1001  # the users before it are left to people who try things by hand


class Request(NamedTuple):
    """One command for the exchange; a link writes it as a record or as JSON."""

    kind: int  # a CommandKind
    user_id: int
    exchange_id: str = ""
    side: int = 0
    price_units: int = 0
    amount_units: int = 0
    order_id: int = 0  # cancel: as our engine numbered it
    asset: str = ""  # balance update
    change_units: int = 0  # balance update: in 10^-prec_show
    business_id: int = 0  # balance update


class Reply(NamedTuple):
    """What came back for a request."""

    request: Request
    text: str  # "" is accepted, else why not
    order_id: int  # of a put
    is_open: bool  # a put order rests in the book
    has_traded: bool  # a put order traded on arrival
    latency_s: float


@dataclass(slots=True)
class _Order:
    """One order of the recording, as far as it has been played."""

    order_id: int = 0  # 0: not open
    replacement: Row | None = None  # to be put when the cancel in flight has worked
    is_in_flight: bool = False
    waiting: deque[Row] = field(default_factory=deque)


class Flow:
    """The recording as a queue of requests; give every reply back to `finish`."""

    def __init__(self, rows: Iterable[Row], user_count: int) -> None:
        self.skipped_count = 0
        self.row_count = 0
        self._rows = iter(rows)
        self._user_count = user_count
        self._orders: dict[str, _Order] = {}
        self._ready: deque[Request] = deque()
        self._next: Row | None = next(self._rows, None)

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to send, now or when its time comes."""
        return bool(self._ready) or self._next is not None

    @property
    def next_time_ms(self) -> int | None:
        """When the next row happened; None when all rows have been taken."""
        return self._next.time_ms if self._next else None

    def take(self, until_ms: float, count_max: int) -> list[Request]:
        """At most `count_max` requests that may be sent now, from rows up to `until_ms`."""
        requests: list[Request] = []
        while len(requests) < count_max:
            if self._ready:
                requests.append(self._ready.popleft())
            elif self._next is not None and self._next.time_ms <= until_ms:
                row, self._next = self._next, next(self._rows, None)
                self.row_count += 1
                if request := self._begin(row):
                    requests.append(request)
            else:
                break
        return requests

    def finish(self, reply: Reply) -> None:
        """Note how a request ended; what waited for it becomes ready."""
        request = reply.request
        order = self._orders[request.exchange_id]
        order.is_in_flight = False
        order.order_id = reply.order_id if reply.is_open else 0
        replacement, order.replacement = order.replacement, None
        if replacement and not reply.text:
            self._ready.append(self._put(order, replacement))
        while order.waiting and not order.is_in_flight:
            if following := self._follow(order, order.waiting.popleft()):
                self._ready.append(following)
        if not (order.is_in_flight or order.order_id or order.waiting):
            del self._orders[request.exchange_id]

    def _begin(self, row: Row) -> Request | None:
        order = self._orders.setdefault(row.exchange_id, _Order())
        if order.is_in_flight:
            order.waiting.append(row)
            return None
        request = self._follow(order, row)
        if request is None and not order.order_id:
            del self._orders[row.exchange_id]
        return request

    def _follow(self, order: _Order, row: Row) -> Request | None:
        if row.action == "created":
            return self._put(order, row)
        if not order.order_id:
            self.skipped_count += 1
            return None
        order.is_in_flight = True
        order.replacement = row if row.action == "changed" else None
        user_id = user_of(row.exchange_id, self._user_count)
        return Request(CommandKind.CANCEL, user_id, row.exchange_id, order_id=order.order_id)

    def _put(self, order: _Order, row: Row) -> Request:
        order.is_in_flight = True
        user_id = user_of(row.exchange_id, self._user_count)
        return Request(CommandKind.PUT_LIMIT, user_id, row.exchange_id, row.side, row.price_units, row.amount_units)


def user_of(exchange_id: str, user_count: int) -> int:
    """The user who plays an order: always the same one."""
    return FIRST_USER_ID + zlib.crc32(exchange_id.encode()) % user_count


def funding(
    rows: Iterable[Row],
    user_count: int,
    stock: tuple[str, int],
    money: tuple[str, int],
    precs: tuple[int, int],
    business_id: int,
) -> Iterator[Request]:
    """A balance update per user and asset, enough for every order of the recording to rest at once.

    `stock` and `money` are names and shown decimals of the assets, `precs` the decimals of amounts and prices.
    """
    needs: dict[tuple[int, str], int] = {}
    amount_prec, price_prec = precs
    for row in rows:
        user_id = user_of(row.exchange_id, user_count)
        if row.side == Side.ASK:
            (asset, show_prec), need, prec = stock, row.amount_units, amount_prec
        else:
            (asset, show_prec), need, prec = money, row.amount_units * row.price_units, amount_prec + price_prec
        needs[user_id, asset] = needs.get((user_id, asset), 0) + -(-need * 10**show_prec // 10**prec)
    for number, ((user_id, asset), change_units) in enumerate(sorted(needs.items())):
        request = Request(CommandKind.UPDATE_BALANCE, user_id, asset=asset, change_units=change_units)
        yield request._replace(business_id=business_id + number)
