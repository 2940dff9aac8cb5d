"""A channel, turned by hand with a clock of its own: pace, retries, positions; each alert once, or again if need be."""

import os
from pathlib import Path
from typing import Any

import pytest

from conf.alert import append
from conf.alert_record import Alert, packed, time_text
from persist.alert_channel import DIRECT_MAX, NEVER_S, PAUSE_LEAST_S, Channel
from persist.alert_digest import Digest
from persist.alert_files import AlertFiles, Position
from persist.alert_redis import AT_ONCE_MAX, Elements
from persist.alert_targets import Moved, Undelivered

INTERVAL_S = 60.0
NOW = 1_000_000.0


class Shelf:
    """A target that keeps what it gets."""

    name = "shelf"

    def __init__(self, kind: type[Any] = Digest) -> None:
        self.deliveries: list[list[str]] = []
        self.positions: list[tuple[Position, Position]] = []
        self.trouble: Undelivered | None = None
        self.moves: list[Position] = []  # where it is, told once
        self.tries_count = 0
        self._kind = kind

    def make_outbox(self) -> Any:
        return self._kind()

    def deliver(self, outbox: Any, follower: str, begin: Position, end: Position) -> None:
        self.tries_count += 1
        if self.moves:
            raise Moved(self.moves.pop())
        if self.trouble is not None:
            raise self.trouble
        if isinstance(outbox, Digest):
            self.deliveries.append([row.first.text for row in outbox.rows])
        else:
            self.deliveries.append([element.decode().partition("[fatal]")[2] for element in outbox.elements])
        self.positions.append((begin, end))

    def close(self) -> None:
        pass


class Desk:
    """A folder of alerts, a shelf, and a channel to it."""

    def __init__(self, folder: Path, shelf: Shelf, interval_s: float = INTERVAL_S) -> None:
        self.folder = folder
        self.files = AlertFiles(folder / "alerts.jsonl", 3)
        self.shelf = shelf
        self.interval_s = interval_s
        self.told: list[str] = []
        self.channel = self.make()

    def make(self) -> Channel:
        return Channel(self.shelf, self.files, self.folder / "alertcenter", self.interval_s, self.told.append)

    def restart(self) -> None:
        self.channel.close()
        self.channel = self.make()

    def write(self, *texts: str) -> None:
        append(self.files.path, b"".join(packed(alert(text)) for text in texts))

    @property
    def arrived(self) -> list[str]:
        return [text for delivery in self.shelf.deliveries for text in delivery]


def alert(text: str) -> Alert:
    return Alert(time=time_text(NOW), instance="main", process="p", text=text)


@pytest.fixture
def digests(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Shelf())


@pytest.fixture
def elements(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Shelf(Elements), interval_s=0.0)


def test_the_first_goes_at_once_what_follows_goes_together(digests: Desk) -> None:
    assert digests.channel.turn(NOW) == NEVER_S
    digests.write("a")
    assert digests.channel.turn(NOW) == NEVER_S
    digests.write("b")
    assert digests.channel.turn(NOW + 10) == 50
    digests.write("c", "b")
    assert digests.channel.turn(NOW + 59.5) == 0.5
    assert digests.shelf.deliveries == [["a"]]
    digests.channel.turn(NOW + 60)
    assert digests.shelf.deliveries == [["a"], ["b", "c"]]
    digests.write("d")
    digests.channel.turn(NOW + 1_000)
    assert digests.shelf.deliveries[2:] == [["d"]]


def test_the_pace_holds_over_a_restart_and_nothing_is_doubled(digests: Desk) -> None:
    digests.write("a")
    digests.channel.turn(NOW)
    digests.write("b")
    digests.channel.turn(NOW + 1)
    digests.restart()
    assert digests.channel.turn(NOW + 2) == 58
    digests.channel.turn(NOW + 60)
    assert digests.shelf.deliveries == [["a"], ["b"]]


def test_at_the_end_it_does_not_wait(digests: Desk) -> None:
    digests.write("a")
    digests.channel.turn(NOW)
    digests.write("b")
    digests.channel.turn(NOW + 1, is_last=True)
    assert digests.shelf.deliveries == [["a"], ["b"]]


def test_at_the_end_it_tries_once(digests: Desk) -> None:
    digests.shelf.trouble = Undelivered("no")
    digests.write("a")
    assert digests.channel.turn(NOW, is_last=True) == 0
    assert digests.shelf.tries_count == 1


def test_a_clock_that_is_set_back_stops_nothing(digests: Desk) -> None:
    digests.write("a")
    digests.channel.turn(NOW + 1_000_000)
    digests.write("b")
    digests.channel.turn(NOW)
    assert digests.shelf.deliveries == [["a"], ["b"]]


