"""Where the CPU time went: on a busy machine it says more than the clock does."""

import os

import psutil

from conf.settings import Settings
from supervisor import control


class Meter:
    """CPU seconds of an exchange's processes, of others by pid, and of this one as `client`, since it was made."""

    def __init__(self, settings: Settings, **pids: int) -> None:
        rows = control.ask(settings.paths, {"do": "status"})["processes"]
        self._processes = {row["name"]: psutil.Process(row["pid"]) for row in rows}
        self._processes |= {name: psutil.Process(pid) for name, pid in pids.items()}
        self._processes["client"] = psutil.Process(os.getpid())
        self._before = self._now()

    def text(self, count: int) -> str:
        """Microseconds for each of `count`, by process."""
        spent = ((name, (now - self._before[name]) * 1e6 / count) for name, now in self._now().items())
        return "CPU " + ", ".join(f"{name} {each:.1f}" for name, each in spent) + " us each"

    def _now(self) -> dict[str, float]:
        return {name: sum(_seconds(part) for part in _family(process)) for name, process in self._processes.items()}


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A worker of gunicorn is a child of its process; wrk and others of ours have ended when they are counted."""
    return [process] if process.pid == os.getpid() else [process, *process.children(recursive=True)]


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
