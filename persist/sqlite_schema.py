"""The SQLite file of the history: its tables, how it is opened, and what its errors mean.

    deal            the event of each deal, whole. Rows of user_deal_history and deal_history are its two sides; trade
                    rows of balance_history follow from it (persist/steps.py), so that nothing is written five times.
    finished_order  a row of order_history, which is the same in order_detail
    balance_update  a row of balance_history that is no trade's
    asset, market   names and decimals, by the numbers with which the others refer to them
    position        the number of the last event that is stored

    user_deal, user_order, user_update     what is whose, in runs
    run                                    each run, and how many entries it has

All numbers are whole, in the units of bus/messages.py. Those of 128 bits are integers when 64 suffice, and otherwise
their digits as text, for which their columns have no type. A `number` is the event's: rows are in the order of events,
and times go with them.

An index by user over everything would be entered all over: the larger it is, the more pages each transaction changes.
So it begins anew, as the next run, after half a million entries: what is written stays in a small part of the file,
however large that grows. Who looks for a user's rows looks into each run, the newest one first.

The write-ahead log is synced when it is copied into the file, not with each transaction. What a power cut takes away
is the end of the history, and the position with it: the file says where to go on, and the events are in the event log
or come again from the journal.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persist.store import StoreDown, StoreWrong

APPLICATION_ID = 0x54504948  # "TPIH", in the file's header
VERSION = 1
CACHE_SIZE = 64 << 20
RUN_ENTRY_COUNT = 1 << 19
WAL_SIZE = 128 << 20  # at which the log is copied into the file: a page that was changed often is written once
WAL_SIZE_MAX = 2 * WAL_SIZE  # it gets as long only when readers hold it; then they are waited for
LOCK_TIMEOUT_S = 2.0

_BY_SIDE = """
    {side}_order_id INTEGER NOT NULL,
    {side}_user_id INTEGER NOT NULL,
    {side}_rate_units INTEGER NOT NULL,
    {side}_stock_total_units NOT NULL,
    {side}_money_total_units NOT NULL"""

TABLES = (
    "CREATE TABLE position (number INTEGER NOT NULL)",
    "INSERT INTO position VALUES (0)",
    """CREATE TABLE asset (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    prec_save INTEGER NOT NULL,
    prec_show INTEGER NOT NULL
)""",
    """CREATE TABLE market (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    stock INTEGER NOT NULL REFERENCES asset,
    money INTEGER NOT NULL REFERENCES asset,
    stock_prec INTEGER NOT NULL,
    money_prec INTEGER NOT NULL,
    fee_prec INTEGER NOT NULL
)""",
    f"""CREATE TABLE deal (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    market INTEGER NOT NULL REFERENCES market,
    deal_id INTEGER NOT NULL,
    taker_side INTEGER NOT NULL,
    price_units INTEGER NOT NULL,
    amount_units INTEGER NOT NULL,{_BY_SIDE.format(side="ask")},{_BY_SIDE.format(side="bid")}
)""",
    "CREATE INDEX deal_ask_order ON deal (ask_order_id)",
    "CREATE INDEX deal_bid_order ON deal (bid_order_id)",
    """CREATE TABLE finished_order (
    id INTEGER PRIMARY KEY,
    create_time REAL NOT NULL,
    finish_time REAL NOT NULL,
    user_id INTEGER NOT NULL,
    market INTEGER NOT NULL REFERENCES market,
    source TEXT NOT NULL,
    type INTEGER NOT NULL,
    side INTEGER NOT NULL,
    price_units INTEGER NOT NULL,
    amount_units INTEGER NOT NULL,
    taker_rate_units INTEGER NOT NULL,
    maker_rate_units INTEGER NOT NULL,
    deal_stock_units NOT NULL,
    deal_money_units NOT NULL,
    deal_fee_units NOT NULL
)""",
    "CREATE INDEX finished_order_time ON finished_order (finish_time)",
    """CREATE TABLE balance_update (
    number INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    user_id INTEGER NOT NULL,
    asset INTEGER NOT NULL REFERENCES asset,
    business TEXT NOT NULL,
    change_units NOT NULL,
    total_units NOT NULL,
    detail TEXT NOT NULL
)""",
    "CREATE TABLE run (id INTEGER PRIMARY KEY, entry_count INTEGER NOT NULL)",
    """CREATE TABLE user_deal (
    run INTEGER NOT NULL REFERENCES run,
    user_id INTEGER NOT NULL,
    number INTEGER NOT NULL REFERENCES deal,
    side INTEGER NOT NULL,
    market INTEGER NOT NULL,
    PRIMARY KEY (run, user_id, number, side)
) WITHOUT ROWID""",
    """CREATE TABLE user_order (
    run INTEGER NOT NULL REFERENCES run,
    user_id INTEGER NOT NULL,
    id INTEGER NOT NULL REFERENCES finished_order,
    market INTEGER NOT NULL,
    side INTEGER NOT NULL,
    PRIMARY KEY (run, user_id, id)
) WITHOUT ROWID""",
    """CREATE TABLE user_update (
    run INTEGER NOT NULL REFERENCES run,
    user_id INTEGER NOT NULL,
    number INTEGER NOT NULL REFERENCES balance_update,
    asset INTEGER NOT NULL,
    PRIMARY KEY (run, user_id, number)
) WITHOUT ROWID""",
)

_WRONG = {
    sqlite3.SQLITE_ERROR,  # a table or column is not there
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
}
_PRIMARY_CODE = 0xFF  # the others of an error code's bits say more exactly what it is


@contextmanager
def trouble(file: Path) -> Iterator[None]:
    """SQLite's errors as StoreDown and StoreWrong; those that are mistakes of ours as they are."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
        if code in _WRONG:
            raise StoreWrong(
                f"{file}: {error}. Put it aside: a new file is made, and filled from the journal"
            ) from error
        raise StoreDown(f"{file}: {error}") from error


