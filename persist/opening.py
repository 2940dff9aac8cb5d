"""Which store of the history: by [history] store. MySQL's modules are imported where they are used."""

from conf.settings import Settings
from persist.sqlite_reader import SqliteReader
from persist.sqlite_store import SqliteWriter
from persist.store import Reader, Writer

SQLITE = "sqlite"


def writer_of(settings: Settings) -> Writer:
    """The recorder's side of the store; nothing is opened yet. Raises StoreWrong for an address that is none."""
    if settings.history.store == SQLITE:
        return SqliteWriter(settings)
    from persist.mysql_store import MySqlWriter

    return MySqlWriter(settings)


def reader_of(settings: Settings) -> Reader:
    """The history processes' side. Raises StoreWrong."""
    if settings.history.store == SQLITE:
        return SqliteReader(settings)
    from persist.mysql_reader import MySqlReader

    return MySqlReader(settings)


def name_of(settings: Settings) -> str:
    """Where the store is, for people; without a password."""
    if settings.history.store == SQLITE:
        return str(settings.paths.history_file)
    from persist.mysql_address import parse

    return str(parse(settings.history.store))
