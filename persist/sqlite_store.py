"""The history in a SQLite file: the writer. persist/sqlite_schema.py says what is in the file.

A thread of its own speaks to SQLite: the heart beats while a slow disk takes a transaction, or a log of 128 MiB. Who is
killed there, for not beating, would have to do the same again.
"""

import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from bus.catalog import Catalog
from bus.messages import Frame, Side
from conf.alert import alert
from conf.settings import Settings
from persist import sqlite_schema
from persist.sqlite_rows import (
    ASSET_COLUMNS,
    DEAL_COLUMNS,
    ENTRY_COLUMNS,
    MARKET_COLUMNS,
    ORDER_COLUMNS,
    UPDATE_COLUMNS,
    Row,
    asset_rows,
    deal_rows,
    events_of,
    finished_orders,
    market_rows,
    order_entries,
    order_rows,
    update_rows,
)
from persist.store import StoreDown, StoreWrong
from persist.waiting import waited

PROCESS = "recorder"  # whom alerts are from
LOG_PAUSE_S = 60.0  # after readers have kept the log from being begun anew: each try waits for them


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_INSERT_DEAL = _insert("deal", DEAL_COLUMNS)
_INSERT_ORDER = _insert("finished_order", ORDER_COLUMNS)
_INSERT_UPDATE = _insert("balance_update", UPDATE_COLUMNS)
_ENTER_ORDER = _insert("user_order", ENTRY_COLUMNS)
_ENTER_DEALS = f"""INSERT INTO user_deal (run, user_id, number, side, market)
    SELECT :run, ask_user_id, number, {int(Side.ASK)}, market FROM deal WHERE number > :number UNION ALL
    SELECT :run, bid_user_id, number, {int(Side.BID)}, market FROM deal WHERE number > :number ORDER BY 2, 3, 4"""
_ENTER_UPDATES = """INSERT INTO user_update (run, user_id, number, asset)
    SELECT :run, user_id, number, asset FROM balance_update WHERE number > :number ORDER BY 2, 3"""
_NAMED = {"asset": ASSET_COLUMNS, "market": MARKET_COLUMNS}


