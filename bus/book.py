"""A market's book as the feed `book.update` tells it: a snapshot, then deltas, each with the checksum of what it makes.

A delta says which message it continues, so a lost or repeated one is noticed with the next. The checksum is of the
best levels only: it finds an error of the server or of this module, not one further down. Whatever is wrong, the book
is worth nothing from there on and takes nothing but a snapshot.

No socket and no clock here: bus/bookclient.py asks for the book and for another one when it is out of step.
"""

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NoReturn
from zlib import crc32

TOP_COUNT = 10  # levels of each side that the checksum is of

Level = tuple[str, str]  # price, amount: the texts that were sent


class OutOfStep(Exception):
    """The update does not continue the book, or has made another one than the server's. Only a snapshot helps."""


def checksum(asks: Sequence[Sequence[str]], bids: Sequence[Sequence[str]]) -> int:
    """CRC-32 of "price:amount,price:amount,...": the best asks, then the best bids, each best first; 0 for none."""
    levels = [*asks[:TOP_COUNT], *bids[:TOP_COUNT]]
    return crc32(",".join([f"{price}:{amount}" for price, amount in levels]).encode("ascii"))


class Book:
    """The levels of one market after the last update."""

    def __init__(self) -> None:
        self.sequence: int | None = None  # the last event that is in the book; None: there is no book
        self._asks, self._bids = _Side(is_bid=False), _Side(is_bid=True)

    @property
    def asks(self) -> list[Level]:
        """Price and amount, the lowest price first. Empty without a book."""
        return [] if self.sequence is None else self._asks.levels.copy()

    @property
    def bids(self) -> list[Level]:
        """Price and amount, the highest price first. Empty without a book."""
        return [] if self.sequence is None else self._bids.levels.copy()

    def apply(self, update: dict[str, Any]) -> None:
        """Take the object of a book.update. Raises OutOfStep; KeyError, ValueError, ArithmeticError: it is none.

        After any of them there is no book until a snapshot comes.
        """
        known, self.sequence = self.sequence, None  # whatever fails below, half a book is never seen
        if update["type"] == "snapshot":
            self._asks, self._bids = _Side(is_bid=False), _Side(is_bid=True)
        else:
            _check_continues(known, update)
        self._asks.change(update["asks"])
        self._bids.change(update["bids"])
        made = checksum(self._asks.levels, self._bids.levels)
        if made != update["checksum"]:
            _refuse(update, f"with checksum {update['checksum']} expected, it makes a book with {made}")
        self.sequence = update["sequence"]

    def clear(self) -> None:
        """Forget the book: only a snapshot is taken next."""
        self.sequence = None


def _check_continues(known: int | None, update: dict[str, Any]) -> None:
    """Raises OutOfStep."""
    previous = update["previous_sequence"]
    if known is None:
        _refuse(update, f"a snapshot expected, it continues {previous}")
    if previous != known:
        _refuse(update, f"one that continues {known} expected, it continues {previous}")


def _refuse(update: dict[str, Any], reason: str) -> NoReturn:
    raise OutOfStep(f"{update['type']} {update['sequence']}: {reason}")


class _Side:
    """The levels of one side, best first, and beside them what orders them."""

    def __init__(self, *, is_bid: bool) -> None:
        self.levels: list[Level] = []
        self._keys: list[Decimal] = []  # ascending: of bids the negated prices
        self._is_bid = is_bid

    def change(self, levels: Sequence[Sequence[str]]) -> None:
        """Set each level, or remove it where its amount is zero."""
        for price, amount in levels:
            key = Decimal(price)
            if self._is_bid:
                key = key.copy_negate()  # a minus would round to the context's precision
            index = bisect_left(self._keys, key)
            if index < len(self._keys) and self._keys[index] == key:
                del self._keys[index], self.levels[index]
            if Decimal(amount):
                self._keys.insert(index, key)
                self.levels.insert(index, (price, amount))
