"""How readers ask the SQLite file: one short transaction a question, in a limited time.

As long as one lasts, the writer's log can't be begun anew.
"""

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bus.catalog import Asset, Catalog, Market
from persist import sqlite_schema
from persist.sqlite_found import Names
from persist.sqlite_ranges import Row, Rows, Span, span_of
from persist.store import StoreDown, StoreWrong, Times

PROGRESS_STEPS = 10_000  # of SQLite's machine, between two looks at the clock: about a millisecond
ROWS_PER_LOOK = 1_000  # merged here, between two looks
NOWHERE = ":memory:"  # what is asked as long as there is no file: tables without rows
UNKNOWN = -1  # the number of a name that the file does not have: no row has it


class Found(NamedTuple):
    """The file as it is during a question."""

    connection: sqlite3.Connection
    names: Catalog
    deadline_s: float

    def markets_with(self, asset: int | None) -> list[int]:
        """The numbers of all markets, or of those where an asset is traded."""
        markets = self.names.market_by_index
        return [one.index for one in markets if asset is None or asset in (one.stock.index, one.money.index)]

    def spans(self, times: Times, tables: Iterable[str]) -> dict[str, Span]:
        """For each table, the numbers of the events of some time."""
        return {table: span_of(self.connection, table, "number", "time", times) for table in tables}

    @contextmanager
    def taken(self, rows: Rows) -> Iterator[Iterator[Row]]:
        """The rows, one by one, which raise when it is too late."""
        with closing(rows):
            yield self._in_time(rows)

    def _in_time(self, rows: Iterable[Row]) -> Iterator[Row]:
        for place, row in enumerate(rows):
            if place % ROWS_PER_LOOK == 0 and time.monotonic() > self.deadline_s:
                raise TimeoutError
            yield row


def number_of(by_name: Mapping[str, Asset] | Mapping[str, Market], name: str) -> int:
    """The number that stands for a name in the file."""
    named = by_name.get(name)
    return UNKNOWN if named is None else named.index


class Link:
    """A connection that is made when it is needed, and again when the file is another one."""

    def __init__(self, file: Path, timeout_s: float) -> None:
        """`timeout_s` is how long a question may take that is no part of an export."""
        self._file = file
        self._timeout_s = timeout_s
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._names = Names()
        self._deadline_s = math.inf

    @contextmanager
    def question(self, *, is_limited: bool = True) -> Iterator[Found]:
        """A transaction. Raises StoreDown; so may all that is done with what it gives."""
        self._deadline_s = time.monotonic() + self._timeout_s if is_limited else math.inf
        try:
            connection = self._connected()
            with sqlite_schema.trouble(self._file):
                connection.execute("BEGIN")
                yield Found(connection, self._names.read(connection), self._deadline_s)
                connection.execute("COMMIT")
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError) or _is_interrupted(error):
                raise StoreDown(f"{self._file}: a question took longer than {self._timeout_s:g} s") from None
            if isinstance(error, StoreWrong):
                raise StoreDown(str(error)) from error
            raise

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection:
        there = sqlite_schema.identity(self._file)
        if self._connection is not None and there == self._identity:
            return self._connection
        self.close()
        connection = self._of_file() if there else None
        self._identity = there if connection else None
        self._connection = connection or _empty()
        self._names = Names()
        self._connection.set_progress_handler(lambda: time.monotonic() > self._deadline_s, PROGRESS_STEPS)
        return self._connection

    def _of_file(self) -> sqlite3.Connection | None:
        """A connection to the file; None when its tables are not made yet."""
        connection = sqlite_schema.connect(self._file, must_exist=True, timeout_s=self._timeout_s)
        try:
            if sqlite_schema.is_made(connection, self._file):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None


def _is_interrupted(error: BaseException) -> bool:
    return getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_OK) == sqlite3.SQLITE_INTERRUPT


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(NOWHERE, isolation_level=None)
    for statement in sqlite_schema.TABLES:
        connection.execute(statement)
    return connection
