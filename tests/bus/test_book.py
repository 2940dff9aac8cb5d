"""The book told as tables of updates, and against a plain book that is sorted anew each time."""

from decimal import Decimal, InvalidOperation, localcontext
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.book import TOP_COUNT, Book, OutOfStep, checksum

Levels = list[tuple[str, str]]


def levels(text: str) -> Levels:
    """ "100.2:1.8 101:2" as levels."""
    return [(price, amount) for price, _, amount in (word.partition(":") for word in text.split())]


def crc(text: str) -> int:
    """What the checksum is of, in plain sight."""
    return crc32(text.encode())


def snapshot(sequence: int, asks: str, bids: str, crc_text: str) -> dict[str, Any]:
    sides = {"asks": levels(asks), "bids": levels(bids)}
    return {"type": "snapshot", "sequence": sequence, "checksum": crc(crc_text), **sides}


def delta(previous: int, sequence: int, asks: str, bids: str, crc_text: str) -> dict[str, Any]:
    return snapshot(sequence, asks, bids, crc_text) | {"type": "delta", "previous_sequence": previous}


def book_of(*updates: dict[str, Any]) -> Book:
    book = Book()
    for update in updates:
        book.apply(update)
    return book


TEN = [(str(price), "1") for price in range(1, 11)]

CHECKSUMS = [
    ([], [], ""),
    ([("100.2", "1.8")], [], "100.2:1.8"),
    ([], [("99.5", "0.38")], "99.5:0.38"),
    ([("100.2", "1.8"), ("101", "2")], [("99.5", "1e-8")], "100.2:1.8,101:2,99.5:1e-8"),
    ([*TEN, ("11", "1")], [("0.5", "2")], "1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1,10:1,0.5:2"),
    ([("12", "3")], [*TEN[::-1], ("0.5", "2")], "12:3,10:1,9:1,8:1,7:1,6:1,5:1,4:1,3:1,2:1,1:1"),
]


@pytest.mark.parametrize(("asks", "bids", "text"), CHECKSUMS)
def test_checksum(asks: Levels, bids: Levels, text: str) -> None:
    assert checksum(asks, bids) == crc(text)
    assert checksum([list(level) for level in asks], tuple(bids)) == crc(text)


def test_checksum_is_a_number_that_others_have_too() -> None:
    assert TOP_COUNT == 10
    assert checksum([], []) == 0
    assert checksum([("123456789", "1")], []) == 0xA9750C64  # gzip says so, too


FIRST = snapshot(10, "100.2:1.8 101:2", "99.5:0.38 98:1", "100.2:1.8,101:2,99.5:0.38,98:1")

# After FIRST: what changes, and the book it makes.
CHANGES = [
    ("a level is set", "100.2:5", "", "100.2:5 101:2", "99.5:0.38 98:1"),
    ("a level is removed", "100.2:0", "", "101:2", "99.5:0.38 98:1"),
    ("a zero that shows its decimals removes, too", "100.2:0e-8", "98:0.00", "101:2", "99.5:0.38"),
    ("a better one enters", "100:1", "99.6:1", "100:1 100.2:1.8 101:2", "99.6:1 99.5:0.38 98:1"),
    ("a worse one enters", "1e3:1", "1e-8:1", "100.2:1.8 101:2 1e3:1", "99.5:0.38 98:1 1e-8:1"),
    ("one enters between", "100.9:1", "99:1", "100.2:1.8 100.9:1 101:2", "99.5:0.38 99:1 98:1"),
    ("by value, not by text", "1000:1 20e1:3", "9:1", "100.2:1.8 101:2 20e1:3 1000:1", "99.5:0.38 98:1 9:1"),
    ("one price, another text", "101.0:3", "98.0:0", "100.2:1.8 101.0:3", "99.5:0.38"),
    ("one leaves, one enters", "102:4 100.2:0", "97:1 99.5:0", "101:2 102:4", "98:1 97:1"),
    ("what is not there is removed", "500:0", "1:0", "100.2:1.8 101:2", "99.5:0.38 98:1"),
    ("nothing", "", "", "100.2:1.8 101:2", "99.5:0.38 98:1"),
    ("everything is removed", "101:0 100.2:0", "99.5:0 98:0", "", ""),
]


