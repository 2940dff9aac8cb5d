"""A private MariaDB for tests, and an empty history in it.

def test_something(history: Settings) -> None:
    writer = MySqlWriter(history)

One server serves a test session, and one database of it the tests that need no other: it takes longer to make five
hundred tables than to empty them. The server is as durable as it comes; tests may kill it and start it again.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from conf.settings import History, Settings, load
from persist import mysql_schema
from persist.mysql_address import Address, parse
from persist.mysql_link import connected
from supervisor.bench.mariadb import SEARCH_PATH, MariaDb, private

OPTIONS = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M")
TIMEOUT_S = 60.0
_numbers = itertools.count(1)


@contextmanager
def server(folder: Path) -> Iterator[MariaDb]:
    """A server in `folder`, which is not there yet. Skips the test where MariaDB is not installed."""
    if shutil.which("mariadbd", path=SEARCH_PATH) is None:
        pytest.skip("mariadbd is not installed")
    with private(folder, OPTIONS) as running:
        yield running


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """The session's server."""
    with server(tmp_path_factory.mktemp("mariadb") / "server") as running:
        yield running


@pytest.fixture
def history(mariadb: MariaDb, tmp_path: Path) -> Settings:
    """Settings of an exchange whose history is empty, in tables as `pit history init` makes them."""
    settings = settings_of(mariadb, tmp_path)
    with pymysql.connect(**mariadb.account, client_flag=CLIENT.MULTI_STATEMENTS) as connection:
        address = parse(settings.history.store)
        steps = mysql_schema.missing(connection, address)
        assert len(list(mysql_schema.make(connection, address, steps))) == len(steps)
        empty(connection, address.database)
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


def empty(connection: Any, database: str) -> None:
    """Delete all rows of a history."""
    names = [name for family in mysql_schema.FAMILIES for name in mysql_schema.tables(family)]
    with connection.cursor() as cursor:
        cursor.execute(";".join(f"DELETE FROM `{database}`.`{name}`" for name in [*names, mysql_schema.POSITION_TABLE]))
        while cursor.nextset():
            pass
    connection.commit()


def ask(settings: Settings, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the server says, asked past the store; what it changes is committed."""
    address = parse(settings.history.store)
    with connected(address, timeout_s=TIMEOUT_S) as connection, connection.cursor() as cursor:
        if database_exists(cursor, address):
            connection.select_db(address.database)
        cursor.execute(statement, values)
        rows = list(cursor.fetchall())
        connection.commit()
        return rows


def database_exists(cursor: Any, address: Address) -> bool:
    cursor.execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", (address.database,))
    return bool(cursor.fetchall())


def stored(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """All tables that have rows, each with its rows as they were inserted; a table's own ids are left out."""
    address = parse(settings.history.store)
    tables = {}
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
