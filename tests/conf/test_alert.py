"""Alerts: one JSON line each, the same text once in a while, and no harm from a disk that refuses."""

import json
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from conf import alert as module
from conf.alert import REPEAT_S, alert
from conf.alert_record import TEXT_MAX
from conf.paths import Paths


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_last_times", {})


def lines(paths: Paths) -> list[dict[str, str]]:
    return [json.loads(line) for line in paths.alerts_file.read_text().splitlines()]


def test_an_alert_tells_its_place(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "main")
    assert alert(paths, "matcher", "here", now=0.5)

    def wrapped() -> None:
        alert(paths, "matcher", "there", now=0.5, level=2)

    wrapped()
    here, there = (line["where"] for line in lines(paths))
    assert re.fullmatch(r"conf/test_alert\.py:\d+\(test_an_alert_tells_its_place\)", here)
    assert re.fullmatch(r"conf/test_alert\.py:\d+\(test_an_alert_tells_its_place\)", there)
    assert here != there


def test_an_alert_is_a_line_in_the_file_and_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(tmp_path, "main")
    assert alert(paths, "matcher", "the disk is full", now=0.5)
    (line,) = lines(paths)
    assert line.pop("where").startswith("conf/test_alert.py:")
    assert [line] == [
        {
            "time": "1970-01-01T00:00:00.500000+00:00",
            "instance": "main",
            "process": "matcher",
            "text": "the disk is full",
        }
    ]
    assert capsys.readouterr().err == "ALERT matcher: the disk is full\n"


def test_the_same_alert_comes_again_after_a_while_only(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "main")
    assert alert(paths, "matcher", "full", now=1000.0)
    assert not alert(paths, "matcher", "full", now=1000.0 + REPEAT_S - 1)
    assert alert(paths, "http", "full", now=1001.0)
    assert alert(paths, "matcher", "full", now=1000.0 + REPEAT_S)
    assert len(lines(paths)) == 3


def test_memory_is_bounded(tmp_path: Path) -> None:
    for number in range(2 * module.REMEMBERED_MAX):
        alert(Paths(tmp_path, "main"), "matcher", f"text {number}", now=1.0)
    assert len(module._last_times) <= module.REMEMBERED_MAX


def test_a_disk_that_refuses_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert alert(Paths(tmp_path / "gone", "main"), "matcher", "full", now=1.0)
    assert "could not be written" in capsys.readouterr().err


def test_what_the_disk_refuses_is_handed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(tmp_path / "gone", "main")
    paths.data_dir.mkdir()
    paths.sockets_dir.mkdir()
    paths.alerts_file.mkdir()  # a folder where the file should be
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taker:
        taker.bind(str(paths.alert_socket))
        assert alert(paths, "matcher", "full", now=1.0)
        assert json.loads(taker.recv(65_536))["text"] == "full"
    assert "the alertcenter has it" in capsys.readouterr().err


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "main")
    paths.alerts_file.write_bytes(b'{"time": "2026')
    assert alert(paths, "matcher", "whole", now=1.0)
    first, second = paths.alerts_file.read_bytes().splitlines()
    assert (first, json.loads(second)["text"]) == (b'{"time": "2026', "whole")


def test_a_long_text_is_cut_and_says_so(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "main")
    assert alert(paths, "matcher", "\N{GREEK SMALL LETTER PI}" * 1_000_000, now=1.0)
    (line,) = lines(paths)
    assert len(line["text"]) == TEXT_MAX
    assert line["text"].endswith("... (1,000,000 characters)")


def test_lines_of_many_processes_stay_whole_while_the_file_is_renamed(tmp_path: Path) -> None:
    """Each writes its own; somebody renames the file again and again."""
    count, writers = 300, 4
    code = (
        "import sys; from pathlib import Path; from conf.alert import append\n"
        f"for number in range({count}): append(Path(sys.argv[1]), f'{{sys.argv[2]}} {{number}}\\n'.encode())"
    )
    path = tmp_path / "alerts.jsonl"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(index)]) for index in range(writers)]
    renamed_count = 0
    while any(process.poll() is None for process in processes):
        with suppress(FileNotFoundError):
            path.rename(tmp_path / f"old-{renamed_count:06}")
            renamed_count += 1
    assert all(process.returncode == 0 for process in processes)
    assert renamed_count > 1
    found = [line for file in sorted(tmp_path.iterdir()) for line in file.read_text().splitlines()]
    for index in range(writers):
        mine = [int(line.split()[1]) for line in found if line.split()[0] == str(index)]
        assert mine == list(range(count))


def test_a_stderr_that_refuses_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as log, monkeypatch.context() as patch:  # noqa: PTH123  # a log on a full disk
        patch.setattr("sys.stderr", log)
        assert alert(Paths(tmp_path, "main"), "matcher", "full", now=1.0)
        assert alert(Paths(tmp_path / "gone", "main"), "matcher", "full, too", now=1.0)
        with suppress(OSError):
            log.close()
    assert [line["text"] for line in lines(Paths(tmp_path, "main"))] == ["full"]


def test_a_text_without_end_is_cut_off_and_steers_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert alert(Paths(tmp_path, "main"), "p", "\x1b[2J\n" + "x" * 1_000_000)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ALERT p: \N{REPLACEMENT CHARACTER}[2J xxx")
    assert len(line) < TEXT_MAX + 100
