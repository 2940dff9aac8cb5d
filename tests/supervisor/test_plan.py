"""The supervisor's decisions, as tables: what is seen, when, and what is to be done."""

import pytest

from conf.operations import Supervisor as Limits
from conf.settings import Settings
from supervisor import plan
from supervisor.plan import Action, Kill, Phase, Seen, Start, Terminate, back_off_s, phase
from supervisor.table import Wanted, processes

LIMITS = Limits(
    start_timeout_s=30.0, heartbeat_timeout_s=10.0, stop_timeout_s=5.0, restart_count_max=3, restart_window_s=60.0
)
TABLE = (Wanted(name="matcher", module="m"), Wanted(name="http", module="h", after=("matcher",)))
NOW = 1000.0

WAITING = Seen()
STARTING = Seen(pid=7, started_at=NOW - 1)
READY = Seen(pid=7, started_at=NOW - 2, ready_at=NOW - 1, beat_at=NOW)
STOPPING = Seen(pid=7, started_at=NOW - 9, ready_at=NOW - 8, terminated_at=NOW - 1)
LATE = Seen(pid=7, started_at=NOW - 9, ready_at=NOW - 8, terminated_at=NOW - 5)
KILLED = Seen(pid=7, started_at=NOW - 9, ready_at=NOW - 8, terminated_at=NOW - 5, is_killed=True)
SLOW = Seen(pid=7, started_at=NOW - 31)
SLOW_BUT_ALIVE = Seen(pid=7, started_at=NOW - 31, beat_at=NOW - 3)
HUNG = Seen(pid=7, started_at=NOW - 50, ready_at=NOW - 40, beat_at=NOW - 11)
NEVER_BEATS = Seen(pid=7, started_at=NOW - 5000, ready_at=NOW - 4000)
ASKED = Seen(pid=7, started_at=NOW - 2, ready_at=NOW - 1, is_restart_asked=True)
ENDED_ONCE = Seen(ended_at=NOW, failure_count=1)
ENDED_TWICE = Seen(ended_at=NOW - 0.2, failure_count=2)
ENDED_TWICE_LONG_AGO = Seen(ended_at=NOW - 0.25, failure_count=2)
FAILED = Seen(ended_at=NOW - 9000, failure_count=4)
GONE = Seen(ended_at=NOW)

RUNNING_TABLE = [
    # what                                       matcher               http      to be done
    ("the matcher comes first", WAITING, WAITING, [Start("matcher")]),
    ("http waits until it is ready", STARTING, WAITING, []),
    ("then http", READY, WAITING, [Start("http")]),
    ("all is well", READY, READY, []),
    ("http stays when the matcher dies, which is back at once", ENDED_ONCE, READY, [Start("matcher")]),
    ("the second time in a row it waits", ENDED_TWICE, READY, []),
    ("for a quarter of a second", ENDED_TWICE_LONG_AGO, READY, [Start("matcher")]),
    ("both died: http waits for the matcher", ENDED_ONCE, ENDED_ONCE, [Start("matcher")]),
    ("what has failed stays down", FAILED, READY, []),
    ("and nothing starts that needs it", FAILED, WAITING, []),
    ("a process that is not ready in time", SLOW, WAITING, [Kill("matcher", "not ready after 30 s")]),
    ("unless it shows that it works", SLOW_BUT_ALIVE, WAITING, []),
    ("no heartbeat", HUNG, READY, [Kill("matcher", "no heartbeat for 10 s")]),
    ("one that never sends any is let be", NEVER_BEATS, READY, []),
    ("a restart is asked for", ASKED, READY, [Terminate("matcher")]),
    ("it ends in its own time", STOPPING, READY, []),
    ("but not for ever", LATE, READY, [Kill("matcher", "it has not ended 5 s after SIGTERM")]),
    ("nobody is killed twice", KILLED, READY, []),
]

STOPPING_TABLE = [
    ("what depends on others goes first", READY, READY, [Terminate("http")]),
    ("the matcher waits for it", READY, STOPPING, []),
    ("http takes too long", READY, LATE, [Kill("http", "it has not ended 5 s after SIGTERM")]),
    ("then the matcher", READY, GONE, [Terminate("matcher")]),
    ("even when it is starting", STARTING, WAITING, [Terminate("matcher")]),
    ("and takes its time", STOPPING, GONE, []),
    ("too much of it", LATE, GONE, [Kill("matcher", "it has not ended 5 s after SIGTERM")]),
    ("nothing starts any more", GONE, GONE, []),
    ("nor after a failure", ENDED_ONCE, ENDED_ONCE, []),
]


@pytest.mark.parametrize(("what", "matcher", "http", "actions"), RUNNING_TABLE, ids=[row[0] for row in RUNNING_TABLE])
def test_running(what: str, matcher: Seen, http: Seen, actions: list[Action]) -> None:
    assert plan.plan(TABLE, {"matcher": matcher, "http": http}, LIMITS, NOW) == actions


