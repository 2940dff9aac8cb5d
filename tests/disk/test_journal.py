"""What is written can be read: batches, segments, opening again, retention, finding the end."""

import select
import time
from pathlib import Path

import pytest

from engine import journal_reader
from engine.journal import Journal
from engine.journal_reader import HEADER_SIZE, Damaged, Header, Scan, find_end, segments
from tests.disk.making import HEADER, SEGMENT_SIZE, append, batch, frame_size, open_journal, sequences


def thorough_end(directory: Path) -> journal_reader.End:
    scan = Scan(directory)
    for _ in scan:
        pass
    return scan.end


def test_an_empty_folder_is_an_empty_journal(tmp_path: Path) -> None:
    assert sequences(tmp_path) == []
    assert find_end(tmp_path).sequence == 0


def test_batches_come_back_in_order_with_their_bytes(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [1, 100, 3], blob=b'{"id":1}')
    entries = list(Scan(tmp_path))
    assert [(entry.frame.first, len(entry.frame.records), entry.frame.time) for entry in entries] == [
        (1, 1, 1.0),
        (2, 100, 2.0),
        (102, 3, 102.0),
    ]
    assert bytes(entries[2].frame.blob) == b'{"id":1}'
    assert entries[0].offset == HEADER_SIZE
    assert entries[1].offset == HEADER_SIZE + frame_size(1, b'{"id":1}')


def test_it_goes_on_after_being_opened_again(tmp_path: Path) -> None:
    for _ in range(3):
        with open_journal(tmp_path) as journal:
            append(journal, [5, 6])
    assert sequences(tmp_path) == list(range(1, 34))
    assert len(segments(tmp_path)) == 1


def test_a_full_segment_is_followed_by_the_next(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [100] * 20)
    assert sequences(tmp_path) == list(range(1, 2001))
    assert [file.name for file in segments(tmp_path)] == [f"{first:020d}.journal" for first in (1, 501, 1001, 1501)]
    assert {file.stat().st_size for file in segments(tmp_path)} == {SEGMENT_SIZE}
    assert list(tmp_path.glob("*.preparing")) == []


@pytest.mark.parametrize("after", [0, 1, 99, 250, 500, 501, 1999, 2000])
def test_reading_starts_after_a_sequence(tmp_path: Path, after: int) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [1, 98, 1, 150, 249, 1, 1, 1, 498, 500, 400, 99, 1])
    assert sequences(tmp_path, after) == list(range(after + 1, 2001))


def test_a_sequence_inside_a_batch_is_no_place_to_start(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [10, 10])
    with pytest.raises(Damaged, match="command 15 is not the last of its frame"):
        sequences(tmp_path, 15)


def test_the_quick_end_is_the_thorough_end(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        for count in (1, 100, 7, 300, 1, 20):
            append(journal, [count])
            quick, thorough = find_end(tmp_path), thorough_end(tmp_path)
            assert (quick.sequence, quick.file, quick.offset) == (thorough.sequence, thorough.file, thorough.offset)
            assert quick.unproven == thorough.unproven


def test_the_end_knows_what_no_frame_proves_to_be_on_disk(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [4, 4])
        for _ in range(3):
            journal.append(batch(journal.appended + 1, 2, unsynced=journal.unsynced_count))
        end, thorough = find_end(tmp_path), thorough_end(tmp_path)
    [stretch] = end.unproven
    assert stretch.offset == HEADER_SIZE + 2 * frame_size(4)
    assert stretch.size == 3 * frame_size(2)
    assert thorough.unproven == end.unproven


def test_a_batch_larger_than_a_segment_never_has_room(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        assert journal.has_room(SEGMENT_SIZE - HEADER_SIZE)
        assert not journal.has_room(SEGMENT_SIZE - HEADER_SIZE + 1)


def test_nothing_is_synced_before_it_is_asked(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        assert journal.append(batch(1, 10)) == 10
        assert (journal.appended, journal.synced, journal.unsynced_count) == (10, 0, 10)
        assert journal.sync_now()
        assert (journal.synced, journal.unsynced_count) == (10, 0)


def test_the_thread_syncs_and_wakes_who_waits(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(batch(1, 10))
        journal.sync_soon()
        assert select.select([journal.wake_fd], [], [], 5)[0]
        assert journal.synced == 10


def test_with_an_interval_synced_follows_at_once_and_the_disk_later(tmp_path: Path) -> None:
    with Journal(tmp_path, find_end(tmp_path), header=HEADER, sync="interval", interval_ms=1) as journal:
        journal.append(batch(1, 10))
        assert journal.synced == 10
        deadline = time.monotonic() + 5
        while journal.unsynced_count and time.monotonic() < deadline:
            select.select([journal.wake_fd], [], [], 5)
        assert journal.unsynced_count == 0


def test_the_header_names_seed_and_instance(tmp_path: Path) -> None:
    open_journal(tmp_path).close()
    assert journal_reader.read_header(tmp_path) == Header(seed=7, instance="test")


@pytest.mark.parametrize(
    ("sequence", "keep_count", "left"),
    [
        (0, 1, 4),
        (499, 1, 4),
        (500, 1, 3),
        (1000, 1, 2),
        (2000, 1, 1),
        (2000, 3, 3),
    ],
)
def test_segments_that_a_snapshot_covers_go(tmp_path: Path, sequence: int, keep_count: int, left: int) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [100] * 20)
        journal.drop_before(sequence, keep_count)
    assert len(segments(tmp_path)) == left
    assert sequences(tmp_path, 1500) == list(range(1501, 2001))


def test_what_retention_dropped_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [100] * 20)
        journal.drop_before(1000)
    with pytest.raises(Damaged, match="the journal starts here, command 1 is gone"):
        sequences(tmp_path)


def test_a_journal_can_begin_behind_a_snapshot(tmp_path: Path) -> None:
    end = journal_reader.End(sequence=41, file=None, offset=0)
    with Journal(tmp_path, end, header=HEADER, segment_size=SEGMENT_SIZE) as journal:
        append(journal, [2])
    assert sequences(tmp_path, 41) == [42, 43]