class SqliteWriter:
    """The recorder's side of the store. After an error it is to be opened again."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.paths.history_file
        self._paths = settings.paths
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._number = 0  # of the last event stored
        self._named: Catalog | None = None  # whose names the file has
        self._is_log_held = False
        self._bound_log_at_s = 0.0

    def open(self) -> int:
        """Make the file if there is none, and return the number of the last event stored."""
        self.close()
        self._thread = ThreadPoolExecutor(1, "sqlite")
        return waited(self._thread.submit(self._open))

    def write(self, frames: Sequence[Frame], catalog: Catalog) -> None:
        """Store the events of some frames, and their last number, in one transaction."""
        if self._thread is None:
            raise StoreDown(f"{self._file} is not open")
        if frames:
            waited(self._thread.submit(self._write, frames, catalog))

    def close(self) -> None:
        """Disconnect; what is not committed is not stored."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            waited(thread.submit(self._disconnect))
            thread.shutdown()

    def _open(self) -> int:
        connection = sqlite_schema.connect(self._file, must_exist=False, timeout_s=sqlite_schema.LOCK_TIMEOUT_S)
        try:
            sqlite_schema.prepare(connection, self._file)
            with sqlite_schema.trouble(self._file):
                [[self._number]] = connection.execute("SELECT number FROM position")
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, sqlite_schema.identity(self._file)
        return self._number

    def _write(self, frames: Sequence[Frame], catalog: Catalog) -> None:
        connection = self._connected()
        number = self._number
        for frame in frames:
            assert frame.first == number + 1, f"event {frame.first} does not follow event {number}"
            number += len(frame.records)
        try:
            with sqlite_schema.trouble(self._file):
                connection.execute("BEGIN IMMEDIATE")
                self._move(connection, number)
                self._name(connection, catalog)
                self._insert(connection, frames)
                connection.execute("COMMIT")
        except BaseException:
            self._disconnect()
            raise
        self._number, self._named = number, catalog
        self._bound_log(connection)

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._named = None
            with suppress(sqlite3.Error):  # a full disk: what is in the log stays there
                connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreDown(f"{self._file} is not open")
        if sqlite_schema.identity(self._file) != self._identity:
            self._disconnect()
            raise StoreDown(f"{self._file} was moved or removed")
        return self._connection

    def _move(self, connection: sqlite3.Connection, number: int) -> None:
        moved = connection.execute("UPDATE position SET number = ? WHERE number = ?", (number, self._number))
        if moved.rowcount != 1:
            raise StoreDown(f"{self._file}: somebody else has written there")

    def _name(self, connection: sqlite3.Connection, catalog: Catalog) -> None:
        """Write down what numbers of assets and markets mean. Raises StoreWrong when they meant something else."""
        if catalog is self._named:
            return
        for table, rows in (("asset", asset_rows(catalog)), ("market", market_rows(catalog))):
            self._name_each(connection, table, rows)

    def _name_each(self, connection: sqlite3.Connection, table: str, rows: list[Row]) -> None:
        known = {row[0]: row for row in connection.execute(f"SELECT {', '.join(_NAMED[table])} FROM {table}")}
        for row in rows:
            if (before := known.get(row[0], row)) != row:
                raise StoreWrong(
                    f"{self._file} is the history of another exchange: there, {table} {row[0]} is {before[1:]}, here "
                    f"{row[1:]}. Move it away, or choose another data_dir"
                )
        new = [row for row in rows if row[0] not in known]
        connection.executemany(_insert(table, _NAMED[table]), new)

    def _insert(self, connection: sqlite3.Connection, frames: Sequence[Frame]) -> None:
        events = events_of(frames)
        orders = finished_orders(events)
        connection.executemany(_INSERT_DEAL, deal_rows(events))
        connection.executemany(_INSERT_ORDER, order_rows(orders))
        connection.executemany(_INSERT_UPDATE, update_rows(events, frames))
        run = self._run(connection)
        new = {"run": run, "number": self._number}
        entered = [
            connection.execute(_ENTER_DEALS, new),
            connection.executemany(_ENTER_ORDER, order_entries(orders, run)),
            connection.execute(_ENTER_UPDATES, new),
        ]
        count = sum(max(0, done.rowcount) for done in entered)
        connection.execute("UPDATE run SET entry_count = entry_count + ? WHERE id = ?", (count, run))

    @staticmethod
    def _run(connection: sqlite3.Connection) -> int:
        """The run for the next entries."""
        last = connection.execute("SELECT id, entry_count FROM run ORDER BY id DESC LIMIT 1").fetchone()
        if last is not None and last[1] < sqlite_schema.RUN_ENTRY_COUNT:
            return int(last[0])
        run = 1 if last is None else int(last[0]) + 1
        connection.execute("INSERT INTO run VALUES (?, 0)", (run,))
        return run

    def _bound_log(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the file and begin it anew when it is too long, because readers were never all away."""
        with suppress(OSError, sqlite3.Error):  # all is stored; what is wrong shows with the next transaction
            log = sqlite_schema.log_of(self._file)
            if log.stat().st_size <= sqlite_schema.WAL_SIZE_MAX:
                self._is_log_held = False
            elif time.monotonic() >= self._bound_log_at_s:
                [[is_busy, _, _]] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if is_busy:
                    self._bound_log_at_s = time.monotonic() + LOG_PAUSE_S
                    self._tell_held(log)

    def _tell_held(self, log: Path) -> None:
        """Somebody reads without end: an alert the first time."""
        if not self._is_log_held:
            self._is_log_held = True
            alert(
                self._paths,
                PROCESS,
                f"{log} grows as long as somebody reads {self._file.name} in one transaction: a sqlite3 shell, a copy? "
                "It is begun anew when that has ended",
            )