@pytest.mark.parametrize(("what", "matcher", "http", "actions"), STOPPING_TABLE, ids=[row[0] for row in STOPPING_TABLE])
def test_stopping(what: str, matcher: Seen, http: Seen, actions: list[Action]) -> None:
    assert plan.plan(TABLE, {"matcher": matcher, "http": http}, LIMITS, NOW, stopping=True) == actions


@pytest.mark.parametrize(
    ("others", "actions"),
    [
        ((READY, READY), [Terminate("http")]),
        ((READY, GONE), [Terminate("matcher")]),
        ((STOPPING, GONE), []),
        ((GONE, GONE), [Terminate("alertcenter")]),
    ],
)
def test_who_tells_of_the_others_ends_last(others: tuple[Seen, Seen], actions: list[Action]) -> None:
    table = (Wanted(name="alertcenter", module="a", ends_last=True), *TABLE)
    seen = dict(zip(("matcher", "http"), others, strict=True)) | {"alertcenter": READY}
    assert plan.plan(table, seen, LIMITS, NOW, stopping=True) == actions


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (WAITING, Phase.WAITING),
        (STARTING, Phase.STARTING),
        (READY, Phase.READY),
        (STOPPING, Phase.STOPPING),
        (KILLED, Phase.STOPPING),
        (ENDED_ONCE, Phase.BACKING_OFF),
        (FAILED, Phase.FAILED),
        (GONE, Phase.WAITING),
    ],
)
def test_phases(seen: Seen, wanted: Phase) -> None:
    assert phase(seen, LIMITS) is wanted


def test_back_off_grows_to_its_limit() -> None:
    assert [back_off_s(count) for count in (0, 1, 2, 3, 4, 5)] == [0, 0, 0.25, 0.5, 1.0, 2.0]
    assert back_off_s(1000) == plan.BACK_OFF_MAX_S


def test_a_process_that_fails_again_and_again_is_given_up_after_the_stated_restarts() -> None:
    seen, now, starts = WAITING, NOW, 0
    while phase(seen, LIMITS) is not Phase.FAILED:
        if plan.plan(TABLE[:1], {"matcher": seen}, LIMITS, now):
            seen, starts = plan.start(seen, 7, now), starts + 1
            seen = plan.end(plan.become_ready(seen, now), LIMITS, now + 1)
        now += 0.25
        assert now < NOW + 3600
    assert starts == 1 + LIMITS.restart_count_max


def test_a_good_run_wipes_out_the_failures_before_it() -> None:
    seen = plan.become_ready(plan.start(Seen(ended_at=NOW, failure_count=3), 7, NOW), NOW)
    assert plan.end(seen, LIMITS, NOW + 59.9).failure_count == 4
    assert plan.end(seen, LIMITS, NOW + 60.0).failure_count == 1


def test_an_asked_restart_is_no_failure_and_revives_what_has_failed() -> None:
    ended = plan.end(plan.terminate(plan.ask_restart(READY), NOW), LIMITS, NOW)
    assert (ended.failure_count, phase(ended, LIMITS)) == (0, Phase.WAITING)
    revived = plan.ask_restart(FAILED)
    assert plan.plan(TABLE[:1], {"matcher": revived}, LIMITS, NOW) == [Start("matcher")]
    assert not plan.start(revived, 8, NOW).is_restart_asked


def test_restarts_are_counted() -> None:
    seen = plan.start(WAITING, 7, NOW)
    assert seen.restart_count == 0
    for count in (1, 2, 3):
        seen = plan.start(plan.end(seen, LIMITS, NOW), 7, NOW)
        assert seen.restart_count == count


def test_after_a_pause_of_the_machine_nobody_is_hung() -> None:
    for seen in (HUNG, SLOW):
        forgiven = plan.forgive(seen, NOW)
        assert plan.plan(TABLE[:1], {"matcher": forgiven}, LIMITS, NOW + 5) == []
    assert plan.forgive(NEVER_BEATS, NOW) == NEVER_BEATS


def test_the_real_table_names_every_dependency_before_it_is_used() -> None:
    table = processes(Settings())
    names = [wanted.name for wanted in table]
    assert len(set(names)) == len(names)
    for index, wanted in enumerate(table):
        assert set(wanted.after) <= set(names[:index])


def test_what_is_not_wanted_any_more_ends_and_does_not_come_back() -> None:
    running = plan.want(plan.become_ready(plan.start(Seen(), 7, 0.0), 1.0), is_wanted=False)
    table = (Wanted(name="a", module="a"),)
    assert plan.plan(table, {"a": running}, LIMITS, 2.0) == [Terminate("a")]
    ended = plan.end(plan.terminate(running, 2.0), LIMITS, 3.0)
    assert plan.plan(table, {"a": ended}, LIMITS, 100.0) == []
    assert ended.failure_count == 0
    assert plan.plan(table, {"a": plan.want(ended, is_wanted=True)}, LIMITS, 100.0) == [Start("a")]
