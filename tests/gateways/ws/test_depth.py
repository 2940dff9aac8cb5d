"""Depth and books as they are told: CONTRACT 5.5's rules in tables; what a client makes of it is what the server has.

The other implementation here is plain: decimal text, sorted anew each time.
"""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.book import Book
from gateways.ws import depth
from gateways.ws.depth import EMPTY, Sides
from tests.gateways.making import CATALOG
from tests.gateways.ws.making import Side, level_records, window

BTCBCH, SATBCH = (CATALOG.market_by_name[name] for name in ("BTCBCH", "SATBCH"))
TOP_COUNT = 10
Pair = tuple[Decimal, Decimal]
Pairs = list[Pair]


def side(text: str) -> dict[int, int]:
    """ "3:1 5:2" as a side."""
    return {int(price): int(amount) for price, _, amount in (word.partition(":") for word in text.split())}


def told(levels: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{price}:{amount}" for price, amount in levels)


# With limit 3: a side of asks before, after, and what is told of it.
CHANGES = [
    ("the same", "1:1 2:2", "1:1 2:2", ""),
    ("an amount", "1:1 2:2 3:3", "1:1 2:5 3:3", "2:5"),
    ("a new level at the end", "1:1", "1:1 2:2", "2:2"),
    ("a new level in front", "2:2", "1:1 2:2", "1:1"),
    ("the best is gone", "1:1 2:2", "2:2", "1:0"),
    ("the last is gone, and the side is not full", "1:1 2:2 3:3", "1:1 2:2", "3:0"),
    ("all are gone", "1:1 2:2 3:3", "", "1:0 2:0 3:0"),
    ("all are new", "", "1:1 2:2 3:3", "1:1 2:2 3:3"),
    ("a level is pushed out of a full side", "1:1 2:2 3:3", "0:9 1:1 2:2", "0:9"),
    ("all are pushed out", "4:1 5:2 6:3", "1:1 2:2 3:3", "1:1 2:2 3:3"),
    ("one is gone, and one comes in from below", "1:1 2:2 3:3", "1:1 3:3 4:4", "2:0 4:4"),
    ("the last is gone, and another is last", "1:1 2:2 3:3", "1:1 2:2 4:4", "3:0 4:4"),
    ("everything at once, in the order of the book", "1:1 3:3 5:5", "2:2 3:4 6:6", "1:0 2:2 3:4 5:0 6:6"),
    ("pushed out, as the side is just full", "2:2 5:5", "1:1 2:2 3:3", "1:1 3:3"),
    ("gone between, though the side is full", "1:1 2:2 4:4", "1:1 3:3 4:4", "2:0 3:3"),
]


@pytest.mark.parametrize(("before", "after", "changes"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_is_told_of_a_side(before: str, after: str, changes: str) -> None:
    assert told(depth.changed(side(before), side(after), 3, is_ascending=True)) == changes
    before_bids, after_bids = ({-price: amount for price, amount in side(text).items()} for text in (before, after))
    bids = depth.changed(before_bids, after_bids, 3, is_ascending=False)
    assert told((-price, amount) for price, amount in bids) == changes


REPLACED = [
    ("1:1 2:2 3:3", "0:9 1:1 2:2", "0:9 3:0"),
    ("1:1 2:2 3:3", "1:1 2:5 4:4", "2:5 4:4 3:0"),
    ("1:1", "1:1", ""),
    ("1:1 2:2", "", "1:0 2:0"),
    ("", "1:1 2:2", "1:1 2:2"),
]


@pytest.mark.parametrize(("before", "after", "changes"), REPLACED)
def test_what_a_book_is_told_is_exact(before: str, after: str, changes: str) -> None:
    assert told(depth.replaced(side(before), side(after))) == changes


WHOLE = Sides({10_020_000_000: 180_000_000, 10_100_000_000: 1}, {9_950_000_000: 38_000_000})
MESSAGES = [
    (
        depth.depth_update(BTCBCH, WHOLE),
        '{"method": "depth.update", "params": [true, {"asks": [["100.2", "1.8"], ["101", "1e-8"]], '
        '"bids": [["99.5", "0.38"]]}, "BTCBCH"], "id": null}',
    ),
    (
        depth.depth_update(SATBCH, EMPTY),
        '{"method": "depth.update", "params": [true, {"asks": [], "bids": []}, "SATBCH"], "id": null}',
    ),
    (
        depth.depth_change(BTCBCH, EMPTY, WHOLE, 5),
        '{"method": "depth.update", "params": [false, {"asks": [["100.2", "1.8"], ["101", "1e-8"]], '
        '"bids": [["99.5", "0.38"]]}, "BTCBCH"], "id": null}',
    ),
    (
        depth.depth_change(BTCBCH, WHOLE, Sides(WHOLE.asks, {}), 5),
        '{"method": "depth.update", "params": [false, {"bids": [["99.5", "0"]]}, "BTCBCH"], "id": null}',
    ),
    (
        depth.depth_change(SATBCH, EMPTY, Sides({1: 150}, {}), 5),
        '{"method": "depth.update", "params": [false, {"asks": [["0.000001", "1.5"]]}, "SATBCH"], "id": null}',
    ),
    (depth.depth_change(BTCBCH, WHOLE, WHOLE, 5), None),
    (
        depth.book_snapshot(BTCBCH, WHOLE, 1234),
        '{"method": "book.update", "params": ["BTCBCH", {"type": "snapshot", "sequence": 1234, '
        '"asks": [["100.2", "1.8"], ["101", "1e-8"]], "bids": [["99.5", "0.38"]], '
        f'"checksum": {crc32(b"100.2:1.8,101:1e-8,99.5:0.38")}}}], "id": null}}',
    ),
    (
        depth.book_delta(BTCBCH, WHOLE, Sides({10_020_000_000: 1}, WHOLE.bids), 1240, 1234),
        '{"method": "book.update", "params": ["BTCBCH", {"type": "delta", "sequence": 1240, "previous_sequence": 1234, '
        f'"asks": [["100.2", "1e-8"], ["101", "0"]], "bids": [], "checksum": {crc32(b"100.2:1e-8,99.5:0.38")}}}], '
        '"id": null}',
    ),
    (
        depth.book_delta(SATBCH, Sides({1: 150}, {}), EMPTY, 2, 1),
        '{"method": "book.update", "params": ["SATBCH", {"type": "delta", "sequence": 2, "previous_sequence": 1, '
        '"asks": [["0.000001", "0"]], "bids": [], "checksum": 0}], "id": null}',
    ),
    (depth.book_delta(BTCBCH, WHOLE, WHOLE, 1240, 1234), None),
]


@pytest.mark.parametrize(("made", "text"), MESSAGES)
def test_messages(made: str | None, text: str | None) -> None:
    assert made == text


def test_sides_are_taken_from_records_however_large_amounts_are() -> None:
    asks, bids = {1: 10**18, 2: 1 << 64, 3: (1 << 63) - 1}, {9: 1 << 63, 8: 10**30, 7: 5}
    found = depth.sides(level_records([*asks.items(), *bids.items()]), 3)
    assert found == Sides(asks, bids)
    assert [*found.asks] == [1, 2, 3]
    assert [*found.bids] == [9, 8, 7]
    assert depth.sides(level_records([]), 0) == EMPTY


class PlainSide:
    """A client's side: decimals, sorted whenever it is looked at."""

    def __init__(self, *, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._levels: dict[Decimal, Decimal] = {}

    def change(self, levels: list[list[str]]) -> None:
        """Set each level, or remove it."""
        for price, amount in levels:
            if Decimal(amount) == 0:
                self._levels.pop(Decimal(price), None)
            else:
                self._levels[Decimal(price)] = Decimal(amount)

    def keep(self, limit: int) -> None:
        """Only the best."""
        self._levels = dict(self.levels[:limit])

    @property
    def levels(self) -> Pairs:
        """Best first."""
        return sorted(self._levels.items(), reverse=self._is_bid)


def exact(levels: Side) -> Pairs:
    """A side of BTCBCH in decimals."""
    return [(Decimal(price).scaleb(-8), Decimal(amount).scaleb(-8)) for price, amount in levels.items()]


def walked(old: Pairs, new: Pairs, limit: int, *, is_bid: bool) -> Pairs:
    """CONTRACT 5.5 word for word: both sides in the order of the book, one step after the other."""
    found: Pairs = []
    old, new, is_full = [*old], [*new], len(new) >= limit
    while old and new:
        if old[0][0] == new[0][0]:
            if old[0][1] != new[0][1]:
                found.append(new[0])
            del old[0], new[0]
        elif (old[0][0] < new[0][0]) != is_bid:
            found.append((old.pop(0)[0], Decimal(0)))
        else:
            found.append(new.pop(0))
    return found + new + ([] if is_full else [(price, Decimal(0)) for price, _ in old])


prices = st.integers(1, 12) | st.integers(1, 10**17)
whole_sides = st.dictionaries(prices, st.integers(1, 3) | st.integers(1, 1 << 70), max_size=8)
books = st.lists(st.tuples(whole_sides, whole_sides), min_size=1, max_size=8)


def windows(each: tuple[Side, Side], limit: int) -> Sides:
    return Sides(window(each[0], limit, is_bid=False), window(each[1], limit, is_bid=True))


def params(text: str) -> list[Any]:
    message = json.loads(text)
    assert message["id"] is None
    found: list[Any] = message["params"]
    return found


@settings(deadline=None)
@given(books, st.integers(1, 5))
def test_depth_makes_the_servers_window_of_whoever_keeps_the_best(seen: list[tuple[Side, Side]], limit: int) -> None:
    before = windows(seen[0], limit)
    asks, bids = PlainSide(is_bid=False), PlainSide(is_bid=True)
    _, first, _ = params(depth.depth_update(BTCBCH, before))
    asks.change(first["asks"])
    bids.change(first["bids"])
    for each in seen[1:]:
        after = windows(each, limit)
        change = depth.depth_change(BTCBCH, before, after, limit)
        assert (change is None) == (walked_both(before, after, limit) == {})
        if change is not None:
            is_whole, parts, name = params(change)
            assert (is_whole, name) == (False, "BTCBCH")
            assert [*parts] == [key for key in ("asks", "bids") if key in parts]
            read = {key: [(Decimal(price), Decimal(amount)) for price, amount in part] for key, part in parts.items()}
            assert read == walked_both(before, after, limit)
            for client, key in ((asks, "asks"), (bids, "bids")):
                client.change(parts.get(key, []))
                client.keep(limit)
        assert (asks.levels, bids.levels) == (exact(after.asks), exact(after.bids))
        before = after


def walked_both(before: Sides, after: Sides, limit: int) -> dict[str, Pairs]:
    """Only the sides that have changed."""
    found = {
        "asks": walked(exact(before.asks), exact(after.asks), limit, is_bid=False),
        "bids": walked(exact(before.bids), exact(after.bids), limit, is_bid=True),
    }
    return {key: pairs for key, pairs in found.items() if pairs}


@settings(deadline=None)
@given(books, st.integers(1, 12))
def test_a_book_is_the_servers_window_exactly(seen: list[tuple[Side, Side]], limit: int) -> None:
    before, sequence = windows(seen[0], limit), 5
    asks, bids, book = PlainSide(is_bid=False), PlainSide(is_bid=True), Book()
    updates = [depth.book_snapshot(BTCBCH, before, sequence)]
    for each in seen[1:]:
        after = windows(each, limit)
        delta = depth.book_delta(BTCBCH, before, after, sequence + 1, sequence)
        assert (delta is None) == (before == after)
        if delta is not None:
            sequence += 1
            updates.append(delta)
        before = after
    for number, text in enumerate(updates):
        name, update = params(text)
        assert (name, update["type"]) == ("BTCBCH", "delta" if number else "snapshot")
        assert update.get("previous_sequence", update["sequence"] - 1) == update["sequence"] - 1
        asks.change(update["asks"])
        bids.change(update["bids"])
        book.apply(update)
    assert (asks.levels, bids.levels) == (exact(before.asks), exact(before.bids))
    assert [len(book.asks), len(book.bids)] == [*map(len, before)]
    tops = ",".join(f"{price}:{amount}" for levels in (book.asks, book.bids) for price, amount in levels[:TOP_COUNT])
    assert params(updates[-1])[1]["checksum"] == crc32(tops.encode())