@pytest.mark.parametrize(
    ("asks", "bids", "asks_after", "bids_after"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_delta(asks: str, bids: str, asks_after: str, bids_after: str) -> None:
    crc_text = ",".join([*asks_after.split(), *bids_after.split()])
    book = book_of(FIRST, delta(10, 17, asks, bids, crc_text))
    assert (book.asks, book.bids, book.sequence) == (levels(asks_after), levels(bids_after), 17)


def test_a_snapshot_replaces_everything_whenever_it_comes() -> None:
    book = book_of(FIRST, snapshot(30, "7:1", "", "7:1"))
    assert (book.asks, book.bids, book.sequence) == (levels("7:1"), [], 30)
    book.apply(snapshot(30, "8:1", "", "8:1"))
    book.apply(snapshot(5, "", "6:1", "6:1"))
    assert (book.asks, book.bids, book.sequence) == ([], levels("6:1"), 5)


def test_an_empty_book_is_a_book() -> None:
    book = book_of(snapshot(0, "", "", ""), delta(0, 1, "1:1", "", "1:1"))
    assert (book.asks, book.bids, book.sequence) == (levels("1:1"), [], 1)


def test_prices_of_any_length_are_told_apart() -> None:
    low, high = "0." + "1" * 40 + "1", "0." + "1" * 40 + "2"
    with localcontext(prec=5):
        book = book_of(snapshot(1, f"{low}:1 {high}:1", f"{high}:1 {low}:1", f"{low}:1,{high}:1,{high}:1,{low}:1"))
    assert (book.asks, book.bids) == (levels(f"{low}:1 {high}:1"), levels(f"{high}:1 {low}:1"))


def test_the_book_stays_as_it_is_whatever_is_done_with_its_lists() -> None:
    book = book_of(FIRST)
    book.asks.clear()
    book.bids.clear()
    assert (book.asks, book.bids) == (levels("100.2:1.8 101:2"), levels("99.5:0.38 98:1"))


def test_before_the_first_update_there_is_no_book() -> None:
    book = Book()
    assert (book.asks, book.bids, book.sequence) == ([], [], None)


WHOLE = "100.2:1.8,101:2,99.5:0.38,98:1"

OUT_OF_STEP = [
    ([delta(1, 2, "1:1", "", "1:1")], "delta 2: a snapshot expected, it continues 1"),
    ([FIRST, delta(11, 12, "", "", WHOLE)], "delta 12: one that continues 10 expected, it continues 11"),
    ([FIRST, delta(9, 10, "", "", WHOLE)], "delta 10: one that continues 10 expected, it continues 9"),
    (
        [FIRST, delta(10, 12, "101:0", "", WHOLE)],
        f"delta 12: with checksum {crc(WHOLE)} expected, it makes a book with {crc('100.2:1.8,99.5:0.38,98:1')}",
    ),
    (
        [FIRST, snapshot(13, "1:1", "", "1:2")],
        f"snapshot 13: with checksum {crc('1:2')} expected, it makes a book with {crc('1:1')}",
    ),
]


@pytest.mark.parametrize(("updates", "text"), OUT_OF_STEP)
def test_out_of_step(updates: list[dict[str, Any]], text: str) -> None:
    book = book_of(*updates[:-1])
    with pytest.raises(OutOfStep) as caught:
        book.apply(updates[-1])
    assert str(caught.value) == text
    assert (book.asks, book.bids, book.sequence) == ([], [], None)


NO_UPDATES = [
    ({}, KeyError),
    ({"type": "delta", "sequence": 11}, KeyError),
    (delta(10, 11, "101:0 x:1", "", WHOLE), InvalidOperation),
    (delta(10, 11, "101:0 102:", "", WHOLE), InvalidOperation),
    (delta(10, 11, "101:0", "", WHOLE) | {"bids": [["1"]]}, ValueError),
    (delta(10, 11, "\u0661:1", "", WHOLE), UnicodeEncodeError),  # a digit, for Decimal
]


@pytest.mark.parametrize(("update", "error"), NO_UPDATES)
def test_what_is_no_update_leaves_no_book(update: dict[str, Any], error: type[Exception]) -> None:
    book = book_of(FIRST)
    with pytest.raises(error):
        book.apply(update)
    assert (book.asks, book.bids, book.sequence) == ([], [], None)


@pytest.mark.parametrize(
    "wrong", [delta(7, 8, "", "", WHOLE), delta(10, 12, "101:0", "", WHOLE), snapshot(13, "1:1", "", "1:2")]
)
def test_out_of_step_it_takes_nothing_but_a_snapshot(wrong: dict[str, Any]) -> None:
    book = book_of(FIRST)
    for update in (wrong, delta(10, 11, "", "", WHOLE), delta(11, 12, "", "", WHOLE)):
        with pytest.raises(OutOfStep):
            book.apply(update)
    book.apply(FIRST)
    book.apply(delta(10, 14, "101:0", "", "100.2:1.8,99.5:0.38,98:1"))
    assert (book.asks, book.bids, book.sequence) == (levels("100.2:1.8"), levels("99.5:0.38 98:1"), 14)


def test_a_book_that_is_cleared_waits_for_a_snapshot() -> None:
    book = book_of(FIRST)
    book.clear()
    assert (book.asks, book.bids, book.sequence) == ([], [], None)
    with pytest.raises(OutOfStep):
        book.apply(delta(10, 11, "", "", WHOLE))


PRICES = ["1e-8", "9.0e-7", "0.000001", "0.1", "0.25", "0.9", "1", "2", "9.5", "10", "11", "99", "100", "250", "1000"]
CHANGED = st.tuples(st.booleans(), st.sampled_from(PRICES), st.sampled_from(["0", "1e-8", "0.5", "1", "20"]))


@given(st.lists(st.lists(CHANGED, max_size=8), max_size=8))
def test_the_book_is_that_of_a_plain_one(batches: list[list[tuple[bool, str, str]]]) -> None:
    plain: tuple[dict[str, str], dict[str, str]] = ({}, {})  # asks, bids: amount by price
    book = book_of(snapshot(0, "", "", ""))
    for number, batch in enumerate(batches):
        for is_bid, price, amount in batch:
            plain[is_bid][price] = amount
        asks, bids = (
            [(price, side[price]) for price in sorted(side, key=Decimal, reverse=bool(is_bid)) if side[price] != "0"]
            for is_bid, side in enumerate(plain)
        )
        update = delta(number, number + 1, "", "", ",".join(map(":".join, asks[:10] + bids[:10])))
        update["asks"], update["bids"] = ([row[1:] for row in batch if row[0] is is_bid] for is_bid in (False, True))
        book.apply(update)
        assert (book.asks, book.bids, book.sequence) == (asks, bids, number + 1)
