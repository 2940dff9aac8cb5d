"""The tables of the history in MySQL: made where they are missing, left alone where they are, refused where unfit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from conf.settings import History, Settings
from persist.commands import history
from persist.mysql_address import parse
from persist.mysql_schema import FAMILIES, POSITION_TABLE, plan, tables
from persist.mysql_store import MySqlWriter
from persist.store import StoreWrong
from supervisor.bench.mariadb import MariaDb
from tests.golden import player as golden
from tests.persist import viabtc
from tests.persist.mariadb import ask, settings_of

TABLE_COUNT = 5 * 101 + 1


@pytest.fixture
def nowhere(mariadb: MariaDb, tmp_path: Path) -> Iterator[Settings]:
    """Settings of an exchange whose database is not there yet."""
    settings = settings_of(mariadb, tmp_path, "nowhere_yet")
    ask(settings, "DROP DATABASE IF EXISTS nowhere_yet")
    yield settings
    ask(settings, "DROP DATABASE IF EXISTS nowhere_yet")


def init(settings: Settings) -> str:
    """What `pit history init` prints; it must succeed."""
    conf_file = settings.data_dir / "init.toml"
    conf_file.write_text(f'[history]\nstore = "{settings.history.store}"\n')
    done = CliRunner().invoke(history, ["init", "--conf", str(conf_file)])
    assert done.exit_code == 0, done.output
    return done.output


def names(settings: Settings) -> list[str]:
    return [name for (name,) in ask(settings, "SHOW TABLES")]


def opened(settings: Settings) -> int:
    writer = MySqlWriter(settings)
    try:
        return writer.open()
    finally:
        writer.close()


def test_init_makes_everything_once(nowhere: Settings) -> None:
    printed = init(nowhere)
    assert "made database nowhere_yet" in printed
    assert "made balance_history_0 .. balance_history_99: 100 tables" in printed
    assert parse(nowhere.history.store).password not in printed
    assert len(names(nowhere)) == TABLE_COUNT
    ask(nowhere, f"INSERT INTO {POSITION_TABLE} VALUES ('{nowhere.instance}', 7, 0)")
    assert init(nowhere) == "Nothing was missing.\n"
    assert opened(nowhere) == 7


def recorded_columns(family: str) -> list[str]:
    """The columns of a family as they were recorded from the original."""
    rows = (json.loads(line) for line in (golden.FOLDER / "side-31" / "mysql.jsonl").read_text().splitlines())
    return next(row["columns"] for row in rows if row["table"].startswith(f"trade_history.{family}_"))


def test_columns_and_indexes_are_those_of_viabtc(nowhere: Settings) -> None:
    init(nowhere)
    for family in FAMILIES:
        own = f"{family.name}_42"
        ask(nowhere, f"CREATE TABLE original ({viabtc.DEFINITIONS[family.name]})")
        for table in (own, "original"):
            assert [row[0] for row in ask(nowhere, f"SHOW COLUMNS FROM {table}")] == recorded_columns(family.name)
        assert indexes(nowhere, own) == indexes(nowhere, "original")
        ask(nowhere, "DROP TABLE original")


def indexes(settings: Settings, table: str) -> list[list[str]]:
    """The columns of each index, in their order."""
    rows = ask(settings, f"SHOW INDEX FROM {table}")
    return sorted([row[4] for row in rows if row[2] == name] for name in {row[2] for row in rows})


def test_init_completes_what_is_half_made(nowhere: Settings) -> None:
    init(nowhere)
    ask(nowhere, "ALTER TABLE deal_history_9 ADD COLUMN ours INT NULL")
    ask(nowhere, *(f"DROP TABLE deal_history_{name}" for name in ("example", 0, 1, 2, 3, 4, 5, 6, 7, 8, 77)))
    ask(nowhere, "DROP TABLE order_detail_99", f"DROP TABLE {POSITION_TABLE}")
    assert init(nowhere).splitlines()[1:] == [
        "made deal_history_example",
        f"made {POSITION_TABLE}",
        "made order_detail_99",
        "made deal_history_0 .. deal_history_77: 10 tables",
    ]
    assert len(names(nowhere)) == TABLE_COUNT
    assert "`ours`" in ask(nowhere, "SHOW CREATE TABLE deal_history_77")[0][1], "made like one that was there"


def test_the_recorder_makes_what_is_missing_if_it_may(nowhere: Settings, mariadb: MariaDb) -> None:
    ask(nowhere, "CREATE OR REPLACE USER recorder@'127.0.0.1' IDENTIFIED BY 'r'")
    store = f"mysql://recorder:r@127.0.0.1:{mariadb.port}/nowhere_yet"
    limited = replace(nowhere, history=History(store=store))
    with pytest.raises(StoreWrong, match=r"denied.*pit history init.* CREATE"):
        opened(limited)
    ask(nowhere, "CREATE DATABASE nowhere_yet", "GRANT SELECT, INSERT, UPDATE ON nowhere_yet.* TO recorder@'127.0.0.1'")
    with pytest.raises(StoreWrong, match=r"denied.*506 missing"):
        opened(limited)
    assert opened(nowhere) == 0
    assert opened(limited) == 0, "no more rights are needed"


@pytest.mark.parametrize(("change", "text"), [
    ("ALTER TABLE order_history_3 ENGINE=MyISAM", r"order_history_3.*transactions.*ENGINE=InnoDB"),
    ("ALTER TABLE deal_history_7 DROP COLUMN fee", r"deal_history_7 has no column fee"),
    ("ALTER TABLE balance_history_0 MODIFY `change` DOUBLE", r"change of balance_history_0 is double"),
    ("ALTER TABLE balance_history_0 MODIFY time FLOAT", r"time of balance_history_0 is float"),
    ("ALTER TABLE order_detail_9 MODIFY source INT", r"source of order_detail_9 is int"),
    ("CREATE OR REPLACE VIEW user_deal_history_1 AS SELECT * FROM user_deal_history_2", r"user_deal_history_1"),
])  # fmt: skip
def test_a_table_that_cannot_hold_a_history_is_refused(nowhere: Settings, change: str, text: str) -> None:
    init(nowhere)
    if "VIEW" in change:
        ask(nowhere, "DROP TABLE user_deal_history_1")
    ask(nowhere, change)
    with pytest.raises(StoreWrong, match=text):
        opened(nowhere)


def test_a_server_that_takes_small_packets_only_is_refused(mysql_settings: Settings) -> None:
    ask(mysql_settings, "SET GLOBAL max_allowed_packet = 65536")
    try:
        with pytest.raises(StoreWrong, match="max_allowed_packet"):
            opened(mysql_settings)
    finally:
        ask(mysql_settings, "SET GLOBAL max_allowed_packet = 16777216")


def test_a_plan_makes_each_family_like_what_is_there() -> None:
    assert len(plan("d", None)) == 1 + TABLE_COUNT
    assert plan("d", {POSITION_TABLE, *(name for family in FAMILIES for name in tables(family))}) == []
    (step,) = plan(
        "d", {POSITION_TABLE, *(name for family in FAMILIES for name in tables(family))} - {"order_detail_4"}
    )
    assert step.statement == "CREATE TABLE IF NOT EXISTS `d`.`order_detail_4` LIKE `d`.`order_detail_example`"
