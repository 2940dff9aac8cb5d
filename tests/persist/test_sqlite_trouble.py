"""The SQLite store when something goes wrong: killed writers, full disks, strange files, questions without end."""

import os
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from bus.catalog import Catalog
from bus.messages import Frame
from conf.settings import Settings, load
from persist import sqlite_export, sqlite_link, sqlite_schema, sqlite_store
from persist.sqlite_link import Link
from persist.sqlite_reader import SqliteReader
from persist.sqlite_store import SqliteWriter
from persist.store import Page, StoreDown, StoreWrong
from tests.persist.answers import ALWAYS, EVERYTHING, compare_exports
from tests.persist.events import update_frame
from tests.persist.making import in_parts, random_play
from tests.persist.plain_reader import PlainReader
from tests.persist.test_sqlite_store import settings, written
from tests.process.test_disk_full import fill_up, small_disk
from tests.reference.history import history_of

__all__ = ["settings", "small_disk"]  # fixtures

KILLS_LEAST, KILLS_MOST = 5, 1000
KILL_AFTER_MAX_S = 0.05
DEADLINE_S = 60.0
WRITES_MOST = 60  # of a process before it is killed: there are some 500


def last_of(frames: list[Frame]) -> int:
    return frames[-1].first + len(frames[-1].records) - 1


def after(frames: list[Frame], number: int) -> list[Frame]:
    """The frames that follow an event."""
    return [frame for frame in frames if frame.first > number]


def write_on(settings: Settings, frames: list[Frame], catalog: Catalog, seed: int, told: int) -> None:
    """In a process of its own: store what is not stored yet, and tell each number that is."""
    writer = SqliteWriter(settings)
    for count, part in enumerate(in_parts(after(frames, writer.open()), seed)):
        if count == WRITES_MOST:
            signal.pause()  # who kills is late
        writer.write(part, catalog)
        os.write(told, last_of(part).to_bytes(8, "little"))
    writer.close()


