"""The loop of the alertcenter, turned by hand: what comes by UDP, TCP, the bus, what the disk refuses, full files."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from bus.alerts import AlertSender
from bus.endpoints import address
from conf import alert as alerting
from conf.alert import alert
from conf.operations import MIB, Alert
from conf.settings import Settings
from persist import alert_sources, alertcenter
from persist.alert_sources import CONNECTIONS_MAX, Bucket
from persist.alert_wire import LINE_MAX_SIZE, MAGIC
from persist.alertcenter import AlertCenter, Dropped
from tests.engine.opened import private_settings
from tests.persist.alert_sinks import HOST, WebServer, until, web_server
from tests.process.exchange import free_ports

ORIGINAL = b"matchengine: [fatal]me_server.c:900(svr_on_recv_pkg): service unavailable"
TURN_MS = 5
FLOOD_COUNT = 10_000


@pytest.fixture(autouse=True)
def _every_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "REPEAT_S", 0.0)


@pytest.fixture
def sink() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, sink: WebServer) -> Settings:
    found = replace(
        private_settings(tmp_path),
        alert=Alert(
            bind=f"{HOST}:{free_ports(1)[0]}",
            webhook_url=f"http://{HOST}:{sink.port}/",
            digest_interval_s=1,
            file_max_size=64 * 1024,
            file_keep_count=2,
        ),
    )
    found.paths.make()
    return found


class Desk:
    """An alertcenter and who sends to it."""

    def __init__(self, settings: Settings, sink: WebServer) -> None:
        self.settings = settings
        self.sink = sink
        self.center = AlertCenter(settings)
        self.place = (HOST, int(settings.alert.bind.rpartition(":")[2]))

    def turn_until(self, is_so: Callable[[], bool]) -> None:
        def turned() -> bool:
            self.center.turn(TURN_MS)
            return is_so()

        until(turned, self.lines)

    def lines(self, *, is_whole: bool = True) -> list[dict[str, Any]]:
        """The alerts of the file; `is_whole`: no line of it may be cut off."""
        found: list[dict[str, Any]] = []
        with suppress(FileNotFoundError, IsADirectoryError):
            for line in self.settings.paths.alerts_file.read_text().splitlines():
                with suppress(*(() if is_whole else (ValueError,))):
                    found.append(json.loads(line))
        return found

    def texts(self) -> list[str]:
        return [line["text"] for line in self.lines()]

    def arrived(self) -> list[str]:
        return [row["text"] for document in list(self.sink.documents) for row in document["alerts"]]

    def datagram(self, data: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, self.place)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=60)


@pytest.fixture
def desk(settings: Settings, sink: WebServer) -> Iterator[Desk]:
    made = Desk(settings, sink)
    with made.center:
        yield made


def test_what_our_processes_write_arrives(desk: Desk) -> None:
    alert(desk.settings.paths, "matcher", "the disk is full")
    desk.turn_until(lambda: desk.arrived() == ["the disk is full"])
    (document,) = desk.sink.documents
    assert document["alerts"][0]["where"].startswith("persist/test_alertcenter.py:")


def test_a_datagram_of_the_original(desk: Desk) -> None:
    desk.datagram(MAGIC + ORIGINAL + b"\n")
    desk.turn_until(lambda: bool(desk.lines()))
    (line,) = desk.lines()
    assert line.pop("time")
    assert line == {
        "instance": desk.settings.instance,
        "process": "matchengine",
        "where": "me_server.c:900(svr_on_recv_pkg)",
        "text": "service unavailable",
        "from": f"udp {HOST}",
    }
    desk.turn_until(lambda: desk.arrived() == ["service unavailable"])


def test_datagrams_that_are_none_are_ignored_and_a_cut_off_one_counts(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in (b"", b"x", b"hello\n", MAGIC, MAGIC[:-1] + b"\n", MAGIC + b"x" * (LINE_MAX_SIZE - 19)):
        desk.datagram(data)
    desk.datagram((MAGIC + b"cut off" * 2_000)[:LINE_MAX_SIZE])
    desk.turn_until(lambda: bool(desk.lines()))
    assert [text[:7] for text in desk.texts()] == ["cut off"]
    assert "were ignored: they are no alerts" in capsys.readouterr().err


def test_a_stream_is_split_into_lines_and_never_answered(desk: Desk) -> None:
    with desk.connect() as stream:
        for part in (MAGIC[:3], MAGIC[3:] + b"a", b"\r", b"\n" + MAGIC, b"b\n"):
            stream.sendall(part)
            desk.center.turn(TURN_MS)
        desk.turn_until(lambda: desk.texts() == ["a", "b"])
        stream.setblocking(False)
        with pytest.raises(BlockingIOError):
            stream.recv(1)
    assert [line["from"] for line in desk.lines()] == [f"tcp {HOST}"] * 2


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", MAGIC + b"good\nbad\n", MAGIC + b"x" * LINE_MAX_SIZE])
def test_a_stream_of_anything_else_is_closed(desk: Desk, data: bytes) -> None:
    with desk.connect() as stream:
        stream.sendall(data)
        stream.setblocking(False)

        def is_closed() -> bool:
            try:
                return stream.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        desk.turn_until(is_closed)
    desk.datagram(MAGIC + b"after it\n")
    desk.turn_until(lambda: desk.texts()[-1:] == ["after it"])
    assert desk.texts() in (["after it"], ["good", "after it"])


def test_connections_are_bounded_and_silent_ones_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [desk.connect() for _ in range(CONNECTIONS_MAX)]
    desk.turn_until(lambda: _tcp_count(desk) == CONNECTIONS_MAX)
    with desk.connect() as refused:
        desk.center.turn(TURN_MS)
        assert refused.recv(1) == b""
    assert _tcp_count(desk) == CONNECTIONS_MAX
    streams[0].sendall(MAGIC + b"alive\n")
    desk.turn_until(lambda: desk.texts() == ["alive"])
    monkeypatch.setattr(alert_sources, "IDLE_TIMEOUT_S", -1.0)
    desk.turn_until(lambda: _tcp_count(desk) == 0)
    for stream in streams:
        stream.close()


def _tcp_count(desk: Desk) -> int:
    own = psutil.Process().net_connections("tcp")
    return sum(c.laddr == desk.place and c.status == psutil.CONN_ESTABLISHED for c in own)


def test_the_bus(desk: Desk) -> None:
    place = address(desk.settings.bus.bind, desk.settings.paths.sockets_dir, "alerts")
    with AlertSender(place, "main", "replica-2") as sender:
        assert sender.alert("the journal differs")
        desk.turn_until(lambda: desk.texts() == ["the journal differs"])
    (line,) = desk.lines()
    assert (line["process"], line["from"], line["instance"]) == ("replica-2", "bus", "main")
    assert line["where"].startswith("persist/test_alertcenter.py:")


def test_the_bus_takes_only_alerts(desk: Desk) -> None:
    place = address(desk.settings.bus.bind, desk.settings.paths.sockets_dir, "alerts")
    stranger: Any = zmq.Context.instance().socket(zmq.PUSH)
    with stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(place)
        told = b'{"text": "t", "told": true, "dropped": 99}'
        for parts in ([b""], [b"{}"], [b"["] * 3, [b"[" * 100_000], [b'{"text": 1}'], [told, b""], [told]):
            stranger.send_multipart(parts)
        desk.turn_until(lambda: bool(desk.lines()))
    (line,) = desk.lines()
    assert (line["text"], "told" in line, "dropped" in line) == ("t", False, False)


def test_a_sender_on_the_bus_waits_for_nobody(tmp_path: Path) -> None:
    with zmq.Context() as context, AlertSender(f"ipc://{tmp_path}/nobody.sock", "main", "p", context) as sender:
        sender._socket.setsockopt(zmq.LINGER, 0)
        taken = [sender.alert(str(number)) for number in range(1_000)]
    assert taken[0]
    assert not taken[-1]


def test_a_flood_is_dropped_counted_and_told(desk: Desk) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    count = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(FLOOD_COUNT):
            sender.sendto(MAGIC + b"matchengine: [fatal]a.c:1(b): flood" + b"!" * 200 + b"\n", desk.place)
            if number % 500 == 0:
                count += desk.center.turn(0)

    def is_told() -> bool:
        return "were dropped" in "".join(desk.texts())

    desk.turn_until(is_told)
    dropped = sum(line.get("dropped", 0) for line in desk.lines())
    taken = sum("flood" in text for text in desk.texts())
    assert taken + dropped == FLOOD_COUNT
    assert taken >= desk.settings.alert.foreign_rate_max
    desk.turn_until(lambda: sum(document["dropped"] for document in list(desk.sink.documents)) == dropped)
    assert f"{dropped:,} alerts from outside came too fast and were dropped" in desk.sink.documents[-1]["text"]
    assert process.memory_info().rss - before < 50 * MIB


def test_what_the_disk_refuses_arrives_at_once_and_is_written_later(desk: Desk) -> None:
    path = desk.settings.paths.alerts_file
    path.mkdir()  # nothing can be written there
    alert(desk.settings.paths, "matcher", "no space left")
    desk.datagram(MAGIC + b"and from outside\n")
    desk.turn_until(lambda: sorted(desk.arrived()) == ["and from outside", "no space left"])
    path.rmdir()
    desk.turn_until(lambda: len(desk.lines()) == 2)
    assert all(line["told"] for line in desk.lines())
    alert(desk.settings.paths, "matcher", "there is room again")
    desk.turn_until(lambda: "there is room again" in desk.arrived())
    assert len(desk.arrived()) == 3


def test_a_full_disk_does_not_silence_it(tmp_path: Path, settings: Settings, sink: WebServer) -> None:
    """A real one: not a byte is left, for positions neither."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        settings = replace(settings, data_dir=folder / "data")
        settings.paths.make()
        desk = Desk(settings, sink)
        with desk.center:
            alert(settings.paths, "matcher", "before")
            desk.turn_until(lambda: desk.arrived() == ["before"])
            ballast = folder / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            texts = [f"{number} " + "x" * 1_000 for number in range(10)]  # more than the file's last page takes
            for text in texts:
                alert(settings.paths, "matcher", text)
            desk.turn_until(lambda: sorted(desk.arrived()) == sorted(["before", *texts]))
            assert len(desk.lines(is_whole=False)) < 11
            ballast.unlink()
            wanted = sorted(["before", *texts])  # beside the one that was cut off
            desk.turn_until(lambda: sorted(line["text"] for line in desk.lines(is_whole=False)) == wanted)
            alert(settings.paths, "matcher", "after")
            desk.turn_until(lambda: desk.arrived()[-1] == "after")
            assert len(desk.arrived()) == 12
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_file_is_renamed_and_all_of_it_arrives(settings: Settings, sink: WebServer) -> None:
    """One process writes while another renames; the two files that are kept are enough for the pace of a second."""
    desk, count = Desk(settings, sink), 300
    with desk.center:
        for number in range(count):
            alert(settings.paths, "matcher", f"{number} " + "x" * 500)
            desk.center.turn(0)
        desk.turn_until(lambda: sum(_counts(desk)) == count)
    names = {path.name for path in settings.data_dir.glob("alerts.jsonl*")}
    assert names == {"alerts.jsonl", "alerts.jsonl.1", "alerts.jsonl.2"}


