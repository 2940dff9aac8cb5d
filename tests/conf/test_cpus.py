"""Which CPU a process is pinned to."""

import os

import pytest

from conf.cpus import pick, pin


@pytest.mark.parametrize(
    ("wanted", "allowed", "picked"),
    [(-1, {0, 1, 5}, 5), (-1, {3}, None), (-2, {0, 1}, None), (1, {0, 1}, 1), (9, {0, 1}, None)],
)
def test_which_cpu(wanted: int, allowed: set[int], picked: int | None) -> None:
    assert pick(wanted, allowed) == picked


def test_pin_keeps_the_process_to_it() -> None:
    before = os.sched_getaffinity(0)
    try:
        pin(min(before))
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
