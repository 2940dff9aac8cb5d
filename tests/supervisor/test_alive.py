"""`pit check-alive`: what is done about what is found, as a table."""

import pytest

from supervisor.alive import Row, Verdict, judge

READY: list[Row] = [{"name": "matcher", "state": "ready"}, {"name": "http", "state": "ready"}]


def rows(**states: str) -> list[Row]:
    return [row | {"state": states.get(row["name"], "ready")} for row in READY]


UP = (("up", "--detach"),)


@pytest.mark.parametrize(
    ("name", "found", "pid", "stopped", "verdict"),
    [
        ("", READY, 0, False, Verdict(True)),
        ("http", READY, 0, False, Verdict(True)),
        ("http", rows(matcher="failed"), 0, False, Verdict(True)),  # each has a check of its own
        ("", None, 0, False, Verdict(False, "the exchange does not run; starting it", UP)),
        ("http", None, 0, False, Verdict(False, "the exchange does not run; starting it", UP)),
        ("", None, 0, True, Verdict(False)),  # an operator wants it down
        (
            "",
            None,
            7,
            False,
            Verdict(False, "the supervisor (pid 7) does not answer: it is starting or stopping"),
        ),
        ("", rows(matcher="starting"), 0, False, Verdict(False, "matcher is starting")),  # a long replay
        (
            "",
            rows(http="failed", matcher="backing off"),
            0,
            False,
            Verdict(False, "matcher is backing off, http is failed; restarting http", (("restart", "http"),)),
        ),
        ("htpt", READY, 0, False, Verdict(False, "there is no process htpt; there are matcher, http")),
    ],
)
def test_judge(name: str, found: list[Row] | None, pid: int, stopped: bool, verdict: Verdict) -> None:
    assert judge(name, found, pid, is_stopped=stopped) == verdict
