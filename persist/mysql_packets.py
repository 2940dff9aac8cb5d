"""Rows as statements, and statements as packets: few enough round trips, none longer than the server takes."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from persist import mysql_schema
from persist.mysql_rows import Shards
from persist.mysql_schema import Family


class Packet(NamedTuple):
    """Statements that are sent together, and the table that each is for."""

    tables: list[str]
    data: bytes


def statements(database: str, families: Iterable[tuple[Family, Shards]], size_max: int) -> Iterator[tuple[str, str]]:
    """The INSERTs of some families' rows, hardly longer than `size_max`, each with its table."""
    for family, shards in families:
        columns = family.inserted_list
        for shard, rows in enumerate(shards):
            table = mysql_schema.table(family, shard)
            for part in parts(rows, size_max):
                yield table, f"INSERT INTO `{database}`.`{table}` ({columns}) VALUES {','.join(part)}"


def parts(rows: list[str], size_max: int) -> Iterator[list[str]]:
    """The rows in lists of up to `size_max` characters; a longer row stands alone."""
    if len(rows) <= 1 or sum(map(len, rows)) + len(rows) <= size_max:
        return iter([rows] if rows else [])
    middle = len(rows) // 2
    return chain(parts(rows[:middle], size_max), parts(rows[middle:], size_max))


def packed(found: Iterable[tuple[str, str]], size_max: int) -> Iterator[Packet]:
    """The statements in packets: one ends with the statement that makes it `size_max` long, or longer."""
    tables: list[str] = []
    texts: list[str] = []
    size = 0
    for table, text in found:
        tables.append(table)
        texts.append(text)
        size += len(text)
        if size >= size_max:
            yield Packet(tables, ";".join(texts).encode("ascii"))
            tables, texts, size = [], [], 0
    if texts:
        yield Packet(tables, ";".join(texts).encode("ascii"))