def connect(file: Path, *, must_exist: bool, timeout_s: float) -> sqlite3.Connection:
    """A connection without transactions of its own accord; `timeout_s` is how long it waits for locks.

    Raises StoreDown.
    """
    mode = "rw" if must_exist else "rwc"
    with trouble(file):
        return sqlite3.connect(
            f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=timeout_s, isolation_level=None
        )


def is_made(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether the tables are there; they are not when the file is empty. Raises StoreWrong, StoreDown."""
    with trouble(file):
        [[application_id]] = connection.execute("PRAGMA application_id")
        [[version]] = connection.execute("PRAGMA user_version")
        [[table_count]] = connection.execute("SELECT count(*) FROM sqlite_master")
    if application_id == 0 and table_count == 0:
        return False
    if application_id != APPLICATION_ID:
        raise StoreWrong(f"{file} is no history of ours: move it away, or choose another data_dir")
    if version != VERSION:
        raise StoreWrong(
            f"{file} has version {version}, this program knows {VERSION}: run the one that wrote it, or move it away"
        )
    return True


def prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Make the file what a writer needs: its tables, its write-ahead log. Raises StoreWrong, StoreDown."""
    made = is_made(connection, file)
    with trouble(file):
        [[mode]] = connection.execute("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StoreWrong(f"{file}: SQLite can't keep a write-ahead log there; data_dir must be on a local disk")
        [[page_size]] = connection.execute("PRAGMA page_size")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_SIZE >> 10}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_SIZE // page_size}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_SIZE}")
    if not made:
        _make_tables(connection, file)


def _make_tables(connection: sqlite3.Connection, file: Path) -> None:
    with trouble(file):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not is_made(connection, file):  # nobody else did, this moment
                for statement in TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def log_of(file: Path) -> Path:
    """The write-ahead log of a file."""
    return file.with_name(file.name + "-wal")


def identity(file: Path) -> tuple[int, int] | None:
    """Which file is there now; None when there is none. Raises StoreDown."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreDown(str(error)) from error
    return found.st_dev, found.st_ino
