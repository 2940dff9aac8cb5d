"""Whatever dies on the way to MySQL, every event is stored, and none twice."""

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from bus.catalog import Catalog
from bus.messages import Frame, FrameKind, pack
from conf.settings import History, Settings
from persist.mysql_address import parse
from persist.mysql_link import connected
from persist.mysql_schema import POSITION_TABLE
from persist.mysql_store import MySqlWriter
from persist.store import StoreDown
from supervisor.bench.mariadb import MariaDb
from tests.persist import making
from tests.persist.cutting import proxy
from tests.persist.mariadb import ask, stored, wanted
from tests.reference.history import history_of

DEADLINE_S = 60.0
ROUNDS = 4


def rest(frames: list[Frame], number: int) -> list[Frame]:
    """The frames behind an event; it is the last of one, because writes are of whole frames here."""
    left = [frame for frame in frames if frame.first > number]
    assert number == (left[0].first - 1 if left else frames[-1].first + len(frames[-1].records) - 1)
    return left


def finish(settings: Settings, frames: list[Frame], catalog: Catalog) -> None:
    """Write what is not stored yet, and see that all is there, once."""
    with closing(MySqlWriter(settings)) as writer:
        writer.write(rest(frames, writer.open()), catalog)
    assert stored(settings) == wanted(history_of(frames, catalog).tables)


def test_a_server_that_is_killed_in_the_middle_of_batches(mysql_settings: Settings, mariadb: MariaDb) -> None:
    frames, catalog = making.random_play(20, steps=150)
    pick, interrupted_count = Random(20), 0
    with closing(MySqlWriter(mysql_settings)) as writer:
        left = rest(frames, writer.open())
        for _ in range(ROUNDS):
            killer = threading.Timer(pick.random() * 0.005, mariadb.kill)
            killed_at = pick.randrange(len(left) // 2)
            try:
                for place, frame in enumerate(left):
                    if place == killed_at:
                        killer.start()
                    writer.write([frame], catalog)
            except StoreDown:
                interrupted_count += 1
            killer.join()
            mariadb.start()
            left = rest(frames, writer.open())
    finish(mysql_settings, frames, catalog)
    assert interrupted_count


@pytest.mark.parametrize("when_answered", [False, True])
def test_the_answer_to_a_commit_is_lost(mysql_settings: Settings, mariadb: MariaDb, when_answered: bool) -> None:
    frames, catalog = making.random_play(21)
    with proxy(mariadb.port) as way:
        address = mariadb.address().replace(f":{mariadb.port}/", f":{way.port}/")
        settings = replace(mysql_settings, history=History(store=address))
        with closing(MySqlWriter(settings)) as writer:
            writer.open()
            writer.write(frames[:5], catalog)
            way.cut_at(b"COMMIT", when_answered=when_answered)
            with pytest.raises(StoreDown):
                writer.write(frames[5:10], catalog)
            assert way.has_cut
            assert writer.open() == frames[10 if when_answered else 5].first - 1
    finish(mysql_settings, frames, catalog)


@pytest.mark.parametrize("word", [b"UPDATE tradepit_position", b"order_history_", b"balance_history_3"])
def test_a_connection_breaks_in_the_middle(mysql_settings: Settings, mariadb: MariaDb, word: bytes) -> None:
    frames, catalog = making.random_play(22)
    with proxy(mariadb.port) as way:
        address = mariadb.address().replace(f":{mariadb.port}/", f":{way.port}/")
        with closing(MySqlWriter(replace(mysql_settings, history=History(store=address)))) as writer:
            assert writer.open() == 0
            way.cut_at(word, when_answered=True)
            with pytest.raises(StoreDown):
                writer.write(frames, catalog)
            assert way.has_cut
            assert writer.open() == 0
    finish(mysql_settings, frames, catalog)


def test_a_writer_that_is_killed(mysql_settings: Settings, tmp_path: Path) -> None:
    frames, catalog = making.random_play(23, steps=150)
    frames_file = tmp_path / "frames"
    datas = [pack(FrameKind.EVENTS, frame.records, frame.blob, first=frame.first, time=frame.time) for frame in frames]
    frames_file.write_bytes(pickle.dumps((datas, catalog)))
    command = (sys.executable, "-m", "tests.persist.mysql_writing")
    arguments = (mysql_settings.history.store, mysql_settings.instance, str(frames_file))
    pick, told = Random(23), 0
    for _ in range(3):
        with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) >= told, "what was told is stored"
            for _ in range(1 + pick.randrange(4)):
                told = int(process.stdout.readline() or told)
            time.sleep(pick.random() * 0.02)  # anywhere in a write, no matter where
            process.kill()
            told = max(told, *map(int, process.stdout.read().split()), 0)
    assert told
    finish(mysql_settings, frames, catalog)


