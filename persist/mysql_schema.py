"""ViaBTC's tables of the history in MySQL: five families of 100 shards, a template of each (CONTRACT 7.2), and ours.

Made by us, a column holds whatever the engine can have: a price or an amount has at most 18 digits before and behind
the point, a balance at most 30 decimals; 35 digits before the point are more than any of them needs that has decimals.
What ViaBTC's scripts made is taken as it is: its narrow DECIMALs, its character set, its own indexes. Nothing that is
there is altered, and what is missing is made like what is there.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from persist.mysql_address import Address
from persist.mysql_link import Connection, trouble
from persist.store import StoreWrong

SHARD_COUNT = 100
TEMPLATE = "example"
POSITION_TABLE = "tradepit_position"
DDL_TIMEOUT_S = 60.0  # for one table
TABLE_OPTIONS = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"  # names are compared byte by byte


class Sort(Enum):
    """What a column holds, by the types that can."""

    INTEGER = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
    REAL = frozenset({"double"})
    NUMBER = frozenset({"decimal"})
    TEXT = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})


class Column(NamedTuple):
    """A column: its type in a table of ours, and what it must be able to hold in one that is there."""

    name: str
    definition: str
    sort: Sort


class Family(NamedTuple):
    """A hundred tables that are alike: which columns, in which order, and what they are found by."""

    name: str
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...]

    @property
    def inserted_list(self) -> str:
        """The columns that a row brings, as a statement names them: all but an id that the table counts."""
        return ",".join(f"`{column.name}`" for column in self.columns if column is not _ID)


def _integer(name: str, size: str = "BIGINT") -> Column:
    return Column(name, f"{size} UNSIGNED NOT NULL", Sort.INTEGER)


def _real(name: str) -> Column:
    return Column(name, "DOUBLE NOT NULL", Sort.REAL)


def _number(name: str, digits: int, decimals: int) -> Column:
    return Column(name, f"DECIMAL({digits}, {decimals}) NOT NULL", Sort.NUMBER)


def _text(name: str, size: str = "VARCHAR(30)") -> Column:
    return Column(name, f"{size} NOT NULL", Sort.TEXT)


_ID = Column("id", "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT", Sort.INTEGER)
_USER = _integer("user_id", "INT")
_PRICE, _AMOUNT = _number("price", 36, 18), _number("amount", 36, 18)
_FEES = (_number("fee", 65, 30), _number("deal_fee", 65, 30))
_DEAL_IDS = (_integer("deal_id"), _integer("order_id"), _integer("deal_order_id"))
_SIDE, _ROLE = _integer("side", "TINYINT"), _integer("role", "TINYINT")

_BALANCE = (
    *(_ID, _real("time"), _USER, _text("asset"), _text("business")),
    *(_number("change", 65, 30), _number("balance", 65, 30), _text("detail", "TEXT")),
)
_ORDER = (
    *(_integer("id"), _real("create_time"), _real("finish_time"), _USER, _text("market"), _text("source")),
    *(_integer("t", "TINYINT"), _SIDE, _PRICE, _AMOUNT, _number("taker_fee", 20, 18), _number("maker_fee", 20, 18)),
    *(_number("deal_stock", 55, 18), _number("deal_money", 65, 30), _number("deal_fee", 65, 30)),
)
_DEAL = (_ID, _real("time"), _USER, *_DEAL_IDS, _ROLE, _PRICE, _AMOUNT, _number("deal", 65, 30), *_FEES)
_USER_DEAL = (
    *(_ID, _real("time"), _USER, _text("market"), *_DEAL_IDS, _SIDE, _ROLE),
    *(_PRICE, _AMOUNT, _number("deal", 65, 30), *_FEES),
)

BALANCE_HISTORY = Family("balance_history", _BALANCE, (("user_id", "asset"), ("user_id", "asset", "business")))
ORDER_HISTORY = Family("order_history", _ORDER, (("user_id", "market"),))
ORDER_DETAIL = Family("order_detail", _ORDER, ())
DEAL_HISTORY = Family("deal_history", _DEAL, (("order_id",),))
USER_DEAL_HISTORY = Family("user_deal_history", _USER_DEAL, (("user_id", "market"),))
FAMILIES = (BALANCE_HISTORY, ORDER_HISTORY, ORDER_DETAIL, DEAL_HISTORY, USER_DEAL_HISTORY)

POSITION_DEFINITION = (
    "`instance` VARCHAR(32) NOT NULL PRIMARY KEY, "
    "`number` BIGINT UNSIGNED NOT NULL, "  # of the last event whose rows are stored
    "`time` DOUBLE NOT NULL"  # of that event
)


def table(family: Family, key: int) -> str:
    """The name of the shard that holds the rows of a user or an order."""
    return f"{family.name}_{key % SHARD_COUNT}"


def tables(family: Family) -> list[str]:
    """The names of a family's tables, the template first."""
    return [f"{family.name}_{TEMPLATE}", *(table(family, shard) for shard in range(SHARD_COUNT))]


