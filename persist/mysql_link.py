"""A connection to MySQL or MariaDB whose mood is known: character set, SQL mode and time limits are set, not found.

What PyMySQL raises becomes StoreDown or StoreWrong here. What is not known to stay wrong until somebody acts counts as
down: to try again costs less than to give up.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import pymysql
from pymysql.constants import CR, ER

from persist.mysql_address import Address
from persist.store import StoreDown, StoreWrong

CONNECT_TIMEOUT_S = 5.0
ANSWER_MARGIN_S = 1.0  # behind the server's own limit of a question: then the connection is given up
CHARSET = "utf8mb4"
# Not strict: what a narrow column of ViaBTC's can't hold is clipped to what it can. '..' is a text, \ escapes in it.
SQL_MODE = "NO_ENGINE_SUBSTITUTION"
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
FOREIGN = {
    ER.PARSE_ERROR,
    ER.UNKNOWN_SYSTEM_VARIABLE,
    ER.UNKNOWN_CHARACTER_SET,
    ER.UNKNOWN_COLLATION,
    1426,  # too many digits for a DECIMAL
}
LOST = {0, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, 1053, 1927, 4031}  # shut down, killed, idle for too long

if TYPE_CHECKING:
    Connection: TypeAlias = pymysql.connections.Connection[Any]
else:
    Connection = pymysql.connections.Connection

Rows: TypeAlias = Sequence[tuple[Any, ...]]


def connect(address: Address, *, timeout_s: float, flags: int = 0) -> Connection:
    """A connection without a database; an answer may take `timeout_s`. Raises StoreDown, StoreWrong."""
    with trouble(address):
        return pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password.encode(),  # PyMySQL itself would take Latin-1
            charset=CHARSET,
            sql_mode=SQL_MODE,
            init_command="SET time_zone = '+00:00', sql_notes = 0",
            connect_timeout=min(CONNECT_TIMEOUT_S, timeout_s),
            read_timeout=timeout_s,
            write_timeout=timeout_s,
            client_flag=flags,
            program_name="tradepit",
        )


@contextmanager
def connected(address: Address, *, timeout_s: float) -> Iterator[Connection]:
    """The same, for a while."""
    connection = connect(address, timeout_s=timeout_s)
    try:
        yield connection
    finally:
        disconnect(connection)


def disconnect(connection: Connection | None) -> None:
    """Close what may be broken already."""
    if connection is not None:
        with suppress(pymysql.err.Error):
            connection.close()


def is_mariadb(connection: Connection) -> bool:
    """Or it is MySQL."""
    return "mariadb" in str(connection.get_server_info()).lower()  # type: ignore[no-untyped-call]


class Asker:
    """Who reads: questions one at a time, each with a time limit and outside of transactions.

    It connects with the first question, and again when the connection was lost.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    def ask(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """All rows of a SELECT, whose %s are replaced by values. Raises StoreDown."""
        is_used = self._connection is not None
        began_s = time.monotonic()
        try:
            return self._try(statement, values)
        except StoreWrong as error:
            self.close()
            raise StoreDown(str(error)) from None
        except StoreDown as error:
            self.close()
            # It may have died since the last question. Then this one is asked again; not what took too long.
            is_stale = is_used and number_of(error.__context__) in LOST
            if not is_stale or time.monotonic() - began_s >= self._timeout_s:
                raise
        return self.ask(statement, values)

    def close(self) -> None:
        """Disconnect."""
        disconnect(self._connection)
        self._connection = None

    def _try(self, statement: str, values: Sequence[Any]) -> Rows:
        self._connection = self._connection or self._connected()
        with trouble(self.address), self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            rows: Rows = cursor.fetchall()
            return rows

    def _connected(self) -> Connection:
        connection = connect(self.address, timeout_s=self._timeout_s + ANSWER_MARGIN_S)
        with trouble(self.address), connection.cursor() as cursor:
            connection.autocommit(True)
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY")
            if is_mariadb(connection):
                cursor.execute("SET max_statement_time = %s", (self._timeout_s,))
            else:
                cursor.execute("SET max_execution_time = %s", (int(self._timeout_s * 1000),))
        return connection


@contextmanager
def trouble(address: Address) -> Iterator[None]:
    """Raise what the server refuses, and what happens to the connection, as StoreDown or StoreWrong."""
    try:
        yield
    except pymysql.err.Error as error:
        raise explained(error, address) from error
    except RuntimeError as error:  # PyMySQL lacks the package that a way of authentication needs
        raise StoreWrong(f"{address}: {error}; or give the user a password of mysql_native_password") from error


def number_of(error: BaseException | None) -> int | None:
    """The server's or PyMySQL's number of an error; 0: the connection is closed."""
    if isinstance(error, pymysql.err.Error) and error.args and isinstance(error.args[0], int):
        return error.args[0]
    return None


def explained(error: pymysql.err.Error, address: Address) -> StoreDown | StoreWrong:
    """The same in our words: what happened, and what to do."""
    number = number_of(error)
    text = "the connection is lost" if number == 0 else str(error.args[-1] if error.args else error)
    said = f"{address}: {text}"
    if number in DENIED:
        return StoreWrong(f"{said}; check user and password, and GRANT CREATE, SELECT, INSERT, UPDATE on the database")
    if number in ABSENT:
        return StoreWrong(f"{said}; run `pit history init`")
    if number in UNFIT:
        return StoreWrong(f"{said}; the table is not as `pit history init` makes it")
    if number in FOREIGN:
        return StoreWrong(f"{said}; MariaDB from 10.3 or MySQL from 5.7 is needed")
    return StoreDown(said)
