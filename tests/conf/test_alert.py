"""Alerts: one JSON line each, the same text once in a while, and no harm from a disk that refuses."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from conf import alert as module
from conf.alert import REPEAT_S, alert
from conf.paths import Paths


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_last_times", {})


def lines(paths: Paths) -> list[dict[str, str]]:
    return [json.loads(line) for line in paths.alerts_file.read_text().splitlines()]


def test_an_alert_is_a_line_in_the_file_and_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(tmp_path, "main")
    assert alert(paths, "matcher", "the disk is full", now=0.5)
    assert lines(paths) == [
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


def test_a_stderr_that_refuses_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as log, monkeypatch.context() as patch:  # noqa: PTH123  # a log on a full disk
        patch.setattr("sys.stderr", log)
        assert alert(Paths(tmp_path, "main"), "matcher", "full", now=1.0)
        assert alert(Paths(tmp_path / "gone", "main"), "matcher", "full, too", now=1.0)
        with suppress(OSError):
            log.close()
    assert [line["text"] for line in lines(Paths(tmp_path, "main"))] == ["full"]
