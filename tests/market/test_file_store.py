"""The file: readable on its own, refused when it is not ours, and whole after any trouble with the disk."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from market.candles import WIDE_MAX
from market.file_store import FileStore
from market.schema import Resolution
from market.store import Part, Position, StoreDown, StoreWrong
from tests.market.keeping import CATALOG, EVER
from tests.market.making import catalog
from tests.market.records import assert_equal, candles, of, ticks

A, B, _ = CATALOG.markets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "market.db"


@pytest.fixture
def store(path: Path) -> Iterator[FileStore]:
    with closing(FileStore(path)) as store:
        yield store


def filled(store: FileStore) -> None:
    store.load(CATALOG, EVER)
    made = {Resolution.HOUR: candles(3600, volume=12, money=WIDE_MAX)}
    store.flush([Part(market=B, last_units=8, candles=made, ticks=ticks(4))], Position(number=6, deal_id=4))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for statement in statements:
            file.execute(statement)


def test_the_file_explains_itself(store: FileStore, path: Path) -> None:
    filled(store)
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute(
            "SELECT name, stock_prec, money_prec, last_units, start, open_units, volume_units, money_units"
            " FROM candles_1h JOIN markets ON markets.id = market_id"
        ).fetchall()
        deals = file.execute("SELECT deal_id, time, price_units, amount_units, taker_side FROM deals").fetchall()
        position = file.execute("SELECT number, deal_id FROM position").fetchall()
    assert rows == [("BTWO", 4, 2, 8, 3600, 100, 12, str(WIDE_MAX))]
    assert deals == [tuple(ticks(4)[0])]
    assert position == [(6, 4)]


def test_what_was_stored_is_on_the_disk(store: FileStore, path: Path, tmp_path: Path) -> None:
    """A copy of the file and its write-ahead log is what a power cut leaves."""
    filled(store)
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    with closing(FileStore(copy)) as other:
        loaded = other.load(CATALOG, EVER)
    assert loaded.position == Position(number=6, deal_id=4)
    assert_equal(of(loaded, "BTWO").ticks, ticks(4))


def test_a_torn_log_is_the_flush_before(store: FileStore, path: Path, tmp_path: Path) -> None:
    filled(store)
    size = Path(f"{path}-wal").stat().st_size
    store.flush([Part(market=B, last_units=9, ticks=ticks(5))], Position(number=8, deal_id=5))
    log = Path(f"{path}-wal").read_bytes()
    for end in (len(log), len(log) - 1, (size + len(log)) // 2, size + 1, size):
        copy = tmp_path / f"{end}.db"
        copy.write_bytes(path.read_bytes())
        Path(f"{copy}-wal").write_bytes(log[:end])
        with closing(FileStore(copy)) as other:
            loaded = other.load(CATALOG, EVER)
        is_whole = end == len(log)
        assert loaded.position == (Position(number=8, deal_id=5) if is_whole else Position(number=6, deal_id=4))
        assert_equal(of(loaded, "BTWO").ticks, ticks(4, 5) if is_whole else ticks(4))


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("PRAGMA user_version = 9", "version is 9"),
        ("PRAGMA application_id = 77", "another program"),
        ("UPDATE markets SET money_prec = 5", "BTWO is in it with 4 and 5 decimals, not with 4 and 2"),
        ("UPDATE candles_1h SET money_units = 'much'", "of BTWO it holds what is no number"),
        ("UPDATE candles_1h SET open_units = 'much'", "of BTWO it holds what is no number"),
        ("DROP TABLE deals", "no such table"),
    ],
)
def test_what_can_not_be_used_is_refused(path: Path, statement: str, part: str) -> None:
    with closing(FileStore(path)) as store:
        filled(store)
    change(path, statement)
    with closing(FileStore(path)) as store, pytest.raises(StoreWrong, match=part) as refused:
        store.load(CATALOG, EVER)
    assert str(path) in str(refused.value)
    assert "pit market rebuild" in str(refused.value)


def test_another_programs_file_is_left_alone(path: Path, store: FileStore) -> None:
    path.parent.mkdir()
    path.write_bytes(b"these are the notes of someone" * 100)
    with pytest.raises(StoreWrong, match="not a database"):
        store.load(CATALOG, EVER)
    path.unlink()
    change(path, "CREATE TABLE notes (text)")
    with pytest.raises(StoreWrong, match="another program"):
        store.load(CATALOG, EVER)


def test_markets_that_are_not_listed_stay(path: Path, store: FileStore) -> None:
    filled(store)
    assert [part.market.name for part in store.load(catalog("AONE"), EVER).parts] == []
    store.flush([Part(market=A, last_units=1)], Position(number=7, deal_id=4))
    assert of(store.load(CATALOG, EVER), "BTWO").last_units == 8


def test_a_file_that_another_holds_is_tried_again(
    path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("market.file_store.BUSY_TIMEOUT_S", 0.01)
    filled(store)
    part = Part(market=B, last_units=9, ticks=ticks(5))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreDown, match="locked"):
            store.flush([part], Position(number=8, deal_id=5))
        other.execute("ROLLBACK")
    store.flush([part], Position(number=8, deal_id=5))
    assert_equal(of(store.load(CATALOG, EVER), "BTWO").ticks, ticks(4, 5))


def test_a_full_disk_stores_nothing_of_a_flush(path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 20")
    large = {Resolution.SEC: candles(*range(100_000))}
    with pytest.raises(StoreDown, match="full"):
        store.flush([Part(market=B, last_units=9, candles=large)], Position(number=8, deal_id=4))
    assert store.load(CATALOG, EVER).position == Position(number=6, deal_id=4)
    store.flush([Part(market=B, last_units=9, candles=large)], Position(number=8, deal_id=4))
    assert_equal(of(store.load(CATALOG, EVER), "BTWO").candles[Resolution.SEC], large[Resolution.SEC])


def test_a_folder_in_the_place_of_the_file_is_told(path: Path, store: FileStore) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreDown, match=r"market\.db"):
        store.load(CATALOG, EVER)


def test_columns_of_both_kinds_are_read(path: Path, store: FileStore) -> None:
    """Sums that fit 64 bits and such that don't, within one file."""
    store.load(CATALOG, EVER)
    made = candles(*range(4))
    made["money_units"] = [(-1, 0), (-1, 1), (7, 0), (0, 1)]
    store.flush([Part(market=A, candles={Resolution.SEC: made})], Position(number=1))
    found = of(store.load(CATALOG, EVER)).candles[Resolution.SEC]
    assert_equal(found, made)
    with closing(sqlite3.connect(path)) as file:
        kinds = [kind for (kind,) in file.execute("SELECT typeof(money_units) FROM candles_1s ORDER BY start")]
    assert kinds == ["text", "text", "integer", "text"]
    assert np.array_equal(found["start"], range(4))
