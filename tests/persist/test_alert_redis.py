"""The list in a real Redis behind real Sentinels: form, order, bound; no failover doubles or loses any."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.alert import append
from conf.alert_record import Alert, packed, time_text
from conf.settings import load
from persist.alert_channel import NEVER_S, Channel
from persist.alert_files import AlertFiles
from persist.alert_redis import LIST_KEY, POSITION_KEY, RedisList
from tests.market.sentinels import Group, sentinels
from tests.persist.alert_sinks import alert_list, until
from tests.process.exchange import write_conf

NOW = 1_000_000.0
LIST_MAX = 1_000
KILL_COUNT = 5
PER_ROUND_COUNT = 300  # alerts between two kills


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with sentinels(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(group: Group) -> None:
    with group.master.client() as client:
        client.flushall()


class Desk:
    """A folder of alerts and a channel to the list."""

    def __init__(self, folder: Path, group: Group) -> None:
        self._group = group
        self._folder = folder
        self.files = AlertFiles(folder / "alerts.jsonl", 3)
        self.told: list[str] = []
        self._now = NOW
        self.channel = self.make()

    def make(self) -> Channel:
        target = RedisList(self._group.address(), LIST_MAX)
        return Channel(target, self.files, self._folder / "alertcenter", 0.0, self.told.append, pause_most_s=5.0)

    def restart(self) -> None:
        self.channel.close()
        self.channel = self.make()

    def write(self, *texts: str) -> None:
        append(self.files.path, b"".join(map(line, texts)))

    def turn(self) -> bool:
        """Once, some seconds after the last time; whether nothing is left to be tried again."""
        self._now += 10
        return self.channel.turn(self._now) == NEVER_S


def line(text: str) -> bytes:
    return packed(Alert(time=time_text(time.time()), instance="main", process="matcher", where="f.py:1(g)", text=text))


@pytest.fixture
def desk(tmp_path: Path, group: Group) -> Iterator[Desk]:
    made = Desk(tmp_path, group)
    yield made
    made.channel.close()


def arrived(group: Group) -> list[str]:
    """The texts in the list."""
    elements = alert_list(group)
    head = b"matcher: [fatal]f.py:1(g): "
    assert all(element.startswith(head) for element in elements), elements
    return [element.removeprefix(head).decode() for element in elements]


def test_a_script_of_the_original_takes_them_in_order(group: Group, desk: Desk) -> None:
    desk.write("a", "b\nc", "\N{EURO SIGN}")
    desk.turn()
    with group.master.client() as client:
        popped: list[Any] = [client.blpop([LIST_KEY], timeout=10) for _ in range(3)]
        assert client.llen(LIST_KEY) == 0
    head = b"matcher: [fatal]f.py:1(g): "
    assert [text for _, text in popped] == [head + b"a", head + b"b c", head + "\N{EURO SIGN}".encode()]


def test_the_list_is_bounded_and_the_oldest_go(group: Group, desk: Desk) -> None:
    texts = [str(number) for number in range(3 * LIST_MAX)]
    desk.write(*texts)
    desk.turn()
    assert arrived(group) == texts[-LIST_MAX:]


def test_an_end_between_delivery_and_note_doubles_nothing(group: Group, desk: Desk, tmp_path: Path) -> None:
    note = tmp_path / "alertcenter" / "redis"
    before = note.read_bytes()
    desk.write("a", "b")
    desk.turn()
    note.write_bytes(before)
    desk.restart()
    desk.write("c")
    desk.turn()
    assert arrived(group) == ["a", "b", "c"]


def test_a_broken_connection_doubles_nothing_and_is_no_trouble(group: Group, desk: Desk) -> None:
    for text in "abc":
        desk.write(text)
        desk.turn()
        with group.master.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
    desk.turn()
    desk.turn()
    assert arrived(group) == ["a", "b", "c"]
    assert desk.told == []


def test_an_empty_redis_gets_what_comes_then(group: Group, desk: Desk) -> None:
    desk.write("a")
    desk.turn()
    with group.master.client() as client:
        client.flushall()
    desk.write("b")
    desk.turn()
    assert arrived(group) == ["b"]


def test_two_exchanges_share_a_list(group: Group, desk: Desk, tmp_path: Path) -> None:
    other = Desk(tmp_path / "other", group)
    for one, text in ((desk, "a"), (other, "b"), (desk, "c"), (other, "d")):
        one.write(text)
        one.turn()
    other.channel.close()
    assert arrived(group) == ["a", "b", "c", "d"]


def test_a_key_that_is_not_ours_is_told(group: Group, desk: Desk) -> None:
    desk.write("a")
    desk.turn()
    with group.master.client() as client:
        found: Any = client.keys(f"{POSITION_KEY}*")
        (key,) = found
        client.set(key, "something")
    desk.write("b")
    desk.turn()
    desk.turn()
    (told,) = desk.told
    assert f"{key.decode()} is not ours" in told
    with group.master.client() as client:
        client.delete(key)
    desk.turn()
    assert arrived(group) == ["a", "b"]


def test_what_a_failover_has_lost_comes_again(group: Group, desk: Desk) -> None:
    """The replica has not had the last ones when the master dies."""
    desk.write("a", "b")
    desk.turn()
    with group.replica.client() as replica:
        until(lambda: replica.llen(LIST_KEY) == 2)
    group.part()
    desk.write("c", "d")
    desk.turn()
    assert arrived(group) == ["a", "b", "c", "d"]
    dead = group.kill_master()
    assert arrived(group) == ["a", "b"]
    desk.write("e")
    until(lambda: desk.turn() and arrived(group)[-1] == "e", lambda: desk.told)
    assert arrived(group) == ["a", "b", "c", "d", "e"]
    group.mend(dead)


def test_while_all_is_down_they_wait_and_then_arrive_in_order(group: Group, desk: Desk) -> None:
    master, replica = group.master, group.replica
    master.kill()
    replica.kill()
    desk.write("a")
    desk.turn()
    desk.write("b")
    desk.turn()
    desk.restart()
    desk.write("c")
    desk.turn()
    assert desk.told[0].startswith("alerts do not arrive (redis), which is tried again: sentinel://")
    master.start()
    replica.start("--replicaof", f"127.0.0.1 {master.port}")
    until(lambda: desk.turn() and arrived(group)[-1:] == ["c"], lambda: desk.told)
    assert arrived(group) == ["a", "b", "c"]


def test_a_process_that_is_killed_again_and_again_doubles_and_loses_nothing(group: Group, tmp_path: Path) -> None:
    """The whole process, killed at any moment, while alerts come and files are renamed."""
    conf_file = write_conf(
        tmp_path, alert={"store": group.address(), "file_max_size": 64 * 1024, "file_keep_count": 100, "bind": ""}
    )
    settings = load(conf_file)
    settings.paths.make()
    append(settings.paths.alerts_file, b"\n")
    code = f"from pathlib import Path; from conf.settings import load; main(load(Path({str(conf_file)!r})))"
    written: list[str] = []
    for round_number in range(KILL_COUNT):
        process = subprocess.Popen([sys.executable, "-c", f"from persist.alertcenter import main; {code}"])
        until(lambda: settings.paths.alert_socket.exists())
        before = len(written)
        while len(written) < before + PER_ROUND_COUNT or len(arrived(group)) <= before - PER_ROUND_COUNT:
            written.append(f"{round_number} {len(written)} " + "x" * 200)
            append(settings.paths.alerts_file, line(written[-1]))
        process.kill()
        process.wait()
        settings.paths.alert_socket.unlink()
    process = subprocess.Popen([sys.executable, "-c", f"from persist.alertcenter import main; {code}"])
    until(lambda: settings.paths.alert_socket.exists())
    until(lambda: len(arrived(group)) >= len(written), lambda: (len(arrived(group)), len(written)))
    process.terminate()
    assert process.wait(60) == 0
    assert arrived(group) == written
    assert list(settings.data_dir.glob("alerts.jsonl.*"))
