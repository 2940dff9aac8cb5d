"""The event log: what readers see while it is written, found again, cut, dropped, and trusted after another boot."""

import os
from pathlib import Path

import pytest

from bus import eventfiles, eventlog
from bus.eventfiles import FRAMES_START, segments
from bus.eventlog import Gone, Reader, Writer
from bus.messages import FrameKind, Span, unpack
from tests.bus.making import frame, numbers

SEGMENT_SIZE = 1 << 16


def open_writer(directory: Path, keep_segments_count: int = 100) -> Writer:
    return Writer(directory, segment_size=SEGMENT_SIZE, keep_segments_count=keep_segments_count)


def append(writer: Writer, counts: list[int], blob: bytes = b"") -> None:
    """Append a frame for each count and let readers see it."""
    for count in counts:
        data = frame(writer.last_number + 1, count, blob=blob)
        assert writer.has_room(len(data))
        writer.append(data)
    writer.mark_durable(writer.last_number)


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the machine had started anew."""
    monkeypatch.setattr(eventfiles, "boot_id", lambda: b"another")


def test_there_may_be_no_log_yet(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "events")
    assert list(reader.frames(0)) == []
    writer = open_writer(tmp_path / "events")
    append(writer, [3])
    assert numbers(list(reader.frames(0))) == [1, 2, 3]
    writer.close()


def test_readers_see_what_is_durable(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path), Reader(tmp_path)
    writer.append(frame(1, 3))
    writer.append(frame(4, 2))
    assert list(reader.frames(0)) == []
    writer.mark_durable(3)
    assert numbers(list(reader.frames(0))) == [1, 2, 3]
    writer.mark_durable(5)
    assert numbers(list(reader.frames(3))) == [4, 5]
    writer.close()


def test_frames_come_back_whole(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    append(writer, [2, 1], blob=b'{"id":1}')
    [first, second] = Reader(tmp_path).frames(0)
    assert (first.first, first.time, bytes(first.blob)) == (1, 1.0, b'{"id":1}')
    assert (second.first, second.time, bytes(second.blob)) == (3, 3.0, b'{"id":1}')
    writer.close()


@pytest.mark.parametrize("after", [0, 1, 5, 9, 10, 11, 54, 55, 500, 999, 1000])
def test_reading_starts_anywhere_also_within_a_frame(tmp_path: Path, after: int) -> None:
    writer = open_writer(tmp_path)
    append(writer, [10] * 100)
    assert len(segments(tmp_path)) > 3
    assert numbers(list(Reader(tmp_path).frames(after))) == list(range(after + 1, 1001))
    writer.close()


def test_a_reader_follows_across_segments(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path), Reader(tmp_path)
    last = 0
    for count in [7, 100, 3, 150, 150, 150, 1, 1] * 3:
        append(writer, [count])
        found = numbers(list(reader.frames(last)))
        assert found == list(range(last + 1, last + count + 1))
        last += count
    writer.close()


def test_a_place_is_found_through_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path)
    append(writer, [1] * 150)
    looked: list[int] = []
    inner = eventfiles.span_at

    def note(segment: eventfiles.Segment, position: int) -> Span | None:
        looked.append(position)
        return inner(segment, position)

    monkeypatch.setattr(eventfiles, "span_at", note)
    segment = eventfiles.open_segment(segments(tmp_path)[0], writable=False)
    assert eventfiles.find(segment, 140) is not None
    assert len(looked) < 5
    writer.close()


def test_a_new_writer_goes_on_where_the_killed_one_was(tmp_path: Path) -> None:
    killed = open_writer(tmp_path)
    append(killed, [10] * 50)
    killed.append(frame(501, 10))  # not durable
    again = open_writer(tmp_path)
    assert (again.last_number, again.durable_number) == (510, 500)
    append(again, [10] * 5)
    assert numbers(list(Reader(tmp_path).frames(0))) == list(range(1, 561))
    for writer in (killed, again):
        writer.close()


@pytest.mark.parametrize("after", [0, 1, 95, 100, 249, 250, 480, 500])
def test_what_is_cut_is_gone_and_can_be_written_again(tmp_path: Path, after: int) -> None:
    writer = open_writer(tmp_path)
    append(writer, [10] * 50)
    writer.cut(after)
    assert writer.last_number == after
    assert numbers(list(Reader(tmp_path).frames(0))) == list(range(1, after + 1))
    append(writer, [1, 200, 3, 150, 100, 1])
    assert numbers(list(Reader(tmp_path).frames(0))) == list(range(1, after + 456))
    assert numbers(list(Reader(tmp_path).frames(after))) == list(range(after + 1, after + 456))
    writer.close()


def test_what_a_cut_left_behind_a_full_segment_is_not_read(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    append(writer, [1] * 150)
    writer.cut(100)
    append(writer, [240])  # does not fit behind event 100, where the old event 101 still stands
    assert numbers(list(Reader(tmp_path).frames(0))) == list(range(1, 341))
    assert [file.stem.lstrip("0") for file in segments(tmp_path)] == ["1", "101"]
    writer.close()


def test_a_reader_that_is_ahead_of_a_recovering_writer_waits_and_sees_the_same_again(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path), Reader(tmp_path)
    append(writer, [10] * 50)
    assert numbers(list(reader.frames(0)))[-1] == 500
    writer.cut(300)
    assert list(reader.frames(500)) == []
    append(writer, [10] * 30)
    assert numbers(list(reader.frames(500))) == list(range(501, 601))
    writer.close()


def test_only_so_many_segments_are_kept_and_what_is_gone_is_said_to_be(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path, keep_segments_count=2), Reader(tmp_path)
    append(writer, [100] * 20)
    assert len(segments(tmp_path)) == 3
    first = reader.first_number
    assert 1 < first < 2000
    assert numbers(list(reader.frames(first - 1))) == list(range(first, 2001))
    with pytest.raises(Gone, match=rf"event 1 is not in the log any more, it starts with {first}"):
        list(reader.frames(0))
    writer.close()


def test_what_a_consumer_still_needs_is_kept_up_to_a_limit(tmp_path: Path) -> None:
    stored: list[int | None] = [200]
    writer = Writer(
        tmp_path,
        segment_size=SEGMENT_SIZE,
        keep_segments_count=1,
        backlog_segments_count=6,
        needed_after=lambda: stored[0],
    )
    reader = Reader(tmp_path)
    append(writer, [100] * 10)
    assert 1 < reader.first_number <= 201
    append(writer, [100] * 20)
    assert len(segments(tmp_path)) == 7  # six full ones and the last
    assert reader.first_number > 201
    stored[0] = None
    append(writer, [100] * 3)
    assert len(segments(tmp_path)) == 2
    writer.close()


def test_a_reader_overtaken_by_retention_is_told(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path, keep_segments_count=1), Reader(tmp_path)
    append(writer, [200])
    assert len(list(reader.frames(0))) == 1
    append(writer, [200] * 5)
    with pytest.raises(Gone):
        list(reader.frames(200))
    writer.close()


def test_after_another_boot_only_what_was_synced_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path)
    append(writer, [10] * 30)
    writer.sync()
    append(writer, [10] * 30)
    reader = Reader(tmp_path)
    assert reader.durable_number == 600
    writer.close()
    reboot(monkeypatch)
    assert reader.durable_number == 300
    writer = open_writer(tmp_path)
    assert (writer.last_number, writer.durable_number) == (300, 300)
    append(writer, [5, 1])
    assert numbers(list(reader.frames(0))) == list(range(1, 307))
    writer.close()


def test_a_log_that_lost_its_files_begins_anew(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    append(writer, [10] * 50)
    writer.close()
    last = segments(tmp_path)[-1]
    data = bytearray(last.read_bytes())
    data[64:] = bytes(len(data) - 64)
    last.write_bytes(data)
    writer = open_writer(tmp_path)
    assert writer.last_number == 0
    append(writer, [5])
    assert numbers(list(Reader(tmp_path).frames(0))) == [1, 2, 3, 4, 5]
    writer.close()


def test_a_log_can_begin_behind_a_snapshot(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path), Reader(tmp_path)
    append(writer, [10])
    writer.start_after(41)
    append(writer, [2])
    assert reader.first_number == 42
    assert numbers(list(reader.frames(41))) == [42, 43]
    with pytest.raises(Gone):
        list(reader.frames(0))
    writer.close()


def test_a_frame_larger_than_a_segment_has_no_room(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    assert writer.has_room(SEGMENT_SIZE - FRAMES_START)
    assert not writer.has_room(SEGMENT_SIZE - FRAMES_START + 1)
    writer.close()


def test_a_full_disk_leaves_no_room_until_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.ahead.RETRY_S", 0.01)
    writer = open_writer(tmp_path)
    append(writer, [1])
    full = [True]
    inner = os.posix_fallocate

    def fallocate(descriptor: int, offset: int, size: int) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        inner(descriptor, offset, size)

    assert writer._next.wait(5)
    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    append(writer, [200, 200])  # the second takes the one that was prepared
    assert not writer.has_room(len(frame(1, 200)))
    assert "No space left on device" in writer.trouble
    with pytest.raises(OSError, match="No space left on device"):
        writer.wait_for_room(len(frame(1, 200)))
    for first in (402, 602):  # more than was thought when there was room for it
        writer.append(frame(first, 200))
    writer.mark_durable(801)
    assert numbers(list(Reader(tmp_path).frames(0))) == list(range(1, 402))
    full[0] = False
    while not writer.has_room(len(frame(1, 200))):
        pass
    append(writer, [200])
    assert not writer.trouble
    assert numbers(list(Reader(tmp_path).frames(0))) == list(range(1, 1002))
    writer.close()


def test_replay_answers_in_pieces_and_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reader = open_writer(tmp_path), Reader(tmp_path)
    append(writer, [10] * 30)
    monkeypatch.setattr(eventlog, "REPLAY_FRAMES_MAX", 4)
    *frames, last = [unpack(data) for data in eventlog.replay(reader, 100)]
    assert numbers(frames) == list(range(101, 141))
    assert (last.kind, last.first, last.total) == (FrameKind.PING, 1, 300)
    [only] = [unpack(data) for data in eventlog.replay(reader, 300)]
    assert (only.kind, only.total) == (FrameKind.PING, 300)
    writer.close()


def test_replay_of_what_is_gone_says_where_it_starts(tmp_path: Path) -> None:
    writer, reader = open_writer(tmp_path, keep_segments_count=1), Reader(tmp_path)
    append(writer, [200] * 5)
    [only] = [unpack(data) for data in eventlog.replay(reader, 0)]
    assert (only.kind, only.first, only.total) == (FrameKind.PING, reader.first_number, 1000)
    writer.close()
