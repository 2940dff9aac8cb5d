"""A connection to MySQL or MariaDB whose mood is known: character set, SQL mode and time limits are set, not found.

What PyMySQL raises becomes StoreDown or StoreWrong here. What is not known to stay wrong until somebody acts counts as
down: to try again costs less than to give up.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import pymysql
from pymysql.constants import CR, ER

from persist.mysql_address import Address
from persist.store import StoreDown, StoreWrong

CONNECT_TIMEOUT_S = 5.0
CHARSET = "utf8mb4"
DENIED = {
    ER.ACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
    1698,  # access denied, without a password
    1862,  # the password has expired
    1251,  # the server wants another way of authentication
    CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
}
ABSENT = {ER.BAD_DB_ERROR, ER.NO_SUCH_TABLE}
UNFIT = {
    ER.BAD_FIELD_ERROR,
    ER.WRONG_VALUE_COUNT_ON_ROW,
    ER.BAD_NULL_ERROR,
    ER.NO_REFERENCED_ROW_2,
    ER.SP_DOES_NOT_EXIST,  # of a trigger
    1364,  # a column of somebody's own, without a default
    1644,  # a trigger's own error
    3819,  # a check constraint, in MySQL
    4025,  # and in MariaDB
}
FOREIGN = {ER.PARSE_ERROR, ER.UNKNOWN_SYSTEM_VARIABLE, ER.UNKNOWN_CHARACTER_SET, ER.UNKNOWN_COLLATION, 1426, 1665}

if TYPE_CHECKING:
    Connection: TypeAlias = pymysql.connections.Connection[Any]
else:
    Connection = pymysql.connections.Connection


def connect(address: Address, *, timeout_s: float, sql_mode: str, flags: int = 0) -> Connection:
    """A connection without a database; an answer may take `timeout_s`. Raises StoreDown, StoreWrong."""
    with trouble(address):
        return pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            charset=CHARSET,
            sql_mode=sql_mode,
            init_command="SET time_zone = '+00:00', sql_notes = 0",
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=timeout_s,
            write_timeout=timeout_s,
            client_flag=flags,
            program_name="tradepit",
        )


def disconnect(connection: Connection | None) -> None:
    """Close what may be broken already."""
    if connection is not None:
        with suppress(pymysql.err.Error):
            connection.close()


def is_mariadb(connection: Connection) -> bool:
    """Or it is MySQL."""
    return "mariadb" in str(connection.get_server_info()).lower()  # type: ignore[no-untyped-call]


@contextmanager
def trouble(address: Address) -> Iterator[None]:
    """Raise what the server refuses, and what happens to the connection, as StoreDown or StoreWrong."""
    try:
        yield
    except pymysql.err.Error as error:
        raise explained(error, address) from None
    except RuntimeError as error:  # PyMySQL lacks the package that a way of authentication needs
        raise StoreWrong(f"{address}: {error}; or let the user have a password of mysql_native_password") from None


def number_of(error: pymysql.err.Error) -> int:
    """The server's or the client's number of it; 0: it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def explained(error: pymysql.err.Error, address: Address) -> StoreDown | StoreWrong:
    """The same in our words: what happened, and what to do."""
    number = number_of(error)
    said = f"{address}: {error.args[1] if number and len(error.args) > 1 else error or 'the connection is lost'}"
    if number in DENIED:
        return StoreWrong(f"{said}; check user and password, and GRANT CREATE, SELECT, INSERT, UPDATE on the database")
    if number in ABSENT:
        return StoreWrong(f"{said}; run `pit history init`")
    if number in UNFIT:
        return StoreWrong(f"{said}; the table is not as `pit history init` makes it")
    if number in FOREIGN:
        return StoreWrong(f"{said}; MariaDB from 10.3 or MySQL from 5.7 is needed, with its usual settings")
    return StoreDown(said)
