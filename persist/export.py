"""Rows of the history for auditors and tax offices: which columns they have, and how each is written as CSV.

Columns are named as in ViaBTC's tables, which is how persist/store.py names them. Codes become words. Numbers are
exact and plain: every decimal that the store has, without zeros at the end, never an exponent; both stores give the
same text. Times are UTC, ISO 8601 with microseconds.

A text that a spreadsheet would take for a formula gets an apostrophe in front. So does one that begins with an
apostrophe: whoever takes the first one off has every text as it was. Numbers are left alone.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, TextIO, get_type_hints

from bus.messages import OrderType, Side
from persist.store import Change, Deal, Order, Reader, Times

Row = Order | Deal | Change

WORDS: Mapping[str, Mapping[int, str]] = {
    "type": {OrderType.LIMIT: "limit", OrderType.MARKET: "market"},
    "side": {Side.ASK: "sell", Side.BID: "buy"},
    "role": {1: "maker", 2: "taker"},
}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
TIMES_KEPT_COUNT = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Column(NamedTuple):
    """A column: its name, the type of its values in a row, and the words for them, if they are codes."""

    name: str
    type: type
    words: Mapping[int, str] | None


class Table(NamedTuple):
    """What can be exported: its columns in the order of a row's fields, and where the rows come from."""

    columns: tuple[Column, ...]
    rows: Callable[[Reader, int, str, Times], Iterator[Row]]  # of a user, and of a market or asset


def _columns(row: type[Row]) -> tuple[Column, ...]:
    return tuple(Column(name, kind, WORDS.get(name)) for name, kind in get_type_hints(row).items())


TABLES = {
    "orders": Table(_columns(Order), lambda reader, user_id, name, times: reader.all_orders(user_id, name, times)),
    "deals": Table(_columns(Deal), lambda reader, user_id, name, times: reader.all_deals(user_id, name, times)),
    "changes": Table(_columns(Change), lambda reader, user_id, name, times: reader.all_changes(user_id, name, times)),
}


def write_csv(columns: tuple[Column, ...], rows: Iterable[Row], file: TextIO) -> None:
    """Write a line of names and a line for each row, as RFC 4180 says. `file` must not translate line ends."""
    texts = [_text_of(column) for column in columns]
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(column.name for column in columns)
    writer.writerows([text(value) for text, value in zip(texts, row, strict=True)] for row in rows)


def clean(text: str) -> str:
    """A text that UTF-8 can hold: details come from clients, who may send any bytes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def microseconds(seconds: float) -> int:
    """A time as whole microseconds since 1970: the events have no finer ones."""
    return round(seconds * 1_000_000)


def plain(number: Decimal) -> str:
    """A number without exponent, and without zeros at the end of a fraction."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@lru_cache(TIMES_KEPT_COUNT)  # all that a batch did happened at the same time
def iso_time(seconds: float) -> str:
    """A time as ISO 8601 in UTC."""
    moment = _EPOCH + timedelta(microseconds=microseconds(seconds))
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    text = clean(text)
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def word(words: Mapping[int, str], code: int) -> str:
    """The word for a code, the number itself when there is none."""
    return words.get(code) or str(code)


def _text_of(column: Column) -> Callable[[Any], str]:
    if (words := column.words) is not None:
        return lambda code: word(words, code)
    texts: dict[type, Callable[[Any], str]] = {Decimal: plain, float: iso_time, int: str, str: harmless}
    return texts[column.type]
