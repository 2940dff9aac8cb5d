"""A disk that is full or broken: what was acknowledged stays, and it goes on by itself."""

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus.messages import Bytes
from engine import journal as journal_module
from engine.journal import Journal
from engine.journal_reader import segments
from tests.disk.making import SEGMENT_SIZE, FaultyDisk, append, batch, frame_size, open_journal, sequences


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.01)
    monkeypatch.setattr("bus.ahead.RETRY_S", 0.01)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 seconds"
        time.sleep(0.002)


def prepared(journal: Journal) -> bool:
    """Is the next segment ready, so that the disk is not used any more?"""
    return journal._next.ready is not None


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_failed_sync_starts_a_new_segment_with_what_was_not_durable(
    tmp_path: Path, disk: FaultyDisk, in_thread: bool
) -> None:
    with open_journal(tmp_path, disk=disk.calls) as journal:
        append(journal, [10, 10])
        wait_until(lambda: prepared(journal))
        disk.failing_syncs = 3
        journal.append(batch(21, 5))
        journal.append(batch(26, 5, unsynced=5))
        if in_thread:
            journal.sync_soon()
        else:
            assert not journal.sync_now()
            assert journal.synced == 20
            assert not journal.has_room(100)
            assert "Input/output error" in journal.trouble
        assert select.select([journal.wake_fd], [], [], 10)[0]
        wait_until(lambda: journal.synced == 30)
        assert not journal.trouble
        append(journal, [1])
    assert sequences(tmp_path) == list(range(1, 32))
    assert [file.name for file in segments(tmp_path)] == [f"{first:020d}.journal" for first in (1, 21)]


def test_what_a_failed_segment_still_holds_does_not_count(tmp_path: Path, disk: FaultyDisk) -> None:
    with open_journal(tmp_path, disk=disk.calls) as journal:
        append(journal, [10])
        wait_until(lambda: prepared(journal))
        disk.failing_syncs = 1
        journal.append(batch(11, 5))
        assert not journal.sync_now()
        wait_until(lambda: journal.synced == 15)
        append(journal, [5])
    first, second = segments(tmp_path)
    data = bytearray(first.read_bytes())
    start = 64 + frame_size(10)
    data[start : start + frame_size(5)] = b"\xff" * frame_size(5)
    first.write_bytes(data)
    assert sequences(tmp_path) == list(range(1, 21))
    assert second.name == f"{11:020d}.journal"


def test_a_segment_none_of_whose_batches_is_durable_is_replaced(tmp_path: Path, disk: FaultyDisk) -> None:
    with open_journal(tmp_path, disk=disk.calls) as journal:
        wait_until(lambda: prepared(journal))
        disk.failing_syncs = 1
        journal.append(batch(1, 5))
        assert not journal.sync_now()
        wait_until(lambda: journal.synced == 5)
    assert sequences(tmp_path) == [1, 2, 3, 4, 5]
    assert len(segments(tmp_path)) == 1


def test_a_batch_that_spans_a_failed_pair_of_segments_is_written_once(tmp_path: Path, disk: FaultyDisk) -> None:
    with open_journal(tmp_path, disk=disk.calls) as journal:
        append(journal, [100] * 4)
        wait_until(lambda: prepared(journal))
        for _ in range(2):
            journal.append(batch(journal.appended + 1, 100, unsynced=journal.unsynced_count))
        assert len(segments(tmp_path)) == 2
        wait_until(lambda: prepared(journal))
        disk.failing_syncs = 1
        assert not journal.sync_now()
        wait_until(lambda: journal.synced == 600)
        append(journal, [100])
    assert sequences(tmp_path) == list(range(1, 701))
    assert [file.name for file in segments(tmp_path)][:2] == [f"{first:020d}.journal" for first in (1, 401)]


def test_a_failed_write_of_an_applied_batch_is_made_good(tmp_path: Path, disk: FaultyDisk) -> None:
    with open_journal(tmp_path, disk=disk.calls) as journal:
        append(journal, [10])
        wait_until(lambda: prepared(journal))
        disk.failing_writes = 2
        assert journal.append(batch(11, 5)) == 15
        assert journal.synced == 10
        wait_until(lambda: journal.synced == 15)
    assert sequences(tmp_path) == list(range(1, 16))


def test_a_full_disk_refuses_when_the_segment_is_full_and_goes_on_when_there_is_room(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    with open_journal(tmp_path, disk=disk.calls) as journal:
        wait_until(lambda: prepared(journal))
        append(journal, [100] * 5)  # this segment
        disk.is_full = True
        append(journal, [100] * 4)  # the prepared one
        wait_until(lambda: journal.trouble)
        assert "No space left on device" in journal.trouble
        append(journal, [100])  # fits still
        assert not journal.has_room(frame_size(100))
        assert journal.synced == 1000
        disk.is_full = False
        wait_until(lambda: not journal.trouble)
        append(journal, [100])
    assert sequences(tmp_path) == list(range(1, 1101))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for five segments."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = os.getuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={5 * SEGMENT_SIZE}", "tmpfs", directory], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * SEGMENT_SIZE))
    with open_journal(small_disk) as journal:
        while journal.has_room(frame_size(100)):
            append(journal, [100])
        full_at = journal.synced
        assert full_at == 1500
        assert "No space left on device" in journal.trouble
        ballast.unlink()
        wait_until(lambda: not journal.trouble)
        append(journal, [100])
    ballast.unlink(missing_ok=True)
    assert sequences(small_disk) == list(range(1, full_at + 101))


def test_after_a_failure_and_a_restart_the_unproven_frames_are_written_again(tmp_path: Path, disk: FaultyDisk) -> None:
    """A sync that failed may have left pages in memory that are not on disk and will never be: write them anew."""
    with open_journal(tmp_path) as journal:
        append(journal, [5])
        journal.append(batch(6, 5))
    written: list[tuple[int, int]] = []
    inner = disk._write

    def note(descriptor: int, data: Bytes, offset: int) -> int:
        written.append((offset, len(data)))
        return inner(descriptor, data, offset)

    disk._write = note  # type: ignore[method-assign]  # watched from here
    with open_journal(tmp_path, disk=disk.calls):
        pass
    assert (64 + frame_size(5), frame_size(5)) in written
    assert sequences(tmp_path) == list(range(1, 11))
