"""The store of market data that needs no server: one SQLite file.

    position    one row: how far the file is
    markets     a row each: name, decimals, last price
    candles_1s  candles_1m  candles_1h  candles_1d
    deals       the newest 10,000 of each market

Prices are whole numbers in 10^-money_prec, amounts and volumes in 10^-stock_prec, `money_units` in
10^-(stock_prec + money_prec); a sum that does not fit 64 bits is its decimal text. What a flush writes, and the
position with it, is one transaction of the write-ahead log, and on disk when it returns.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bus.catalog import Catalog, Market
from bus.jsontext import INT64_MAX, INT64_MIN
from bus.messages import Records
from market.rows import candles_of, joined, rows_of, ticks_of
from market.schema import DEALS_KEPT_COUNT, NAMES, Resolution
from market.store import Loaded, Part, Position, StoreDown, StoreMoved, StoreWrong

APPLICATION_ID = 0x54504D4B  # "TPMK"
VERSION = 1
BUSY_TIMEOUT_S = 5.0  # `pit market` writes this moment
ROWS_AT_ONCE = 20_000

# What the disk or another process does to us, and what may be better next time; anything else is wrong with the file.
_DOWN = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_PRIMARY_CODE = 0xFF  # of an extended error code

_TABLES = {
    "position": """
        id INTEGER PRIMARY KEY CHECK (id = 1),
        number INTEGER NOT NULL,     -- of the last event
        deal_id INTEGER NOT NULL,    -- of the last deal
        generation INTEGER NOT NULL  -- how often `pit market` has changed the file""",
    "markets": """
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        stock_prec INTEGER NOT NULL,
        money_prec INTEGER NOT NULL,
        last_units INTEGER NOT NULL""",
    "deals": """
        market_id INTEGER NOT NULL,
        deal_id INTEGER NOT NULL,
        time REAL NOT NULL,
        price_units INTEGER NOT NULL,
        amount_units INTEGER NOT NULL,
        taker_side INTEGER NOT NULL,  -- 1 sells, 2 buys
        PRIMARY KEY (market_id, deal_id)""",
}
_CANDLES = """
        market_id INTEGER NOT NULL,
        start INTEGER NOT NULL,
        open_units INTEGER NOT NULL,
        close_units INTEGER NOT NULL,
        high_units INTEGER NOT NULL,
        low_units INTEGER NOT NULL,
        volume_units NOT NULL,
        money_units NOT NULL,
        PRIMARY KEY (market_id, start)"""
_WITHOUT_ROWID = ("deals", *(f"candles_{name}" for name in NAMES.values()))


class _State(NamedTuple):
    """What the file says about itself: the row `position`."""

    number: int
    deal_id: int
    generation: int


class _Known(NamedTuple):
    """A row of `markets`."""

    id: int
    stock_prec: int
    money_prec: int
    last_units: int


class FileStore:
    """An `Editable` store in a file, which is made when it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._left: _State | None = None  # as the last flush left the file

    def load(self, catalog: Catalog, since: Mapping[Resolution, int]) -> Loaded:
        with self._transaction("DEFERRED") as file:
            state = _state(file)
            known = self._known(file)
            listed = [market for market in catalog.markets if market.name in known]
            parts = tuple(self._part(file, self._checked(known, market), market, since) for market in listed)
        self._left = state
        return Loaded(position=Position(number=state.number, deal_id=state.deal_id), parts=parts)

    def flush(self, parts: list[Part], position: Position) -> None:
        assert self._left is not None, "it is not loaded"
        with self._transaction("IMMEDIATE") as file:
            state = _state(file)
            if state != self._left:
                raise StoreMoved(
                    f"{self._path} is at event {state.number:,}, which is not where the last flush left it"
                )
            wanted = _State(position.number, position.deal_id, state.generation)
            if parts or wanted != state:
                known = self._known(file)
                for part in parts:
                    self._write(file, known, part)
                _set_state(file, wanted)
        self._left = wanted

    def sweep(self, markets: list[Market], before: Mapping[Resolution, int]) -> None:
        with self._transaction("IMMEDIATE") as file:
            known = self._known(file)
            for row in (known[market.name] for market in markets if market.name in known):
                for resolution, start in before.items():
                    table = _candles_table(resolution)
                    file.execute(f"DELETE FROM {table} WHERE market_id = ? AND start < ?", (row.id, start))

    def fill(self, market: Market, resolution: Resolution, candles: Records, *, replace: bool) -> int:
        with self._transaction("IMMEDIATE") as file:
            row = self._market(file, self._known(file), market)
            count = _insert(file, row.id, resolution, candles, "REPLACE" if replace else "IGNORE")
            _next_generation(file)
        return count

    def set_last(self, market: Market, last_units: int) -> bool:
        with self._transaction("IMMEDIATE") as file:
            row = self._market(file, self._known(file), market)
            if row.last_units:
                return False
            file.execute("UPDATE markets SET last_units = ? WHERE id = ?", (last_units, row.id))
            _next_generation(file)
        return True

    def rebuild(self, parts: Iterable[Part], position: Position) -> None:
        with self._transaction("IMMEDIATE") as file:
            for part in parts:
                if (row := self._known(file).get(part.market.name)) is not None:
                    for table in _WITHOUT_ROWID:
                        file.execute(f"DELETE FROM {table} WHERE market_id = ?", (row.id,))
                    file.execute("DELETE FROM markets WHERE id = ?", (row.id,))
                self._write(file, self._known(file), part)
            _set_state(file, _State(position.number, position.deal_id, _state(file).generation + 1))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Raises StoreDown, StoreWrong for what SQLite says; then a new connection is next."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            file = self._connection
            file.execute(f"BEGIN {kind}")
            yield file
            file.execute("COMMIT")
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise StoreDown(f"{self._path}: {error.strerror}") from error
            if (code := getattr(error, "sqlite_errorcode", None)) is None:
                raise
            if code & _PRIMARY_CODE in _DOWN:
                raise StoreDown(f"{self._path}: {error}") from error
            raise self._wrong(str(error)) from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file, made if it is new. Raises StoreWrong, OSError, sqlite3.Error."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
            file.execute("BEGIN IMMEDIATE")
            self._check_or_make(file)
            file.execute("COMMIT")
        except BaseException:
            file.close()
            raise
        return file

    def _check_or_make(self, file: sqlite3.Connection) -> None:
        application_id, version = (
            file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application_id == APPLICATION_ID:
            if version != VERSION:
                raise self._wrong(f"its version is {version}, this program knows {VERSION} only")
            return
        if application_id or file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise self._wrong("it is the database of another program")
        for name, columns in (_TABLES | {_candles_table(resolution): _CANDLES for resolution in Resolution}).items():
            file.execute(f"CREATE TABLE {name} ({columns}\n){' WITHOUT ROWID' if name in _WITHOUT_ROWID else ''}")
        file.execute("INSERT INTO position VALUES (1, 0, 0, 0)")
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute(f"PRAGMA user_version = {VERSION}")

    def _wrong(self, text: str) -> StoreWrong:
        return StoreWrong(f"{self._path}: {text}; move it away and `pit market rebuild` makes it anew")

    def _known(self, file: sqlite3.Connection) -> dict[str, _Known]:
        rows = file.execute("SELECT name, id, stock_prec, money_prec, last_units FROM markets")
        return {name: _Known(*row) for name, *row in rows}

    def _checked(self, known: Mapping[str, _Known], market: Market) -> _Known:
        """The row of a market that is there. Raises StoreWrong when its numbers have other units."""
        row = known[market.name]
        if (row.stock_prec, row.money_prec) != (market.stock_prec, market.money_prec):
            found, wanted = f"{row.stock_prec} and {row.money_prec}", f"{market.stock_prec} and {market.money_prec}"
            raise self._wrong(f"{market.name} is in it with {found} decimals, not with {wanted}")
        return row

    def _market(self, file: sqlite3.Connection, known: Mapping[str, _Known], market: Market) -> _Known:
        """The row of a market, made if it is new. Raises StoreWrong."""
        if market.name in known:
            return self._checked(known, market)
        precs = market.stock_prec, market.money_prec
        made = file.execute("INSERT INTO markets VALUES (NULL, ?, ?, ?, 0)", (market.name, *precs))
        assert made.lastrowid is not None
        return _Known(made.lastrowid, *precs, 0)

    def _part(self, file: sqlite3.Connection, row: _Known, market: Market, since: Mapping[Resolution, int]) -> Part:
        try:
            candles = {
                resolution: joined(_candles(file, row.id, resolution, since.get(resolution, INT64_MIN)))
                for resolution in Resolution
            }
            ticks = _ticks(file, row.id)
        except (ValueError, TypeError, OverflowError) as error:
            raise self._wrong(f"of {market.name} it holds what is no number: {error}") from error
        return Part(market=market, last_units=row.last_units, candles=candles, ticks=ticks)

    def _write(self, file: sqlite3.Connection, known: Mapping[str, _Known], part: Part) -> None:
        row = self._market(file, known, part.market)
        file.execute("UPDATE markets SET last_units = ? WHERE id = ?", (part.last_units, row.id))
        for resolution, candles in part.candles.items():
            _insert(file, row.id, resolution, candles, "REPLACE")
        if len(part.ticks):
            ticks = ((row.id, *tick) for tick in part.ticks[-DEALS_KEPT_COUNT:].tolist())
            file.executemany("INSERT OR REPLACE INTO deals VALUES (?, ?, ?, ?, ?, ?)", ticks)
            file.execute(
                "DELETE FROM deals WHERE market_id = ?1 AND deal_id <= "
                "(SELECT deal_id FROM deals WHERE market_id = ?1 ORDER BY deal_id DESC LIMIT 1 OFFSET ?2)",
                (row.id, DEALS_KEPT_COUNT),
            )


def _state(file: sqlite3.Connection) -> _State:
    return _State(*file.execute("SELECT number, deal_id, generation FROM position").fetchone())


def _set_state(file: sqlite3.Connection, state: _State) -> None:
    file.execute("UPDATE position SET number = ?, deal_id = ?, generation = ?", state)


def _next_generation(file: sqlite3.Connection) -> None:
    file.execute("UPDATE position SET generation = generation + 1")


def _candles_table(resolution: Resolution) -> str:
    return f"candles_{NAMES[resolution]}"


def _insert(file: sqlite3.Connection, market_id: int, resolution: Resolution, candles: Records, conflict: str) -> int:
    """Write candles; return how many were."""
    count = file.total_changes
    for start in range(0, len(candles), ROWS_AT_ONCE):
        rows = (
            (market_id, *row[:-2], _kept(row[-2]), _kept(row[-1]))
            for row in rows_of(candles[start : start + ROWS_AT_ONCE])
        )
        file.executemany(
            f"INSERT OR {conflict} INTO {_candles_table(resolution)} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
    return file.total_changes - count


def _kept(number: int) -> int | str:
    """A sum as the file has it."""
    return number if INT64_MIN <= number <= INT64_MAX else str(number)


def _candles(file: sqlite3.Connection, market_id: int, resolution: Resolution, since: int) -> Iterator[Records]:
    found = file.execute(
        "SELECT start, open_units, close_units, high_units, low_units, volume_units, money_units"
        f" FROM {_candles_table(resolution)} WHERE market_id = ? AND start >= ? ORDER BY start",
        (market_id, since),
    )
    while rows := found.fetchmany(ROWS_AT_ONCE):
        *narrow, volumes, moneys = zip(*rows, strict=True)
        yield candles_of([*narrow, [*map(int, volumes)], [*map(int, moneys)]])


def _ticks(file: sqlite3.Connection, market_id: int) -> Records:
    found = file.execute(
        "SELECT deal_id, time, price_units, amount_units, taker_side FROM deals WHERE market_id = ? ORDER BY deal_id",
        (market_id,),
    )
    return ticks_of(found.fetchall())