def run_and_kill(settings: Settings, frames: list[Frame], catalog: Catalog, seed: int) -> tuple[bool, int]:
    """Let a process write for a moment; return whether it was killed, and the last number that it told."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(hear)
            write_on(settings, frames, catalog, seed, tell)
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    with open(hear, "rb", buffering=0) as pipe:  # noqa: PTH123  # a descriptor
        numbers = pipe.read(8) or b""
        time.sleep(Random(seed).random() * KILL_AFTER_MAX_S)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        numbers += pipe.readall()
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status), int.from_bytes(numbers[-8:], "little")


def test_killed_writers_lose_nothing_and_double_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "RUN_ENTRY_COUNT", 200)
    monkeypatch.setattr(sqlite_schema, "WAL_SIZE", 1 << 18)  # so that some are killed while they copy the log
    frames, catalog = random_play(1, steps=1500, batch_max=3)
    kill_count, told = 0, 0
    for seed in range(KILLS_MOST):
        was_killed, number = run_and_kill(settings, frames, catalog, seed)
        told = max(told, number)
        kill_count += was_killed
        found = written(settings, [], catalog)
        assert found >= told, "what was told is stored"
        assert found in (0, *(last_of([frame]) for frame in frames)), "whole transactions"
        if not was_killed:
            break
    assert kill_count >= KILLS_LEAST
    assert written(settings, [], catalog) == last_of(frames)
    reader = SqliteReader(settings)
    compare_exports(reader, PlainReader(history_of(frames, catalog)))
    reader.close()


def test_a_full_disk_holds_up_and_room_lets_it_go_on(small_disk: Path) -> None:
    settings = load(None, small_disk)
    catalog = random_play(0, steps=1)[1]
    frames: list[Frame] = []
    writer = SqliteWriter(settings)
    writer.open()
    ballast = fill_up(small_disk)
    for count in range(10_000):
        frame = update_frame(
            count + 1, catalog.asset_by_index[0], user_id=1, change=1, before=count, detail=b"x" * 8000
        )
        try:
            writer.write([frame], catalog)
        except StoreDown as error:
            assert "full" in str(error) or "I/O" in str(error)  # noqa: PT017  # which of many it is, is not known
            break
        frames.append(frame)
    plain = PlainReader(history_of(frames, catalog))
    with closing(SqliteReader(settings)) as reader:
        compare_exports(reader, plain)
    ballast.unlink()
    assert frames
    assert writer.open() == last_of(frames), "nothing of the last one, all of the others"
    writer.write([frame], catalog)
    writer.close()
    with closing(sqlite3.connect(settings.paths.history_file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with closing(SqliteReader(settings)) as reader:
        compare_exports(reader, PlainReader(history_of([*frames, frame], catalog)))


def test_a_file_of_someone_else_is_left_alone(settings: Settings) -> None:
    file = settings.paths.history_file
    catalog = random_play(0, steps=1)[1]
    frame = update_frame(1, catalog.asset_by_index[0], user_id=1, change=1)

    def refused(match: str) -> None:
        before = file.read_bytes()
        with pytest.raises(StoreWrong, match=match):
            written(settings, [[frame]], catalog)
        with closing(SqliteReader(settings)) as reader, pytest.raises(StoreDown, match=match):
            reader.order(1)
        assert file.read_bytes() == before

    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    refused("is no history of ours")
    file.write_bytes(b"something else altogether" * 1000)
    refused("file is not a database")
    file.unlink()
    written(settings, [[frame]], catalog)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {sqlite_schema.VERSION + 1}")
    refused("version 2, this program knows 1")


def test_a_file_of_another_exchange_is_refused(settings: Settings) -> None:
    frames, catalog = random_play(3, steps=5)
    written(settings, [frames[:-1]], catalog)
    first, *others = catalog.market_by_index
    other = replace(catalog, market_by_index=(replace(first, money_prec=first.money_prec - 1), *others))
    with pytest.raises(StoreWrong, match=r"history of another exchange: there, market 0 is \('BTCUSD'"):
        written(settings, [frames[-1:]], other)
    assert written(settings, [frames[-1:]], catalog) == last_of(frames)


def test_what_is_damaged_is_told_with_what_to_do(settings: Settings) -> None:
    frames, catalog = random_play(3, steps=5)
    written(settings, [frames], catalog)
    data = bytearray(settings.paths.history_file.read_bytes())
    data[100:] = bytes(len(data) - 100)
    settings.paths.history_file.write_bytes(data)
    with pytest.raises(StoreWrong, match=r"malformed.*Put it aside"):
        SqliteWriter(settings).open()
    with closing(SqliteReader(settings)) as reader, pytest.raises(StoreDown, match="malformed"):
        reader.changes(1, "", "", ALWAYS, EVERYTHING)


def test_a_row_that_is_there_already_is_no_reason_to_double_it(settings: Settings) -> None:
    """The position was put back by hand: nothing is stored, and the trouble has a name."""
    frames, catalog = random_play(3, steps=20)
    written(settings, [frames], catalog)
    with closing(sqlite3.connect(settings.paths.history_file)) as connection, connection:
        connection.execute("UPDATE position SET number = 0")
    with pytest.raises(StoreWrong, match="UNIQUE constraint failed"):
        written(settings, [frames], catalog)


def test_only_what_follows_is_written(settings: Settings) -> None:
    frames, catalog = random_play(4)
    writer = SqliteWriter(settings)
    writer.open()
    writer.write(frames[:3], catalog)
    for wrong in (frames[2:4], frames[4:], [frames[3], frames[5]], [frames[3], frames[3]]):
        with pytest.raises(AssertionError, match="does not follow"):
            writer.write(wrong, catalog)
    writer.write([], catalog)
    writer.write(frames[3:], catalog)
    assert writer.open() == last_of(frames)
    writer.close()
    with pytest.raises(StoreDown, match="is not open"):
        writer.write(frames[:1], catalog)


def test_two_writers_never_double(settings: Settings) -> None:
    frames, catalog = random_play(5)
    one, other = SqliteWriter(settings), SqliteWriter(settings)
    assert one.open() == other.open() == 0
    one.write(frames[:2], catalog)
    with pytest.raises(StoreDown, match="somebody else has written"):
        other.write(frames[:1], catalog)
    assert other.open() == last_of(frames[:2])
    other.write(frames[2:], catalog)
    one.close()
    other.close()
    with closing(SqliteReader(settings)) as reader:
        compare_exports(reader, PlainReader(history_of(frames, catalog)))


def test_who_holds_the_lock_is_waited_for_and_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "LOCK_TIMEOUT_S", 0.01)
    frames, catalog = random_play(6, steps=5)
    writer = SqliteWriter(settings)
    writer.open()
    with closing(sqlite3.connect(settings.paths.history_file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreDown, match="database is locked"):
            writer.write(frames, catalog)
    assert writer.open() == 0
    writer.write(frames, catalog)
    writer.close()


def test_a_folder_that_is_away_and_a_file_that_is_moved(settings: Settings) -> None:
    with pytest.raises(StoreDown, match="unable to open"):
        SqliteWriter(replace(settings, data_dir=settings.data_dir / "none")).open()
    frames, catalog = random_play(7)
    writer = SqliteWriter(settings)
    writer.open()
    writer.write(frames[:2], catalog)
    settings.paths.history_file.rename(settings.data_dir / "old.db")
    with pytest.raises(StoreDown, match="moved or removed"):
        writer.write(frames[2:], catalog)
    assert writer.open() == 0, "a new one, to be filled from the beginning"
    writer.write(frames, catalog)
    writer.close()


def test_a_question_that_takes_too_long_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, catalog = random_play(8)
    written(settings, [frames], catalog)
    hasty = SqliteReader(settings)
    hasty._link = Link(settings.paths.history_file, timeout_s=0.0)  # less than one may set
    for steps, rows in ((1, 10**9), (10**9, 1)):  # SQLite is long at it, or we are
        monkeypatch.setattr(sqlite_link, "PROGRESS_STEPS", steps)
        monkeypatch.setattr(sqlite_link, "ROWS_PER_LOOK", rows)
        hasty.close()
        with pytest.raises(StoreDown, match="a question took longer than 0 s"):
            hasty.changes(1, "", "", ALWAYS, Page(10**6, 1))
        assert list(hasty.all_changes(1, "", ALWAYS)), "exports take their time"
    hasty.close()
    with closing(SqliteReader(settings)) as reader:
        assert reader.changes(1, "", "", ALWAYS, EVERYTHING)


def test_a_reader_that_stays_delays_the_log_and_one_that_left_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_schema, "WAL_SIZE", 1 << 16)
    monkeypatch.setattr(sqlite_schema, "WAL_SIZE_MAX", 1 << 17)
    monkeypatch.setattr(sqlite_schema, "LOCK_TIMEOUT_S", 0.0)
    monkeypatch.setattr(sqlite_store, "LOG_PAUSE_S", 0.0)
    frames, catalog = random_play(9, steps=400)
    log = sqlite_schema.log_of(settings.paths.history_file)
    writer, half = SqliteWriter(settings), len(frames) // 2
    writer.open()
    writer.write(frames[:1], catalog)
    with closing(sqlite3.connect(settings.paths.history_file, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT number FROM position").fetchall()
        for frame in frames[1:half]:
            writer.write([frame], catalog)
        assert log.stat().st_size > sqlite_schema.WAL_SIZE_MAX
        assert settings.paths.alerts_file.read_text().count("somebody reads history.db") == 1
    largest = 0
    for frame in frames[half:]:
        writer.write([frame], catalog)
        largest = max(largest, log.stat().st_size)
    assert 0 < largest <= sqlite_schema.WAL_SIZE_MAX
    writer.close()
    with closing(SqliteReader(settings)) as reader:
        compare_exports(reader, PlainReader(history_of(frames, catalog)))


def test_a_reader_without_end_is_waited_for_once_in_a_while_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_schema, "WAL_SIZE_MAX", 0)
    frames, catalog = random_play(9, steps=5)
    statements: list[str] = []
    with (
        closing(SqliteWriter(settings)) as writer,
        closing(sqlite3.connect(settings.paths.history_file, isolation_level=None)) as connection,
    ):
        writer.open()
        connection.execute("BEGIN")
        connection.execute("SELECT number FROM position").fetchall()
        assert writer._connection is not None
        assert writer._thread is not None
        writer._thread.submit(writer._connection.set_trace_callback, statements.append).result()
        for frame in frames:
            writer.write([frame], catalog)
    assert len(frames) > 2
    assert sum("wal_checkpoint" in statement for statement in statements) == 1


def test_a_heart_beats_while_a_disk_is_slow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "LOCK_TIMEOUT_S", DEADLINE_S)
    beats: list[float] = []
    frames, catalog = random_play(6, steps=5)
    with (
        closing(SqliteWriter(settings)) as writer,
        closing(sqlite3.connect(settings.paths.history_file, isolation_level=None)) as connection,
    ):
        writer.open()
        connection.execute("BEGIN IMMEDIATE")  # as slow as a disk can be

        def beat() -> None:
            beats.append(time.monotonic())
            if len(beats) == 2:
                connection.execute("ROLLBACK")

        monkeypatch.setattr("persist.waiting.beat", beat)
        writer.write(frames, catalog)
        assert writer.open() == last_of(frames)
    assert len(beats) >= 2


def test_an_export_holds_nothing_up_between_its_rows(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_export, "CHUNK_COUNT", 3)
    monkeypatch.setattr(sqlite_export, "IDS_COUNT", 3)
    monkeypatch.setattr(sqlite_export, "CHUNK_MOST", 10)
    frames, catalog = random_play(10)
    written(settings, [frames[:-2]], catalog)
    writer, reader = SqliteWriter(settings), SqliteReader(settings)
    writer.open()
    plain = PlainReader(history_of(frames, catalog))
    exports = [reader.all_orders(1, "", ALWAYS), reader.all_orders(0, "", ALWAYS), reader.all_changes(1, "", ALWAYS)]
    begun = [next(export) for export in exports]
    deals = reader.all_deals(0, "", ALWAYS)
    first = next(deals)
    writer.write(frames[-2:], catalog)
    with closing(sqlite3.connect(settings.paths.history_file)) as connection:
        [[is_busy, _, _]] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not is_busy
    assert [first, *deals] == list(plain.all_deals(0, "", ALWAYS)), "what came meanwhile belongs to it"
    assert all(len(list(export)) > 0 for export in exports)
    assert len(begun) == len(exports)
    writer.close()
    reader.close()
