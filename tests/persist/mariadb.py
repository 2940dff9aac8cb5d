"""A private MariaDB for tests, and an empty history in it.

def test_something(mysql_settings: Settings) -> None:
    writer = MySqlWriter(mysql_settings)

One server serves a test session, and one database of it the tests that need no other: it takes longer to make five
hundred tables than to empty them. The server is as durable as it comes; tests may kill it and start it again.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymysql
import pytest

from conf.settings import History, Settings, load
from persist import mysql_schema
from persist.mysql_address import parse
from persist.mysql_link import connected
from supervisor.bench.mariadb import SEARCH_PATH, MariaDb, private
from tests.persist import viabtc
from tests.reference.history import Tables

OPTIONS = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M")
TIMEOUT_S = 60.0
MEMORY = Path("/dev/shm")
MEMORY_LEAST = 1 << 30
_numbers = itertools.count(1)


@contextmanager
def server(folder: Path) -> Iterator[MariaDb]:
    """A server in `folder`, which is not there yet. Skips the test where MariaDB is not installed."""
    if shutil.which("mariadbd", path=SEARCH_PATH) is None:
        pytest.skip("mariadbd is not installed")
    with private(folder, OPTIONS) as running:
        yield running


def quick_folder() -> Path | None:
    """Memory, where it is a folder: five hundred tables are made there in a fraction of the time. None: none is free.

    What a server has written survives when that is killed, there as on a disk.
    """
    has_room = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_LEAST
    return MEMORY if has_room else None


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """The session's server."""
    place = TemporaryDirectory(prefix="tradepit-mariadb-", dir=quick_folder())
    with place as folder, server(Path(folder) / "server") as running:
        yield running


@pytest.fixture
def mysql_settings(mariadb: MariaDb, tmp_path: Path) -> Settings:
    """Settings of an exchange whose history is empty, in tables as `pit history init` makes them."""
    settings = settings_of(mariadb, tmp_path)
    emptied(settings)
    return settings


@pytest.fixture
def viabtc_settings(mariadb: MariaDb, tmp_path: Path) -> Settings:
    """The same, in tables as ViaBTC's scripts make them."""
    settings = settings_of(mariadb, tmp_path, "viabtc")
    if not ask(settings, "SHOW DATABASES LIKE 'viabtc'"):
        ask(settings, viabtc.database("viabtc"))
        ask(settings, *viabtc.creation())
    emptied(settings)
    return settings


def settings_of(mariadb: MariaDb, folder: Path, database: str = "trade_history") -> Settings:
    """Settings of an exchange with a history in a database that may not be there."""
    settings = replace(
        load(None, folder),
        instance=f"mysql-{os.getpid()}-{next(_numbers)}",
        history=History(store=mariadb.address(database)),
    )
    settings.paths.make()
    return settings


def emptied(settings: Settings) -> None:
    """Make what is missing of a history, and delete all its rows."""
    address = parse(settings.history.store)
    with connected(address, timeout_s=TIMEOUT_S) as connection, connection.cursor() as cursor:
        for _ in mysql_schema.make(connection, address, mysql_schema.missing(connection, address)):
            pass
        connection.select_db(address.database)
        for family in mysql_schema.FAMILIES:
            for name in mysql_schema.tables(family):
                cursor.execute(f"DELETE FROM {name}")
        cursor.execute(f"DELETE FROM {mysql_schema.POSITION_TABLE}")
        connection.commit()


def ask(settings: Settings, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the last statement, asked past the store, in its database if it is there; all is committed."""
    address = parse(settings.history.store)
    with connected(address, timeout_s=TIMEOUT_S) as connection, connection.cursor() as cursor:
        with suppress(pymysql.err.OperationalError):
            connection.select_db(address.database)
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
        return list(cursor.fetchall())


def wanted(tables: Tables) -> Tables:
    """The tables of the twin as `stored` gives them: those of orders by their ids."""
    return {name: sorted(rows, key=lambda row: row["id"]) if "id" in rows[0] else rows for name, rows in tables.items()}


def stored(settings: Settings) -> Tables:
    """All tables that have rows, each with its rows by their ids; a table's own ids are left out."""
    address = parse(settings.history.store)
    tables: Tables = {}
    with connected(address, timeout_s=TIMEOUT_S) as connection, connection.cursor() as cursor:
        connection.select_db(address.database)
        for family in mysql_schema.FAMILIES:
            columns = family.inserted_list
            for name in mysql_schema.tables(family)[1:]:
                cursor.execute(f"SELECT {columns} FROM {name} ORDER BY id")
                names = columns.replace("`", "").split(",")
                if rows := [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]:
                    tables[name] = rows
    return tables
