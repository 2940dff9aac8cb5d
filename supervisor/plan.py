"""What the supervisor does next: a pure function of what is wanted, what is seen, and the time.

A process goes through these phases; `Seen` is all that is remembered of it, and the functions at the end are the only
ones that change it.

    WAITING --Start--> STARTING --says ready--> READY --Terminate/Kill--> STOPPING --ends--> WAITING
                           |                      |
                           +------- ends ---------+--> BACKING_OFF --Start--> ...
                                                  +--> FAILED, after restart_count_max restarts in a row

Times are seconds of one monotonic clock. Nothing here forks, signals or reads a clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from conf.operations import Supervisor as Limits
from supervisor.table import Wanted

BACK_OFF_FIRST_S = 0.25  # before the second restart in a row; the first is immediate
BACK_OFF_MAX_S = 15.0


class Phase(StrEnum):
    """Where a process stands, as `pit status` says it."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    BACKING_OFF = "backing off"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a process. `pid` 0: it does not run; a time of None: that has not happened in this run."""

    pid: int = 0
    started_at: float = 0.0
    ready_at: float | None = None
    beat_at: float | None = None
    terminated_at: float | None = None
    is_killed: bool = False
    is_restart_asked: bool = False
    is_unwanted: bool = False  # the settings don't name it any more: it is to end, and not to come back
    ended_at: float | None = None  # the run before this one
    failure_count: int = 0  # ends in a row that nobody asked for
    restart_count: int = 0  # since the supervisor began


class Start(NamedTuple):
    """Fork it."""

    name: str


class Terminate(NamedTuple):
    """Ask it to end."""

    name: str


class Kill(NamedTuple):
    """End it, with all processes that it has started."""

    name: str
    why: str


Action = Start | Terminate | Kill


def plan(
    table: Sequence[Wanted], seen: Mapping[str, Seen], limits: Limits, now: float, *, stopping: bool = False
) -> list[Action]:
    """What is to be done now, in the order of the table. Doing it and saying so in `seen` leads to the next plan."""
    decide = _decide_stopping if stopping else _decide_running
    actions = (decide(wanted, table, seen, limits, now) for wanted in table)
    return [action for action in actions if action is not None]


def phase(seen: Seen, limits: Limits) -> Phase:
    """The phase that a process is in."""
    if not seen.pid:
        if seen.failure_count > limits.restart_count_max:
            return Phase.FAILED
        return Phase.BACKING_OFF if seen.failure_count else Phase.WAITING
    if seen.is_killed or seen.terminated_at is not None:
        return Phase.STOPPING
    return Phase.STARTING if seen.ready_at is None else Phase.READY


def back_off_s(failure_count: int) -> float:
    """How long to wait after that many failures in a row: 0, then doubling."""
    return 0.0 if failure_count < 2 else min(BACK_OFF_FIRST_S * 2.0 ** min(failure_count - 2, 30), BACK_OFF_MAX_S)


def _decide_running(
    wanted: Wanted, table: Sequence[Wanted], seen: Mapping[str, Seen], limits: Limits, now: float
) -> Action | None:
    mine = seen[wanted.name]
    match phase(mine, limits):
        case Phase.FAILED:
            return None
        case Phase.WAITING | Phase.BACKING_OFF if mine.is_unwanted:
            return None
        case Phase.WAITING | Phase.BACKING_OFF:
            is_due = mine.ended_at is None or now >= mine.ended_at + back_off_s(mine.failure_count)
            is_free = all(phase(seen[name], limits) is Phase.READY for name in wanted.after)
            return Start(wanted.name) if is_due and is_free else None
        case Phase.STOPPING:
            return _kill_when_late(wanted.name, mine, limits, now)
        case Phase.STARTING | Phase.READY:
            if mine.is_restart_asked or mine.is_unwanted:
                return Terminate(wanted.name)
            return _kill_when_hung(wanted.name, mine, limits, now)


def _decide_stopping(
    wanted: Wanted, table: Sequence[Wanted], seen: Mapping[str, Seen], limits: Limits, now: float
) -> Action | None:
    mine = seen[wanted.name]
    is_needed = any(
        seen[other.name].pid
        for other in table
        if wanted.name in other.after or (wanted.ends_last and not other.ends_last)
    )
    if not mine.pid or is_needed:
        return None
    if mine.terminated_at is None:
        return Terminate(wanted.name)
    return _kill_when_late(wanted.name, mine, limits, now)


def _kill_when_late(name: str, mine: Seen, limits: Limits, now: float) -> Action | None:
    if mine.is_killed or mine.terminated_at is None or now - mine.terminated_at < limits.stop_timeout_s:
        return None
    return Kill(name, f"it has not ended {limits.stop_timeout_s:g} s after SIGTERM")


def _kill_when_hung(name: str, mine: Seen, limits: Limits, now: float) -> Action | None:
    if mine.ready_at is None:
        last = max(mine.started_at, mine.beat_at or mine.started_at)
        is_late = now - last > limits.start_timeout_s
        return Kill(name, f"not ready after {limits.start_timeout_s:g} s") if is_late else None
    if mine.beat_at is None or now - mine.beat_at <= limits.heartbeat_timeout_s:
        return None  # a process that has never sent a heartbeat is not watched by it
    return Kill(name, f"no heartbeat for {limits.heartbeat_timeout_s:g} s")


def start(seen: Seen, pid: int, now: float) -> Seen:
    """It has been forked."""
    restart_count = 0 if seen.ended_at is None else seen.restart_count + 1
    return Seen(pid=pid, started_at=now, failure_count=seen.failure_count, restart_count=restart_count)


def become_ready(seen: Seen, now: float) -> Seen:
    """It answers requests."""
    return replace(seen, ready_at=now, beat_at=seen.beat_at and now)


def beat(seen: Seen, now: float) -> Seen:
    """Its loop turns."""
    return replace(seen, beat_at=now)


def terminate(seen: Seen, now: float) -> Seen:
    """It has been asked to end."""
    return replace(seen, terminated_at=now)


def kill(seen: Seen) -> Seen:
    """It has been killed; its end will be seen in a moment."""
    return replace(seen, is_killed=True)


def ask_restart(seen: Seen) -> Seen:
    """An operator wants it to start anew; what failed before is forgiven."""
    return replace(seen, is_restart_asked=bool(seen.pid), failure_count=0)


def end(seen: Seen, limits: Limits, now: float) -> Seen:
    """It is gone. Unless that was asked for it is a failure: one more in a row, or the first after a good time."""
    recovered = seen.ready_at is not None and now - seen.ready_at >= limits.restart_window_s
    was_asked = seen.is_restart_asked or seen.is_unwanted
    failure_count = 0 if was_asked else 1 if recovered else seen.failure_count + 1
    return Seen(
        ended_at=now,
        failure_count=failure_count,
        restart_count=seen.restart_count,
        is_unwanted=seen.is_unwanted,
    )


def want(seen: Seen, *, is_wanted: bool) -> Seen:
    """The settings name it, or don't name it any more."""
    is_back = seen.is_unwanted and is_wanted and bool(seen.pid)  # it was told to end: that is no failure of it
    return replace(seen, is_unwanted=not is_wanted, is_restart_asked=seen.is_restart_asked or is_back)


def forgive(seen: Seen, now: float) -> Seen:
    """The supervisor itself was stopped for a while (a paused machine): silence in that time proves nothing."""
    return replace(seen, beat_at=seen.beat_at and now, started_at=now if seen.ready_at is None else seen.started_at)
