"""Following alerts.jsonl: each line once, over renaming, restarts, and whatever somebody does to the files."""

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.alert import append
from conf.alert_record import LINE_MAX_SIZE, Alert, packed, time_text
from persist.alert_files import START, AlertFiles, Follower, Position, PositionFile, Stored, last_alerts

KEEP_COUNT = 3


class Desk:
    """The files of a test, and numbered alerts in them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "alerts.jsonl"
        self.files = AlertFiles(self.path, KEEP_COUNT)
        self.count = 0

    def write(self, count: int = 1) -> list[str]:
        texts = []
        for _ in range(count):
            self.count += 1
            texts.append(f"alert {self.count}")
            append(self.path, line(texts[-1], self.count))
        return texts

    def follow(self, position: Position = START, saved_at: float = 0.0) -> Follower:
        return Follower(self.files, position, saved_at)


def line(text: str, now: float = 0.0, *, is_told: bool = False) -> bytes:
    return packed(Alert(time=time_text(now), instance="main", process="p", text=text, is_told=is_told))


def texts(follower: Follower, count_max: int = 1_000) -> list[str]:
    return [alert.text for alert in follower.read(count_max)]


def all_texts(follower: Follower) -> list[str]:
    found: list[str] = []
    while some := texts(follower):
        found += some
    return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_it_follows_what_comes(desk: Desk) -> None:
    follower = desk.follow()
    assert texts(follower) == []
    for _ in range(3):
        written = desk.write(5)
        assert texts(follower, 2) == written[:2]
        assert texts(follower) == written[2:]
        assert texts(follower) == []


def test_it_goes_on_after_a_restart(desk: Desk) -> None:
    first = desk.follow()
    written = desk.write(5)
    assert texts(first, 3) == written[:3]
    assert texts(desk.follow(first.position)) == written[3:]


def test_it_begins_at_the_end_when_it_is_new(desk: Desk) -> None:
    assert desk.files.end() == START
    desk.write(3)
    desk.files.rotate()
    assert texts(desk.follow(desk.files.end())) == []  # there is no file of that name
    desk.write(2)
    follower = desk.follow(desk.files.end())
    assert texts(follower) == []
    written = desk.write(2)
    assert all_texts(follower) == written


def test_it_goes_from_file_to_file(desk: Desk) -> None:
    follower, written = desk.follow(), []
    for _ in range(KEEP_COUNT):
        written += desk.write(4)
        desk.files.rotate()
    written += desk.write(4)
    assert all_texts(follower) == written
    desk.files.rotate()
    assert all_texts(follower) == []
    written = desk.write(3)
    assert all_texts(follower) == written


def test_it_waits_for_who_still_writes_into_the_old_file(desk: Desk) -> None:
    follower = desk.follow()
    written = desk.write(2)
    assert texts(follower) == written
    with desk.path.open("ab") as slow:
        fcntl.flock(slow, fcntl.LOCK_SH)
        desk.files.rotate()
        later = desk.write(2)
        assert texts(follower) == []
        slow.write(line("a late one"))
        slow.flush()
        assert texts(follower) == ["a late one"]
        assert texts(follower) == []
    assert texts(follower) == later


def test_who_has_opened_the_old_file_takes_the_new_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = desk.follow()
    written = desk.write(1)
    assert texts(follower) == written
    real, is_done = os.open, False

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        nonlocal is_done
        fd = real(path, flags, mode)
        if not is_done and path == desk.path:
            is_done = True
            desk.files.rotate()  # between opening and writing
        return fd

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        written = desk.write(1)
    assert is_done
    assert texts(follower) == written
    assert [path.name for path in desk.files.all()] == ["alerts.jsonl.1", "alerts.jsonl"]


def test_a_file_that_is_emptied_begins_anew(desk: Desk) -> None:
    follower = desk.follow()
    desk.write(5)
    assert len(texts(follower)) == 5
    os.truncate(desk.path, 0)
    assert texts(follower) == []
    written = desk.write(2)
    assert all_texts(follower) == written
    os.truncate(desk.path, 0)
    longer = desk.write(50)  # than what was read
    assert texts(follower) == longer


def test_a_file_that_is_removed_is_followed_by_the_next(desk: Desk) -> None:
    follower = desk.follow()
    desk.write(2)
    desk.files.rotate()
    desk.write(2)
    assert len(all_texts(follower)) == 4
    desk.path.unlink()
    assert all_texts(follower) == []
    written = desk.write(2)
    assert all_texts(follower) == written


def test_when_its_file_is_gone_it_takes_what_was_written_since(desk: Desk) -> None:
    follower = desk.follow()
    desk.write(2)
    desk.files.rotate()
    desk.write(2)
    assert len(all_texts(follower)) == 4
    old = desk.path.with_name("alerts.jsonl.1")
    saved_at = old.stat().st_mtime + 100
    desk.path.unlink()
    written = desk.write(3)
    os.utime(desk.path, (saved_at + 1, saved_at + 1))
    assert all_texts(desk.follow(follower.position, saved_at)) == written


def test_lines_that_are_none_are_counted_and_left_out(desk: Desk) -> None:
    follower = desk.follow()
    desk.write(1)
    with desk.path.open("ab") as file:
        file.write(b"hello\n\n[1]\n\xff\xfe\n" + b"x" * (5 * LINE_MAX_SIZE) + b"\n")
    last = desk.write(1)
    assert all_texts(follower)[-1:] == last
    assert follower.unreadable_count >= 4


def test_a_line_that_was_told_already_is_left_out(desk: Desk) -> None:
    append(desk.path, line("told", is_told=True))
    written = desk.write(1)
    assert all_texts(desk.follow()) == written


def test_a_cut_off_end_does_not_hold_it_up(desk: Desk) -> None:
    follower = desk.follow()
    written = desk.write(1)
    with desk.path.open("ab") as file:
        file.write(b'{"time": ')
    assert texts(follower) == written
    desk.files.rotate()
    written = desk.write(1)
    assert all_texts(follower) == written


def test_old_files_are_kept_as_many_as_set(desk: Desk) -> None:
    for _ in range(KEEP_COUNT + 2):
        desk.write(1)
        desk.files.rotate()
    assert [path.name for path in desk.files.all()] == ["alerts.jsonl.3", "alerts.jsonl.2", "alerts.jsonl.1"]
    fewer = AlertFiles(desk.path, 1)
    desk.write(1)
    fewer.rotate()
    assert [path.name for path in fewer.all()] == ["alerts.jsonl.1"]


def test_who_is_behind_is_known_before_its_file_goes(desk: Desk) -> None:
    follower = desk.follow()
    for _ in range(KEEP_COUNT):
        desk.write(1)
        desk.files.rotate()
    desk.write(1)
    oldest = desk.files.oldest_to_go()
    assert len(texts(follower)) == 1
    assert follower.needs(oldest)
    all_texts(follower)
    assert not follower.needs(oldest)


def test_the_last_alerts_come_from_all_files(desk: Desk) -> None:
    assert last_alerts(desk.files, 10) == []
    written = []
    for _ in range(3):
        written += desk.write(4)
        desk.files.rotate()
    written += desk.write(1)
    for count in (1, 3, 7, 13, 100):
        assert [alert.text for alert in last_alerts(desk.files, count)] == written[-count:]


def test_positions_are_kept(tmp_path: Path) -> None:
    file = PositionFile(tmp_path / "positions" / "mail")
    assert file.load() is None
    for position in (Position("0123456789abcdef", 10**18), START):
        stored = Stored(position, 1_700_000_000.123456, "f" * 32)
        file.save(stored)
        assert file.load() == stored
    (tmp_path / "positions" / "mail").write_bytes(b"")
    lost = file.load()
    assert lost is not None
    assert lost.position.mark not in ("", "0123456789abcdef")
    file.remove()
    assert file.load() is None


def test_files_that_begin_with_blank_lines_are_not_taken_for_each_other(desk: Desk) -> None:
    follower, written = desk.follow(), []
    for _ in range(3):
        with desk.path.open("ab") as file:
            file.write(b"\n\n")
        assert texts(follower) == []
        written = desk.write(2)
        assert texts(follower) == written
        desk.files.rotate()
    assert all_texts(follower) == []


STEPS = st.lists(st.sampled_from(["write", "write", "rotate", "read", "read some", "restart"]), max_size=40)


@given(steps=STEPS)
def test_each_line_once_in_order(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    desk = Desk(tmp_path_factory.mktemp("files"))
    desk.files = AlertFiles(desk.path, 1_000)
    follower, found = desk.follow(), list[str]()
    for step in steps:
        match step:
            case "write":
                desk.write(3)
            case "rotate" if desk.path.exists():
                desk.files.rotate()
            case "read":
                found += all_texts(follower)
            case "read some":
                found += texts(follower, 2)
            case "restart":
                follower.close()
                follower = desk.follow(follower.position)
    found += all_texts(follower)
    follower.close()
    assert found == [f"alert {number + 1}" for number in range(desk.count)]


def test_only_names_of_ours_are_old_files(desk: Desk) -> None:
    for end in ("01", "0", "bak", "1.gz", "9" * 30):
        (desk.path.parent / f"alerts.jsonl.{end}").mkdir()
    written = desk.write()
    desk.files.rotate()
    assert desk.files.all() == [desk.path.with_name("alerts.jsonl.1")]
    assert [alert.text for alert in last_alerts(desk.files, 5)] == written


def test_the_last_alerts_behind_a_hole_do_not_cost_its_size(desk: Desk) -> None:
    with desk.path.open("wb") as file:
        file.truncate(1 << 40)  # as a full disk, or a machine that lost power, may leave it, only larger
    written = desk.write(3)
    assert [alert.text for alert in last_alerts(desk.files, 5)] == written
