"""Log files: their end, and their rotation under a process that keeps them open."""

import time
from pathlib import Path

import pytest

from supervisor import logs


def test_tail_is_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"{number}\n" for number in range(100_000)))
    assert logs.tail(path, 2) == ["99998", "99999"]
    assert len(logs.tail(path, 1_000_000)) <= logs.TAIL_SIZE_MAX
    assert logs.tail(path, 5, start=logs.size(path) - 6) == ["99999"]
    assert logs.tail(tmp_path / "gone.log", 2) == []


def test_rotation_keeps_so_many_and_the_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("a", buffering=1) as writer:
        for number in range(5):
            writer.write(f"{number}" * 10)
            writer.flush()
            assert logs.rotate(path, max_size=10, keep_count=3)
        writer.write("last")
        writer.flush()
    assert path.read_text() == "last"
    assert {found.name: found.read_text()[0] for found in tmp_path.glob("a.log.*")} == {
        "a.log.1": "4",
        "a.log.2": "3",
        "a.log.3": "2",
    }


def test_a_small_log_or_none_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert not logs.rotate(path, max_size=10, keep_count=3)
    path.write_text("short")
    assert not logs.rotate(path, max_size=10, keep_count=3)


def test_follow_goes_on_across_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_text("old")
    to_come = iter(("old new", "x", ""))
    monkeypatch.setattr(time, "sleep", lambda _: path.write_text(next(to_come)))
    following = logs.follow(path)
    assert next(following) == " new"
    assert next(following) == "x"


def test_a_full_disk_leaves_the_logs_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("long enough")
    older = tmp_path / "a.log.1"
    older.write_text("older")
    (tmp_path / "a.log.copy").symlink_to("/dev/full")
    assert not logs.rotate(path, max_size=10, keep_count=3)
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {
        "a.log": "long enough",
        "a.log.1": "older",
    }
    assert logs.rotate(path, max_size=10, keep_count=3)
    assert older.read_text() == "long enough"
