"""The same conversations with the history in MariaDB: the replies are those of the original, and so are the rows.

The recorded tables (side-31/mysql.jsonl) hold what the original's columns round; ours keep more decimals, and are
rounded here, half away from zero, to as many as were recorded.
"""

import json
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pymysql
import pytest

from conf.settings import Settings
from supervisor.bench.mariadb import MariaDb
from tests.golden import player
from tests.process.test_golden import check, played

RECORDED_ROWS = player.FOLDER / "side-31" / "mysql.jsonl"
DATABASE = "trade_history"  # the recorded one
OWN_DATABASE = "side_31"
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)

Row = dict[str, Any]


class Table(NamedTuple):
    """A recorded table: its name, and its rows by their ids."""

    name: str
    rows: list[Row]


def recorded() -> list[Table]:
    """The tables of the history that the original left behind."""
    tables = []
    for line in RECORDED_ROWS.read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        database, _, name = document["table"].partition(".")
        if database == DATABASE:
            tables.append(Table(name, [dict(zip(document["columns"], row, strict=True)) for row in document["rows"]]))
    return tables


def stored(connection: Any, name: str) -> list[Row]:
    """The rows of one of our tables, in the order of their ids."""
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(f"SELECT * FROM `{name}` ORDER BY id")
        return list(cursor.fetchall())


def names(connection: Any) -> list[str]:
    """Our tables of the five families that hold anything."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW TABLES LIKE '%\\_history\\_%'")
        tables = [name for (name,) in cursor.fetchall()]
        cursor.execute("SHOW TABLES LIKE 'order\\_detail\\_%'")
        tables += [name for (name,) in cursor.fetchall()]
    return sorted(name for name in tables if stored(connection, name))


def as_recorded(row: Row, wanted: Row) -> Row:
    """A row of ours as the recording has it: numbers as text with so many decimals, and its times."""
    return {column: _as_recorded(value, wanted[column]) for column, value in row.items()}


def _as_recorded(value: Any, wanted: Any) -> Any:
    if isinstance(value, float):
        return wanted
    return str(value.quantize(Decimal(wanted), context=_EXACT)) if isinstance(value, Decimal) else value


@pytest.mark.parametrize("path", player.files("history"), ids=lambda path: path.stem)
def test_every_reply_is_the_recorded_one(path: Path, tmp_path: Path, mysql_settings: Settings) -> None:
    check(played(path, tmp_path, history={"store": mysql_settings.history.store}), path)


def test_the_rows_are_the_recorded_ones_and_so_is_every_reply(tmp_path: Path, mariadb: MariaDb) -> None:
    path = RECORDED_ROWS.parent.with_suffix(".jsonl")
    check(played(path, tmp_path, history={"store": mariadb.address(OWN_DATABASE)}), path)  # its ids start at 1
    with pymysql.connect(**mariadb.account, database=OWN_DATABASE) as connection:
        assert names(connection) == sorted(table.name for table in recorded())
        for table in recorded():
            found = stored(connection, table.name)
            assert len(found) == len(table.rows), table.name
            for row, wanted in zip(found, table.rows, strict=True):
                assert as_recorded(row, wanted) == wanted, table.name
