"""What came of a soak, asked of everybody who keeps some of it, after all of it has been stored."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pymysql

from bus import positions
from bus.catalog import Catalog
from bus.client import query
from bus.eventlog import Reader
from bus.messages import QueryKind
from bus.text import wide
from persist import mysql_schema
from supervisor.bench.mariadb import MariaDb
from tests.market.sentinels import dumped
from tests.process.broker import reader
from tests.process.exchange import Running
from tests.soak.checks.digests import Chain, digest
from tests.soak.load.ws import NAMES, Watcher
from tests.soak.servers import ALERT_DATABASE, DATABASE, TOPICS, Kafka, Servers
from tests.soak.wanted.history import row_digest
from tests.soak.wanted.journal import Balances

POSITION_KEY = "k:tradepit:position"
ALERT_KEY = "alert:message"
DATABASE_NAME = "trade_history"
POLL_S = 0.1
BOOK_TIMEOUT_S = 20.0
ALERTS_TIMEOUT_S = 30.0
KAFKA_QUIET_S, KAFKA_POLL_MS = 3.0, 100  # without a message: then there are no more
READ_AT_ONCE_COUNT = 10_000  # rows


@dataclass
class Gathered:
    """All of it."""

    last_number: int  # of the last event
    shown: dict[int, Any]  # balances over HTTP, by user
    bus: Balances
    last_prices: dict[str, str]
    book_faults: list[str]
    redis: dict[str, Any] = field(default_factory=dict)
    position: Any = None
    tables: dict[str, Chain] = field(default_factory=dict)
    topics: dict[str, Chain] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    alert_list: list[str] = field(default_factory=list)  # in Redis


def drain(running: Running, timeout_s: float) -> tuple[int, float, list[str]]:
    """Wait until every consumer has stored all events: the last one's number, how long it took, who has not."""
    began_s = time.monotonic()
    with running.client() as client:
        client.ping(60_000)  # answered in a later turn than the one that told of those events
    number = Reader(running.settings.paths.events_dir).durable_number
    while True:
        told = positions.told(running.settings.paths.positions_dir)
        late = [name for name in running.settings.consumers if told.get(name, -1) < number]
        took_s = time.monotonic() - began_s
        if not late or took_s > timeout_s:
            return number, took_s, [f"{name} has stored {told.get(name, 0):,} of {number:,} events" for name in late]
        time.sleep(POLL_S)


def of_exchange(servers: Servers, catalog: Catalog, users: list[int], watcher: Watcher, last_number: int) -> Gathered:
    """What the exchange itself answers, while it runs."""
    running = servers.running
    shown = {user: running.call("balance.query", user) for user in users}
    last = {name: running.call("market.last", name) for name in NAMES}
    return Gathered(last_number, shown, _on_bus(running, catalog, users), last, _book_faults(running, watcher))


def of_stores(servers: Servers, gathered: Gathered) -> None:
    """What the stores hold, and the alerts."""
    gathered.tables = dict(mysql_tables(servers.mariadb))
    gathered.topics = {topic: _messages(servers.kafka, topic) for topic in TOPICS}
    with servers.redis.master.client(DATABASE) as client:
        gathered.redis = {key: value for key, value in dumped(client).items() if key.startswith("k:")}
    gathered.position = json.loads(gathered.redis.pop(POSITION_KEY, "null"))
    gathered.alerts, gathered.alert_list = _alerts(servers)


def mysql_tables(mariadb: MariaDb) -> Iterator[tuple[str, Chain]]:
    """Each table that has rows, and the digests of its rows by their ids."""
    connection = pymysql.connect(**mariadb.account, database=DATABASE_NAME, cursorclass=pymysql.cursors.SSCursor)
    with connection, connection.cursor() as cursor:
        for family in mysql_schema.FAMILIES:
            columns = [column.name for column in family.columns if f"`{column.name}`" in family.inserted_list]
            for name in mysql_schema.tables(family)[1:]:
                cursor.execute(f"SELECT {family.inserted_list} FROM {name} ORDER BY id")
                digests = Chain()
                while rows := cursor.fetchmany(READ_AT_ONCE_COUNT):
                    for row in rows:
                        digests += row_digest(dict(zip(columns, row, strict=True)))
                if digests:
                    yield name, digests


def _alerts(servers: Servers) -> tuple[list[str], list[str]]:
    """Those of the file, and those of Redis, where all of them come in the end."""
    deadline_s = time.monotonic() + ALERTS_TIMEOUT_S
    while True:
        lines = servers.running.alerts().splitlines()
        with servers.redis.master.client(ALERT_DATABASE) as client:
            elements: Any = client.lrange(ALERT_KEY, 0, -1)
        if len(lines) == len(elements) or time.monotonic() > deadline_s:
            return lines, [element.decode() for element in elements]
        time.sleep(POLL_S)


def _messages(kafka: Kafka, topic: str) -> Chain:
    """All messages that came since the soak began."""
    found, quiet_since_s = Chain(), time.monotonic()
    with reader(kafka.address, topic, kafka.begin[topic]) as consumer:
        while time.monotonic() < quiet_since_s + KAFKA_QUIET_S:
            for message in chain.from_iterable(consumer.poll(KAFKA_POLL_MS).values()):
                found += digest(json.loads(message.value))
                quiet_since_s = time.monotonic()
    return found


def _on_bus(running: Running, catalog: Catalog, users: list[int]) -> Balances:
    """Exact balances."""
    found: Balances = {}
    with running.client() as client:
        for user in users:
            for row in client.ask(query(QueryKind.BALANCES, user_id=user), 60_000).records:
                held = wide(*row["available_units"].tolist()), wide(*row["freeze_units"].tolist())
                if any(held):
                    found[user, catalog.asset_by_index[row["asset"]].name] = held
    return found


def _book_faults(running: Running, watcher: Watcher) -> list[str]:
    """The books that a client has followed must become those that the exchange answers."""
    deadline_s = time.monotonic() + BOOK_TIMEOUT_S
    while True:
        faults = []
        for name, follower in watcher.books.items():
            wanted = running.call("order.depth", name, follower.limit, "0")
            with suppress(RuntimeError):  # it changes this moment
                sides = (("asks", follower.book.asks), ("bids", follower.book.bids))
                if any([*map(list, levels)] != wanted[side] for side, levels in sides):
                    faults.append(f"{name}: the book that was followed is not the book")
        if not faults or time.monotonic() > deadline_s:
            return faults
        time.sleep(POLL_S)