def _counts(desk: Desk) -> list[int]:
    """How many alerts each document tells."""
    return [
        sum(row["count"] for row in document["alerts"]) + document["more"] for document in list(desk.sink.documents)
    ]


def test_an_address_that_is_taken_is_told_and_taken_when_it_is_free(
    settings: Settings, sink: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alertcenter, "OPEN_AGAIN_S", 0.0)
    desk = Desk(settings, sink)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(desk.place)
        with desk.center:
            alert(settings.paths, "matcher", "it goes on")
            desk.turn_until(lambda: "it goes on" in desk.arrived())
            assert any("alerts from outside are not taken (Datagrams)" in text for text in desk.texts())
            other.close()
            desk.center.turn(TURN_MS)
            desk.datagram(MAGIC + b"now\n")
            desk.turn_until(lambda: "now" in desk.texts())


def test_what_waits_leaves_at_the_end_and_the_rest_after_the_start(settings: Settings, sink: WebServer) -> None:
    settings = replace(settings, alert=replace(settings.alert, digest_interval_s=3600))
    desk = Desk(settings, sink)
    with desk.center:
        alert(settings.paths, "matcher", "a")
        desk.turn_until(lambda: desk.arrived() == ["a"])
        desk.datagram(MAGIC + b"b\n")
        alert(settings.paths, "matcher", "c")
    assert sorted(desk.arrived()) == ["a", "b", "c"]
    alert(settings.paths, "matcher", "d")
    os.utime(settings.paths.alerts_file)
    desk = Desk(settings, sink)
    with desk.center:
        desk.center.turn(0)
    assert sorted(desk.arrived()) == ["a", "b", "c", "d"]