class Step(NamedTuple):
    """One thing to make."""

    name: str
    statement: str


def plan(database: str, present: set[str] | None) -> list[Step]:
    """What is to be made when these tables are there; None is no database."""
    steps = []
    if present is None:
        made_as = "DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        steps.append(Step(f"database {database}", f"CREATE DATABASE IF NOT EXISTS `{database}` {made_as}"))
    present = present or set()
    for family in FAMILIES:
        names = tables(family)
        pattern = next((name for name in names if name in present), None)
        for name in names:
            if name not in present:
                steps.append(Step(name, _creation(database, name, family, pattern)))
                pattern = pattern or name
    if POSITION_TABLE not in present:
        steps.append(Step(POSITION_TABLE, _create(database, POSITION_TABLE, POSITION_DEFINITION)))
    return steps


def _creation(database: str, name: str, family: Family, pattern: str | None) -> str:
    if pattern is not None:
        return f"CREATE TABLE IF NOT EXISTS `{database}`.`{name}` LIKE `{database}`.`{pattern}`"
    parts = [f"`{column.name}` {column.definition}" for column in family.columns]
    parts.append("PRIMARY KEY (`id`)")
    parts += [f"INDEX ({', '.join(f'`{column}`' for column in columns)})" for columns in family.indexes]
    return _create(database, name, ", ".join(parts))


def _create(database: str, name: str, definition: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS `{database}`.`{name}` ({definition}) {TABLE_OPTIONS}"


def missing(connection: Connection, address: Address) -> list[Step]:
    """What `make` has to do for the history to be whole. Raises StoreDown, StoreWrong."""
    with trouble(address), connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", (address.database,))
        if not cursor.fetchall():
            return plan(address.database, None)
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (address.database,))
        return plan(address.database, {name for (name,) in cursor.fetchall()})


def make(connection: Connection, address: Address, steps: list[Step]) -> Iterator[str]:
    """Take the steps, and give the name of each thing that is made. Raises StoreDown, StoreWrong."""
    with connection.cursor() as cursor:
        for step in steps:
            with trouble(address):
                cursor.execute(step.statement)
            yield step.name


def summary(made: list[str]) -> list[str]:
    """What `make` has made, as lines for people: the shards of a family are one."""
    lines = []
    shards: set[str] = set()
    for family in FAMILIES:
        found = [name for name in tables(family)[1:] if name in set(made)]
        shards.update(found)
        if found:
            lines.append(f"{found[0]} .. {found[-1]}: {len(found)} tables" if len(found) > 1 else found[0])
    return [*(name for name in made if name not in shards), *lines]


def check(connection: Connection, address: Address) -> None:
    """See whether all tables can hold a history; narrow columns can. Raises StoreDown, StoreWrong."""
    with trouble(address), connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = %s", (address.database,)
        )
        engines = dict(cursor.fetchall())
        cursor.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = %s",
            (address.database,),
        )
        found = {(str(name), str(column).lower()): str(kind).lower() for name, column, kind in cursor.fetchall()}
    for family in FAMILIES:
        for name in tables(family)[1:]:
            if engines.get(name) != "InnoDB":
                raise StoreWrong(
                    f"{address}: table {name} is of engine {engines.get(name)}, which knows no transactions: "
                    f"ALTER TABLE {name} ENGINE=InnoDB"
                )
            for column in family.columns:
                _check_column(address, name, column, found.get((name, column.name)))


def _check_column(address: Address, name: str, column: Column, kind: str | None) -> None:
    if kind is None:
        raise StoreWrong(f"{address}: table {name} has no column {column.name}: it is not ViaBTC's")
    if kind not in column.sort.value:
        raise StoreWrong(f"{address}: column {column.name} of {name} is {kind}: it must be {column.definition}")