def test_what_fails_is_tried_again_after_longer_and_longer_pauses(digests: Desk) -> None:
    digests.shelf.trouble = Undelivered("it is down")
    digests.write("a")
    now, pauses = NOW, []
    for _ in range(12):
        pauses.append(digests.channel.turn(now))
        assert digests.channel.turn(now + 0.9 * pauses[-1]) == pytest.approx(0.1 * pauses[-1])
        now += pauses[-1]
    assert digests.shelf.tries_count == 12
    assert pauses == pytest.approx([min(PAUSE_LEAST_S * 2**count, 300) for count in range(12)])
    assert digests.told == ["alerts do not arrive (shelf), which is tried again: it is down"]
    digests.write("b")
    digests.shelf.trouble = None
    digests.channel.turn(now)
    assert digests.shelf.deliveries == [["a", "b"]]
    assert digests.told[1:] == ["alerts arrive again (shelf)"]


def test_a_failure_that_is_over_at_once_is_not_told(digests: Desk) -> None:
    digests.shelf.trouble = Undelivered("the connection was idle")
    digests.write("a")
    digests.channel.turn(NOW)
    digests.shelf.trouble = None
    digests.channel.turn(NOW + 1)
    assert (digests.arrived, digests.told) == (["a"], [])


def test_what_did_not_arrive_before_a_restart_arrives_after_it(digests: Desk) -> None:
    digests.shelf.trouble = Undelivered("it is down")
    digests.write("a", "b")
    digests.channel.turn(NOW)
    digests.restart()
    digests.shelf.trouble = None
    digests.write("c")
    digests.channel.turn(NOW + 1)
    assert digests.arrived == ["a", "b", "c"]


def test_what_was_there_before_it_is_not_told(tmp_path: Path) -> None:
    append(tmp_path / "alerts.jsonl", packed(alert("an old one")))
    desk = Desk(tmp_path, Shelf())
    desk.write("a new one")
    desk.restart()  # before it has turned once
    desk.channel.turn(NOW)
    assert desk.arrived == ["a new one"]


def test_many_go_in_parts_and_in_order(elements: Desk) -> None:
    texts = [str(number) for number in range(3 * AT_ONCE_MAX + 7)]
    elements.write(*texts)
    elements.channel.turn(NOW)
    assert elements.arrived == texts
    assert len(elements.shelf.deliveries) == 4
    ends = [end for _, end in elements.shelf.positions]
    assert [begin for begin, _ in elements.shelf.positions[1:]] == ends[:-1]


def test_a_target_that_is_elsewhere_is_followed(elements: Desk) -> None:
    """It had more than was noted, or has lost some."""
    elements.write("a", "b")
    elements.channel.turn(NOW)
    behind = elements.shelf.positions[0][1]
    elements.write("c", "d")
    elements.channel.turn(NOW)
    ahead = elements.shelf.positions[1][1]
    elements.write("e")
    elements.channel.offer(alert("direct"))
    elements.shelf.moves = [behind]
    elements.channel.turn(NOW)
    assert elements.shelf.deliveries[2:] == [["direct", "c", "d", "e"]]
    elements.write("f")
    elements.shelf.moves = [ahead]
    elements.channel.turn(NOW)
    assert elements.shelf.deliveries[3:] == [["e", "f"]]


def test_what_could_not_be_written_arrives_once(digests: Desk) -> None:
    digests.channel.offer(alert("the disk is full"))
    digests.channel.turn(NOW)
    append(digests.files.path, packed(Alert(time="", instance="", process="p", text="the disk is full", is_told=True)))
    digests.write("b")
    digests.channel.turn(NOW + 60)
    assert digests.shelf.deliveries == [["the disk is full"], ["b"]]


def test_what_could_not_be_written_is_bounded(digests: Desk) -> None:
    for number in range(2 * DIRECT_MAX):
        digests.channel.offer(alert(str(number)))
    digests.shelf.trouble = Undelivered("no")
    digests.channel.turn(NOW)
    assert digests.shelf.tries_count == 1
    assert digests.channel._outbox.count == DIRECT_MAX


def test_a_position_that_can_not_be_noted_stops_nothing(digests: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    path = digests.folder / "alertcenter" / "shelf"
    path.unlink()
    path.mkdir()
    digests.write("a")
    digests.channel.turn(NOW)
    digests.write("b")
    digests.channel.turn(NOW + 60)
    assert digests.shelf.deliveries == [["a"], ["b"]]
    assert "may leave again" in capsys.readouterr().err


def test_a_file_that_can_not_be_read_stops_nothing(digests: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError("Input/output error")

    digests.write("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse)
        assert digests.channel.turn(NOW) > 0
    digests.channel.turn(NOW + 5)
    assert digests.arrived == ["a"]


def test_a_disk_that_can_not_be_read_does_not_keep_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path / "alerts.jsonl", packed(alert("an old one")))
    os.utime(tmp_path / "alerts.jsonl", (1_000.0, 1_000.0))

    def refuse(*_: object) -> bytes:
        raise OSError("Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse)
        desk = Desk(tmp_path, Shelf())
    AlertFiles(desk.files.path, 3).rotate()
    desk.write("a new one")
    desk.channel.turn(NOW)
    assert desk.arrived == ["a new one"]
