"""Log files: their end, and their rotation under a process that keeps them open."""

import os
import time
from pathlib import Path

import pytest

from conf.operations import Supervisor as Limits
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


def test_an_old_log_is_rotated_however_small(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a line\n")
    limits = Limits(log_max_age_h=2, log_keep_days=0)
    rotation = logs.Rotation(now=1_000_000.0)
    rotation.turn([path], limits, 1_000_000.0 + 7_199)
    assert path.read_text() == "a line\n"
    rotation.turn([path], limits, 1_000_000.0 + 7_200)
    assert (path.read_text(), (tmp_path / "a.log.1").read_text()) == ("", "a line\n")


def test_the_age_of_a_log_counts_from_its_last_rotation(tmp_path: Path) -> None:
    path, older = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("new\n")
    older.write_text("old\n")
    os.utime(older, (5_000.0, 5_000.0))
    rotation, limits = logs.Rotation(now=9_000.0), Limits(log_max_age_h=1, log_keep_days=0)
    rotation.turn([path], limits, 8_599.0)
    assert older.read_text() == "old\n"
    rotation.turn([path], limits, 8_600.0)
    assert older.read_text() == "new\n"


def test_an_empty_log_is_not_rotated_and_old_ones_go(tmp_path: Path) -> None:
    path, older, other = tmp_path / "a.log", tmp_path / "a.log.2", tmp_path / "a.log.copy"
    for each in (path, older, other):
        each.touch()
    os.utime(older, (1_000.0, 1_000.0))
    rotation = logs.Rotation(now=0.0)
    rotation.turn([path], Limits(log_max_age_h=1, log_keep_days=1), 1_000.0 + 86_400)
    assert older.exists()
    rotation.turn([path], Limits(log_max_age_h=1, log_keep_days=1), 1_001.0 + 86_400)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.log", "a.log.copy"]


def test_the_end_of_a_log_goes_back_over_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.with_name("a.log.1").write_text("1\n2\n3\n")
    path.write_text("4\n5\n")
    assert logs.tail_over_rotation(path, 4) == ["2", "3", "4", "5"]
    assert logs.tail_over_rotation(path, 2) == ["4", "5"]