def test_a_way_that_was_off_begins_with_what_comes(settings: Settings, sink: WebServer) -> None:
    without = replace(settings, alert=replace(settings.alert, webhook_url=""))
    for used in (settings, without):
        with Desk(used, sink).center:
            alert(settings.paths, "matcher", "while it is off" if used is without else "a")
    with Desk(settings, sink).center:
        alert(settings.paths, "matcher", "b")
    desk = Desk(settings, sink)
    assert desk.arrived() == ["a", "b"]
    with desk.center:
        pass


def test_buckets() -> None:
    bucket = Bucket(10, 0.0)
    assert [bucket.take(0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [bucket.take(0.25) for _ in range(3)] == [True, True, False]
    assert [bucket.take(0.1) for _ in range(2)] == [False, False], "a clock that goes back gives none"
    assert sum(bucket.take(1_000.0) for _ in range(20)) == 10


def test_what_was_dropped_is_told_when_it_is_over_or_goes_on_for_long() -> None:
    dropped = Dropped()
    assert dropped.due(0.0) == 0
    dropped.count(5, 1.0)
    assert dropped.due(1.5) == 0
    assert dropped.due(2.0) == 5
    assert dropped.due(20.0) == 0
    for tenth in range(200):
        dropped.count(1, 30 + tenth / 10)
        if count := dropped.due(30 + tenth / 10):
            break
    assert (count, tenth) == (101, 100)
    dropped.count(2, 50.0)
    assert dropped.due(50.0, is_last=True) == 2


def test_a_file_that_can_not_be_renamed_is_told_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings.paths.alerts_file.write_bytes(b"\n" * settings.alert.file_max_size)

    def refuse(_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("persist.alert_files.AlertFiles.rotate", refuse)
    with AlertCenter(settings) as center:
        for _ in range(10):
            center.turn(TURN_MS)
    assert capfd.readouterr().err.count("can't be renamed") == 1
