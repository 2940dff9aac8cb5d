"""Connections to which nothing is sent: how many there may be, and what each costs."""

from typing import NamedTuple

import psutil

from supervisor.bench import ws_baseline
from supervisor.bench.report import Report
from supervisor.bench.ws_clients import allow_open_files
from supervisor.bench.ws_crowd import Crowd, Server
from supervisor.bench.ws_trades import DEALS, MARKETS

FIRST_PART = 10  # a tenth is there before memory is looked at: what the server needs for any is not theirs
SPARE_COUNT = 500  # open files of a process that are no clients


class Memory(NamedTuple):
    """KiB that a process holds."""

    unique: float  # and no other process
    proportional: float
    resident: float

    def __str__(self) -> str:
        return f"USS {self.unique:.1f}, PSS {self.proportional:.1f}, RSS {self.resident:.1f} KiB"


def measure(report: Report, gateway: Server, wanted_count: int) -> None:
    """As many connections as are wanted, or as there may be open files."""
    allowed_count = min(allow_open_files(), psutil.Process(gateway.pid).rlimit(psutil.RLIMIT_NOFILE)[0])
    count = min(wanted_count, allowed_count - SPARE_COUNT)
    with Crowd(gateway) as crowd:
        idle, rate = _grow(crowd, count)
        before = _memory(gateway)
        crowd.say(DEALS)
        followed = _each(before, _memory(gateway), count)
    with ws_baseline.running() as (server, _), Crowd(server) as crowd:
        baseline, _ = _grow(crowd, count)
    report.add("idle connections of one process", count, "connections", "10,000", f"{rate:,.0f} handshakes/s")
    detail = (
        f"{idle}; {followed} more when it follows the deals of {len(MARKETS)} markets; with gevent-websocket"
        f" {baseline}; of the processes, the kernel's sockets are not counted"
    )
    report.add("memory of an idle connection", idle.unique, "KiB", "< 20", detail)


def _grow(crowd: Crowd, count: int) -> tuple[Memory, float]:
    """Open so many; the memory of each, and how many a second."""
    first_count = count // FIRST_PART
    crowd.connect(first_count)
    before = _memory(crowd.server)
    seconds = crowd.connect(count - first_count)
    return _each(before, _memory(crowd.server), count - first_count), (count - first_count) / seconds


def _memory(server: Server) -> Memory:
    found = psutil.Process(server.pid).memory_full_info()
    return Memory(found.uss / 1024, found.pss / 1024, found.rss / 1024)


def _each(before: Memory, after: Memory, count: int) -> Memory:
    return Memory(*((late - early) / count for early, late in zip(before, after, strict=True)))
