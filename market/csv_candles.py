"""Candles out of CSV files, as exchanges and vendors of data give them: a line of names, then a line for each candle.

The columns may stand in any order, with others between them; `COLUMNS` lists the names that are understood. Nothing is
guessed: a file that is not clear is refused, with the line at which it is not.
"""

import csv
import gzip
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Context, Decimal
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

from bus.catalog import Market
from bus.messages import UNITS_MAX, Records
from bus.text import SIZE_MAX, parse
from market.board import SIZES_S
from market.calendar import DAY_S, Calendar
from market.rows import candles_of
from market.schema import NAMES, Resolution

COLUMNS = {  # in small letters, without all that is no letter
    "time": ("time", "timestamp", "date", "datetime", "unix", "unixtime", "unixtimestamp", "start", "opentime", "t"),
    "open": ("open", "openprice", "o"),
    "high": ("high", "highprice", "h"),
    "low": ("low", "lowprice", "l"),
    "close": ("close", "closeprice", "c"),
    "volume": ("volume", "basevolume", "vol", "v"),
    "money": ("money", "quotevolume", "quoteassetvolume", "turnover", "deal"),
}
OPTIONAL = "money"
PRICES = ("open", "close", "high", "low")  # as CANDLE has them
STEPS_S = {size_s: resolution for resolution, size_s in (SIZES_S | {Resolution.DAY: DAY_S}).items()}
UNIX_MAX = {10**11: 1, 10**14: 10**3, 10**17: 10**6}  # a whole number below it counts so many to the second

_other = re.compile("[^a-z]+")
_whole = re.compile(r"[0-9]+").fullmatch
_exact = Context(prec=2 * SIZE_MAX)


class BadFile(Exception):
    """The file is not understood: the text says where, and why."""


class _Row(NamedTuple):
    """A candle as `market.rows` has it, and the line that tells it."""

    start: int
    numbers: tuple[int, ...]
    line: int


class Reading(NamedTuple):
    """How a file is read."""

    market: Market
    resolution: Resolution | None  # None: the distance of its candles
    zone: ZoneInfo  # of times that don't tell theirs
    calendar: Calendar
    now: int  # nothing begins later
    cut: bool  # cut off decimals that the market does not have; else they are refused


def read(path: Path, reading: Reading) -> tuple[Resolution, Records]:
    """The size of the candles of a file, and all of them by start. A file without money has 0. Raises BadFile."""
    try:
        with _opened(path) as file:
            rows = sorted(_rows(csv.reader(file, strict=True), reading))
        if not rows:
            raise BadFile("there are no candles in it")
        resolution = reading.resolution if reading.resolution is not None else _distance(rows)
        _check_starts(rows, resolution, reading)
    except BadFile as error:
        raise BadFile(f"{path}: {error}") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return resolution, candles_of(list(zip(*((row.start, *row.numbers) for row in rows), strict=True)))


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _rows(lines: Any, reading: Reading) -> Iterator[_Row]:
    """The candles of a csv.reader's lines. Raises BadFile."""
    places = _places(next(lines, []))
    for line in lines:
        if not line:
            continue
        try:
            yield _row({name: line[place].strip() for name, place in places.items()}, reading, lines.line_num)
        except IndexError:
            raise BadFile(f"line {lines.line_num}: there are {len(line)} columns only") from None
        except ValueError as error:
            raise BadFile(f"line {lines.line_num}: {error}") from None


def _places(header: list[str]) -> dict[str, int]:
    """Which column holds what. Raises BadFile."""
    names = [_other.sub("", name.lower()) for name in header]
    places = {}
    for column, known in COLUMNS.items():
        found = [place for place, name in enumerate(names) if name in known]
        if len(found) > 1:
            raise BadFile(f"line 1: both {header[found[0]]!r} and {header[found[1]]!r} may be the column {column}")
        if found:
            places[column] = found[0]
        elif column != OPTIONAL:
            raise BadFile(f"line 1: no column is named {column}; there are {', '.join(header) or 'none'}")
    return places


def _row(texts: dict[str, str], reading: Reading, line: int) -> _Row:
    """Raises ValueError."""
    market, cut = reading.market, reading.cut
    first, close, high, low = (_units(name, texts[name], market.money_prec, cut) for name in PRICES)
    if not 0 < low <= min(first, close) <= max(first, close) <= high <= UNITS_MAX:
        raise ValueError("these are no prices of a candle: the low one above 0, the high one highest")
    volume = _units("volume", texts["volume"], market.stock_prec, cut)
    money = _units(OPTIONAL, texts.get(OPTIONAL, "0"), market.deal_prec, cut)
    start = _time(texts["time"], reading.zone)
    if start > reading.now:
        raise ValueError(f"time {texts['time']} is not yet")
    return _Row(start, (first, close, high, low, volume, money), line)


def _units(name: str, text: str, prec: int, cut: bool) -> int:
    units = parse(text, prec)
    if units is None or units < 0:
        raise ValueError(f"{name} {text!r} is no such number")
    if not cut and _exact.scaleb(Decimal(text), prec) != units:
        raise ValueError(f"{name} {text} has more than the market's {prec} decimals; --cut cuts them off")
    return units


def _time(text: str, zone: ZoneInfo) -> int:
    """Seconds since 1970: of a count since then, or of ISO 8601."""
    if _whole(text):
        number = int(text)
        parts = next((parts for limit, parts in UNIX_MAX.items() if number < limit), 0)
        if not parts or number % parts:
            raise ValueError(f"time {text} is no whole second since 1970")
        return number // parts
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {text!r} is neither a count of seconds nor ISO 8601") from None
    if moment.microsecond:
        raise ValueError(f"time {text} is no whole second")
    start = int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp())
    if start < 0:
        raise ValueError(f"time {text} is before 1970")
    return start


def _distance(rows: list[_Row]) -> Resolution:
    """The size that the smallest distance of two candles tells. Raises BadFile."""
    distances = [after.start - before.start for before, after in pairwise(rows)]
    if (resolution := STEPS_S.get(min(distances, default=0))) is None:
        raise BadFile("the distance of its candles is not that of one size that is kept: name it with --resolution")
    return resolution


def _check_starts(rows: list[_Row], resolution: Resolution, reading: Reading) -> None:
    """Each candle begins where one of its size does, and no two at once. Raises BadFile."""
    for before, row in pairwise(rows):
        if before.start == row.start:
            raise BadFile(f"line {row.line}: {_shown(row, reading)} is that of line {before.line} too")
    for row in rows:
        if row.start != begin_of(row.start, resolution, reading.calendar):
            raise BadFile(f"line {row.line}: no candle of {NAMES[resolution]} begins at {_shown(row, reading)}")


def _shown(row: _Row, reading: Reading) -> str:
    return datetime.fromtimestamp(row.start, reading.zone).isoformat()


def begin_of(moment: int, resolution: Resolution, calendar: Calendar) -> int:
    """The start of the candle that holds a second."""
    if resolution is Resolution.DAY:
        return calendar.day(moment)
    return moment // SIZES_S[resolution] * SIZES_S[resolution]
