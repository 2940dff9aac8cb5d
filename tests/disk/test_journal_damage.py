"""Bytes cut, flipped, or zeroed anywhere: never a wrong command, never an acknowledged one lost in silence."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.journal import Journal
from engine.journal_commands import show, verify
from engine.journal_reader import HEADER_SIZE, Damaged, End, Scan, find_end, segments
from tests.disk.making import HEADER, append, batch, frame_size, open_journal, sequences

BATCHES = [3, 40, 1, 100, 7, 300, 60, 2, 90]  # in two segments
TOTAL = sum(BATCHES)
ENDS = [sum(BATCHES[: i + 1]) for i in range(len(BATCHES))]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal in which every batch was synced before the next one was written."""
    directory = tmp_path_factory.mktemp("pristine")
    with open_journal(directory) as journal:
        append(journal, BATCHES)
    assert len(segments(directory)) == 2
    return directory


def written_end(directory: Path) -> int:
    return find_end(directory).offset


def flip(file: Path, offset: int, mask: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= mask
    file.write_bytes(data)


def read_all(directory: Path) -> tuple[list[int], End | Damaged]:
    """What can be read, and how that ended."""
    scan, read = Scan(directory), list[int]()
    try:
        for entry in scan:
            read += entry.frame.records["request_id"].tolist()
    except Damaged as damage:
        return read, damage
    return read, scan.end


@settings(max_examples=150, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), in_last=st.booleans())
def test_a_flipped_byte_is_damage_or_the_torn_last_batch(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, where: float, mask: int, in_last: bool
) -> None:
    directory = tmp_path_factory.mktemp("flipped") / "journal"
    shutil.copytree(pristine, directory)
    first, last = segments(directory)
    size = written_end(directory) if in_last else first.stat().st_size
    offset = int(where * size)
    flip(last if in_last else first, offset, mask)
    read, outcome = read_all(directory)
    assert read == list(range(1, len(read) + 1))
    if isinstance(outcome, Damaged):
        assert outcome.file in (first, last)
        assert "pit journal verify" in str(outcome)
        assert len(read) in (0, *ENDS[:-1])
    else:
        in_last_batch = in_last and offset >= size - frame_size(BATCHES[-1])
        # a batch that nothing follows may be torn; in all others only padding and the unused end may differ
        assert len(read) == TOTAL or (in_last_batch and len(read) == ENDS[-2] and outcome.torn_bytes > 0)
    shutil.rmtree(directory.parent)


@settings(max_examples=80, deadline=None)
@given(where=st.floats(0, 1))
def test_a_tail_cut_anywhere_in_the_last_batch_is_torn_and_can_be_written_over(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, where: float
) -> None:
    directory = tmp_path_factory.mktemp("cut") / "journal"
    shutil.copytree(pristine, directory)
    last = segments(directory)[-1]
    end, start = written_end(directory), written_end(directory) - frame_size(BATCHES[-1])
    cut = start + int(where * (end - start))
    data = bytearray(last.read_bytes())
    data[cut:] = bytes(len(data) - cut)
    last.write_bytes(data)
    kept = sequences(directory)
    assert kept == list(range(1, (TOTAL if cut == end else ENDS[-2]) + 1)) or kept == list(range(1, TOTAL + 1))
    with open_journal(directory) as journal:
        assert journal.appended == len(kept)
        append(journal, [1, 30, 2])
    assert sequences(directory) == list(range(1, len(kept) + 34))
    shutil.rmtree(directory.parent)


