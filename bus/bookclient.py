"""The reference client of the WebSocket's depth feed: the exact book of a market, after each update.

    from websockets.sync.client import connect

    follower = Follower("BTCUSD", limit=100)
    with connect("ws://127.0.0.1:8090") as socket:
        for book in follow(socket.send, socket.recv, follower):
            print(book.sequence, book.asks[:1], book.bids[:1], follower.resync_count)

A connection gives its frames in order, so a book that is out of step is put right by asking for it again: what comes
before the new snapshot is of the old subscription and is passed over. Three rules keep that from going wrong:

* A snapshot is always taken, whichever subscription it is of: what comes after it continues it, or is noticed.
* Without a book, deltas are passed over. None of them makes the client ask again while its request is not answered:
  any number of them may have been under way.
* Requests, replies and snapshots may be lost like anything else (but for the first request of a connection: without
  it nothing ever comes), and a snapshot may be wrong. So a delta that still finds no book RETRY_MS after the reply, or
  UNANSWERED_MS after a request without one, makes the client ask again; no server is asked more often than that,
  however wrong its books are.

`Follower` has the rules and neither socket nor clock: hand one each message of an asyncio client, or several, one a
market, those of one connection. `follow` is the loop for one market and blocking calls. When the last message before
a silence is lost, only the next one shows it.
"""

import json
import time
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import count
from typing import Any

from bus.book import Book, OutOfStep

SUBSCRIBE = "book.subscribe"
UPDATE = "book.update"

RETRY_MS = 1_000  # from a reply on, the snapshot must come, and is not asked for again
UNANSWERED_MS = 10_000  # the same from a request on that has no reply

NO_ID = -1  # of a request


class Refused(Exception):
    """The exchange does not give this book."""

    def __init__(self, market: str, code: int, message: str) -> None:
        super().__init__(f"{SUBSCRIBE} of {market} is refused: {message} (code {code})")
        self.code = code


class Step(Enum):
    """What a message was."""

    TAKEN = "an update: the book is new"
    ASK = "a sign that there is no book: send what `ask` gives"
    PASS = "nothing to act on"


class Follower:
    """One market's book on one connection after another, a message at a time."""

    def __init__(self, market: str, limit: int, ids: Iterator[int] | None = None) -> None:
        """`ids` are for the requests, from 0 up: share them among all who send on the connection."""
        self.market = market
        self.limit = limit
        self.book = Book()
        self.resync_count = 0  # how often `take` said ASK
        self._ids = count(1) if ids is None else ids
        self._asked_id = NO_ID
        self._ask_again_ms = 0  # not before then

    def ask(self, now_ms: int) -> dict[str, Any]:
        """The request to send: at the start of a connection, and when `take` says so."""
        self.book.clear()
        self._asked_id = next(self._ids)
        self._ask_again_ms = now_ms + UNANSWERED_MS
        return {"id": self._asked_id, "method": SUBSCRIBE, "params": [self.market, self.limit]}

    def take(self, message: dict[str, Any], now_ms: int) -> Step:
        """Look at the next message of the connection. Raises Refused, and what `Book.apply` raises for no update."""
        if message.get("method") == UPDATE:
            market, update = message["params"]
            return self._take_update(update, now_ms) if market == self.market else Step.PASS
        if "method" not in message and message.get("id") == self._asked_id:
            self._take_reply(message, now_ms)
        return Step.PASS

    def _take_reply(self, reply: dict[str, Any], now_ms: int) -> None:
        if (error := reply["error"]) is not None:
            raise Refused(self.market, error["code"], error["message"])
        self._ask_again_ms = now_ms + RETRY_MS

    def _take_update(self, update: dict[str, Any], now_ms: int) -> Step:
        try:
            self.book.apply(update)
        except OutOfStep:
            if now_ms < self._ask_again_ms:
                return Step.PASS
            self.resync_count += 1
            return Step.ASK
        return Step.TAKEN


def monotonic_ms() -> int:
    """The clock of `follow`."""
    return time.monotonic_ns() // 1_000_000


def follow(
    send: Callable[[str], object],
    receive: Callable[[], str | bytes],
    follower: Follower,
    clock_ms: Callable[[], int] = monotonic_ms,
) -> Iterator[Book]:
    """Subscribe, then yield the book after each update: always the same object, `follower.book`.

    Raises Refused, and whatever `send` and `receive` raise: on the next connection, follow with the same follower.
    """
    send(json.dumps(follower.ask(clock_ms())))
    while True:
        step = follower.take(json.loads(receive()), clock_ms())
        if step is Step.TAKEN:
            yield follower.book
        elif step is Step.ASK:
            send(json.dumps(follower.ask(clock_ms())))