@contextmanager
def held(settings: Settings, statement: str) -> Iterator[None]:
    """Somebody else has done something and does not commit it."""
    address = parse(settings.history.store)
    with connected(address, timeout_s=DEADLINE_S) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement)
        yield
        connection.rollback()


def test_locks_are_waited_for_and_then_it_is_down(mysql_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persist.mysql_store.LOCK_TIMEOUT_S", 1)
    frames, catalog = making.random_play(24)
    table = f"trade_history.{POSITION_TABLE}"
    with closing(MySqlWriter(mysql_settings)) as writer:
        writer.open()
        writer.write(frames[:1], catalog)
        with held(mysql_settings, f"SELECT * FROM {table} FOR UPDATE"):
            with pytest.raises(StoreDown, match="Lock wait timeout"):
                writer.write(frames[1:], catalog)
            with pytest.raises(StoreDown, match="Lock wait timeout"):
                writer.open()
    finish(mysql_settings, frames, catalog)


def test_a_table_that_somebody_else_has_is_waited_for(
    mysql_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.mysql_store.LOCK_TIMEOUT_S", 1)
    frames, catalog = making.random_play(27)
    with closing(MySqlWriter(mysql_settings)) as writer:
        writer.open()
        with held(mysql_settings, "LOCK TABLES trade_history.balance_history_1 WRITE"):
            with pytest.raises(StoreDown, match="Lock wait timeout"):
                writer.write(frames, catalog)
            assert writer.open() == 0
    finish(mysql_settings, frames, catalog)


def test_a_server_that_only_reads_is_down(mysql_settings: Settings, mariadb: MariaDb) -> None:
    frames, catalog = making.random_play(25)
    ask(mysql_settings, "CREATE OR REPLACE USER mortal@'127.0.0.1' IDENTIFIED BY 'm'")
    ask(mysql_settings, "GRANT ALL ON trade_history.* TO mortal@'127.0.0.1'")
    store = f"mysql://mortal:m@127.0.0.1:{mariadb.port}/trade_history"
    with closing(MySqlWriter(replace(mysql_settings, history=History(store=store)))) as writer:
        writer.open()
        ask(mysql_settings, "SET GLOBAL read_only = 1")
        try:
            with pytest.raises(StoreDown, match="read-only"):
                writer.write(frames, catalog)
        finally:
            ask(mysql_settings, "SET GLOBAL read_only = 0")
    finish(mysql_settings, frames, catalog)


def test_a_heart_beats_while_a_server_is_slow(mysql_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, catalog = making.random_play(26)
    beats: list[float] = []
    monkeypatch.setattr("persist.waiting.beat", lambda: beats.append(time.monotonic()))
    with closing(MySqlWriter(mysql_settings)) as writer:
        writer.open()
        with held(mysql_settings, f"SELECT * FROM trade_history.{POSITION_TABLE} FOR UPDATE"):
            writing = threading.Thread(target=writer.write, args=(frames, catalog))
            writing.start()
            deadline_s = time.monotonic() + DEADLINE_S
            while len(beats) < 2 and time.monotonic() < deadline_s:
                time.sleep(0.01)
        writing.join()
    assert len(beats) >= 2
    finish(mysql_settings, frames, catalog)