def test_a_missing_segment_is_damage(pristine: Path, tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    shutil.copytree(pristine, directory)
    with open_journal(directory) as journal:
        append(journal, [400] * 2)
    segments(directory)[1].unlink()
    with pytest.raises(Damaged, match="command 452 should be here"):
        sequences(directory)


def test_a_short_file_in_the_middle_is_damage(pristine: Path, tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    shutil.copytree(pristine, directory)
    first = segments(directory)[0]
    first.write_bytes(first.read_bytes()[:20_000])
    with pytest.raises(Damaged, match=first.name):
        sequences(directory)


def test_after_a_power_cut_batches_that_were_never_synced_may_survive_in_any_order(tmp_path: Path) -> None:
    """Three batches in flight, only the second reached the disk: all three are torn, and nobody was told of them."""
    with open_journal(tmp_path) as journal:
        append(journal, [5])
        for _ in range(3):
            journal.append(batch(journal.appended + 1, 5, unsynced=journal.unsynced_count))
    [file] = segments(tmp_path)
    data = bytearray(file.read_bytes())
    for index in (1, 3):
        start = HEADER_SIZE + index * frame_size(5)
        data[start : start + frame_size(5)] = bytes(frame_size(5))
    file.write_bytes(data)
    scan = Scan(tmp_path)
    assert [entry.frame.first for entry in scan] == [1]
    assert frame_size(5) < scan.end.torn_bytes <= 2 * frame_size(5)
    with open_journal(tmp_path) as journal:
        append(journal, [1])
    assert sequences(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert not any(file.read_bytes()[HEADER_SIZE + frame_size(5) + frame_size(1) :])


def test_a_hole_that_a_later_batch_proves_to_have_been_synced_is_damage(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [5, 5, 5])
    [file] = segments(tmp_path)
    data = bytearray(file.read_bytes())
    data[HEADER_SIZE + frame_size(5) : HEADER_SIZE + 2 * frame_size(5)] = bytes(frame_size(5))
    file.write_bytes(data)
    with pytest.raises(Damaged, match="yet command 11 stands behind it"):
        sequences(tmp_path)


def test_a_power_cut_between_segments_drops_the_new_one(tmp_path: Path) -> None:
    """The name of the next segment is on disk, the last batch of the one before is not."""
    with open_journal(tmp_path) as journal:
        append(journal, [100] * 4)
        for _ in range(2):
            journal.has_room(frame_size(100))
            journal.append(batch(journal.appended + 1, 100, unsynced=journal.unsynced_count))
    first, second = segments(tmp_path)
    data = bytearray(first.read_bytes())
    data[HEADER_SIZE + 4 * frame_size(100) :] = bytes(len(data) - HEADER_SIZE - 4 * frame_size(100))
    first.write_bytes(data)
    assert sequences(tmp_path) == list(range(1, 401))
    scan = Scan(tmp_path)
    assert len(list(scan)) == 4
    assert find_end(tmp_path) == scan.end
    with Journal(tmp_path, scan.end, header=HEADER, segment_size=first.stat().st_size) as journal:
        append(journal, [100, 100])
    assert sequences(tmp_path) == list(range(1, 601))
    assert segments(tmp_path) == [first, second]


def test_a_text_that_looks_like_a_batch_is_only_text(tmp_path: Path) -> None:
    """A detail may hold any bytes, also those of a batch that would be next."""
    with open_journal(tmp_path) as journal:
        append(journal, [2], blob=batch(3, 5))
        append(journal, [1, 1])
    assert sequences(tmp_path) == [1, 2, 3, 4]
    assert find_end(tmp_path).sequence == 4


def test_an_unreadable_header_with_nothing_behind_it_is_replaced(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        append(journal, [100] * 4)
    last = tmp_path / f"{401:020d}.journal"
    last.write_bytes(b"rubbish")
    scan = Scan(tmp_path)
    assert len(list(scan)) == 4
    assert isinstance(scan.end, End)
    with open_journal(tmp_path) as journal:
        append(journal, [3])
    assert sequences(tmp_path) == list(range(1, 404))


def test_verify_says_where_and_show_shows(pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "journal"
    shutil.copytree(pristine, directory)
    assert verify(directory) == 0
    assert f"commands 1 to {TOTAL}" in capsys.readouterr().out
    lines = list(show(directory, 40, 45))
    assert [int(line.split()[0]) for line in lines] == [40, 41, 42, 43, 44, 45]
    flip(segments(directory)[0], HEADER_SIZE + frame_size(3) + 100, 1)
    assert verify(directory) == 1
    out = capsys.readouterr().out
    assert f"offset {HEADER_SIZE + frame_size(3)}" in out
    assert "CRC" in out
