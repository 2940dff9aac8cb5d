"""Readiness and heartbeats: one byte each into the supervisor's pipe, and never a wait."""

import os
import time
from collections.abc import Iterator

import pytest

from conf import ready


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    monkeypatch.setenv(ready.READY_FD, str(write_fd))
    monkeypatch.setattr(ready, "_last_beat", -ready.BEAT_INTERVAL_S)
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_ready_says_so(pipe: tuple[int, int]) -> None:
    ready.ready()
    assert os.read(pipe[0], 10) == ready.READY


def test_beats_are_at_most_one_in_an_interval(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(5):
        ready.beat()
    now += ready.BEAT_INTERVAL_S
    ready.beat()
    assert os.read(pipe[0], 10) == ready.BEAT * 2


def test_a_full_pipe_does_not_hold_up_the_process(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], bytes(1 << 20))
    ready.ready()


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ready.READY_FD, raising=False)
    ready.ready()
    ready.beat()
