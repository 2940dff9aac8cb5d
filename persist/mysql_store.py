"""The history in ViaBTC's tables of MySQL or MariaDB: the writer.

A batch is one transaction: the new position, under the condition that the old one still stands, then hundreds of
INSERTs, some megabytes of them a packet, so that the server does not wait for us nor we for each of its answers. A
thread of our own speaks to the server. So rows of the next family are made while those of the one before are stored,
and the heart beats while a slow server is waited for.

SQL is not strict here: what a narrow column of ViaBTC's can't hold is rounded, clipped or replaced by the server to
what it can, as little as possible, and the operator is told. Nothing a trader sends stops the recorder.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pymysql
from pymysql.constants import CLIENT, ER

from bus.catalog import Catalog
from bus.messages import Frame
from conf.alert import alert
from conf.settings import Settings
from persist import mysql_schema
from persist.mysql_address import Address, parse
from persist.mysql_link import Connection, connect, disconnect, is_mariadb, number_of, trouble
from persist.mysql_packets import Packet, packed, statements
from persist.mysql_rows import change_rows, deal_rows, order_rows, read
from persist.mysql_schema import POSITION_TABLE
from persist.store import StoreDown, StoreWrong
from persist.waiting import waited

PROCESS = "recorder"  # whom alerts are from
TIMEOUT_S = 30.0  # for the answer to a packet, or to a COMMIT on a slow disk
LOCK_TIMEOUT_S = 10
PART_SIZE = 1 << 20  # of a statement and of a packet, which becomes up to twice that long
PACKET_SIZE_LEAST = 256 << 10  # the server's limit: a detail of 8 KiB may become a row of 50
NAMES_SIZE = 4 << 10  # of a table and its columns
_duplicate_of = re.compile(r"Duplicate entry '(\d+)' for key '(?:\w+\.)?PRIMARY'").match

NEVER = Packet([], b"")  # in the place of the last packet: nothing is to be stored
Packets = SimpleQueue[Packet | None]  # None: that was all


class MySqlWriter:
    """The recorder's side of the store."""

    def __init__(self, settings: Settings) -> None:
        """Raises StoreWrong for an address that is none."""
        self._address = parse(settings.history.store)
        self._paths = settings.paths
        self._instance = settings.instance
        self._thread: ThreadPoolExecutor | None = None
        self._session: Session | None = None
        self._clipped: set[str] = set()  # families whose operator has been told

    def open(self) -> int:
        """Connect, make tables that are missing, and return the number of the last event stored."""
        self.close()
        self._thread = ThreadPoolExecutor(1, "mysql")
        self._session = waited(self._thread.submit(Session, self._address, self._instance))
        return self._session.stored_number

    def write(self, frames: Sequence[Frame], catalog: Catalog) -> None:
        """Store the events of some frames, and their last number, in one transaction."""
        if self._thread is None or self._session is None:
            raise StoreDown(f"{self._address}: not connected")
        if not frames:
            return
        session, packets = self._session, Packets()
        assert frames[0].first == session.stored_number + 1, "events that do not follow what is stored"
        number = frames[-1].first + len(frames[-1].records) - 1
        storing = self._thread.submit(session.store, number, float(frames[-1].time), packets)
        try:
            told = read(frames, catalog)
            for families in (order_rows(told, catalog), deal_rows(told), change_rows(told)):
                found = statements(self._address.database, families, session.part_size)
                for packet in packed(found, session.part_size):
                    packets.put(packet)
            packets.put(None)
            self._tell(waited(storing))
        except BaseException:
            packets.put(NEVER)
            self.close()
            raise

    def close(self) -> None:
        """Disconnect."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _tell(self, clipped: set[str]) -> None:
        """Alert once for each family one of whose columns could not hold what came."""
        for family in mysql_schema.FAMILIES:
            found = sorted(table for table in clipped if table.rpartition("_")[0] == family.name)
            if found and family.name not in self._clipped:
                self._clipped.add(family.name)
                alert(
                    self._paths,
                    PROCESS,
                    f"{self._address}: a value was too large for its column in {found[0]} and is stored as what fits "
                    "there; columns like those of `pit history init` are wide enough",
                )


class Session:
    """A connection for writing, in the thread that uses it. Everything raises StoreDown, StoreWrong."""

    def __init__(self, address: Address, instance: str) -> None:
        self._address = address
        self._instance = instance
        self._connection = connect(address, timeout_s=TIMEOUT_S, flags=CLIENT.MULTI_STATEMENTS)
        try:
            prepare(self._connection, address)
            with trouble(address):
                self._set_up()
                self.part_size = self._part_size()
                self.stored_number = self._position()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """What is not committed is rolled back by the server."""
        disconnect(self._connection)

    def store(self, number: int, time: float, packets: Packets) -> set[str]:
        """Store the packets and the position as one transaction; return the tables that did not hold all of it."""
        clipped: set[str] = set()
        with trouble(self._address), self._connection.cursor() as cursor:
            self._move(cursor, number, time)
            while (packet := packets.get()) is not None:
                if packet is NEVER:
                    return set()
                clipped |= self._send(cursor, packet)
            cursor.execute("COMMIT")
        self.stored_number = number
        return clipped

    def _set_up(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"USE `{self._address.database}`")
            # Not READ COMMITTED: servers that log statements for their replicas would refuse it.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SET autocommit = 0")
            # Of a row, and of a table that somebody alters: shorter than ours, so that nobody waits there for nobody.
            cursor.execute(f"SET innodb_lock_wait_timeout = {LOCK_TIMEOUT_S}, lock_wait_timeout = {LOCK_TIMEOUT_S}")
            if is_mariadb(self._connection):
                # A recorder whose machine is gone must not hold its lock for ever.
                cursor.execute(f"SET max_statement_time = 0, idle_transaction_timeout = {int(TIMEOUT_S)}")

    def _part_size(self) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            size = int(cursor.fetchall()[0][0])
        if size < PACKET_SIZE_LEAST:
            raise StoreWrong(f"{self._address}: max_allowed_packet is {size}: it must be {PACKET_SIZE_LEAST} at least")
        return min(size // 2 - NAMES_SIZE, PART_SIZE)

    def _position(self) -> int:
        """The number of the last event stored, behind a transaction of ours that the server may still be in."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"INSERT IGNORE INTO {POSITION_TABLE} VALUES (%s, 0, 0)", (self._instance,))
            cursor.execute(f"SELECT number FROM {POSITION_TABLE} WHERE instance = %s FOR UPDATE", (self._instance,))
            number = int(cursor.fetchall()[0][0])
            if number == 0:
                self._refuse_shared(cursor)
            cursor.execute("COMMIT")
        return number

    def _refuse_shared(self, cursor: Any) -> None:
        """See that nobody else's history is here: of two, the changes of balances could not be told apart."""
        cursor.execute(f"SELECT instance FROM {POSITION_TABLE} WHERE instance <> %s AND number > 0", (self._instance,))
        if others := cursor.fetchall():
            raise StoreWrong(
                f"{self._address} has the history of instance {others[0][0]}: give instance {self._instance} a "
                f"database of its own; or, if that is its former name, change it in {POSITION_TABLE}"
            )

    def _move(self, cursor: Any, number: int, time: float) -> None:
        cursor.execute(
            f"UPDATE {POSITION_TABLE} SET number = %s, time = %s WHERE instance = %s AND number = %s",
            (number, time, self._instance, self.stored_number),
        )
        if cursor.rowcount != 1:
            raise StoreDown(f"{self._address}: somebody else has written as instance {self._instance}")

    def _send(self, cursor: Any, packet: Packet) -> set[str]:
        """Have a packet's statements done; return the tables of those that had to clip something."""
        clipped = set()
        place = 0
        try:
            cursor.execute(packet.data)
            while True:
                if cursor.warning_count:
                    clipped.add(packet.tables[place])
                place += 1
                if not cursor.nextset():
                    return clipped
        except pymysql.err.IntegrityError as error:
            found = _duplicate_of(str(error.args[1])) if number_of(error) == ER.DUP_ENTRY else None
            if found is None:
                raise
            raise StoreWrong(
                f"{self._address}: {packet.tables[place]} has order {found[1]} already: its rows are of another "
                "exchange, or of this one before it began anew; give it a database of its own"
            ) from None


def prepare(connection: Connection, address: Address) -> None:
    """Make what is missing, and see that all fits. Raises StoreDown, StoreWrong."""
    steps = mysql_schema.missing(connection, address)
    try:
        for _ in mysql_schema.make(connection, address, steps):
            pass
    except StoreWrong as error:
        raise StoreWrong(
            f"{error} (to make {len(steps)} missing tables: run `pit history init` with the store's address as of a "
            "user who may CREATE)"
        ) from None
    mysql_schema.check(connection, address)
