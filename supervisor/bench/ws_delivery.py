"""Notifications of deals to many subscribers: how many a second, beside what another server manages.

The loop is closed: a trade is made only while few are not delivered yet, so nobody falls behind and everything arrives.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import psutil

from conf.settings import Settings
from supervisor.bench import ws_baseline, ws_frames
from supervisor.bench.cpu import Meter
from supervisor.bench.report import Report
from supervisor.bench.ws_clients import DEAL
from supervisor.bench.ws_crowd import Crowd, Seen, Server
from supervisor.bench.ws_trades import DEALS, MARKETS, Trades

GOAL = "150,000"


class Load(NamedTuple):
    """How trades are made."""

    about: str
    at_once_count: int
    in_flight_count: int


class Run(NamedTuple):
    """What came of a load."""

    seen: Seen
    seconds: float
    cpu_s: float  # of the server

    @property
    def rate(self) -> float:
        """Notifications a second."""
        return self.seen.frame_count / self.seconds

    @property
    def cpu_us(self) -> float:
        """Of the server, for each notification."""
        return self.cpu_s * 1e6 / self.seen.frame_count

    def __str__(self) -> str:
        seen = self.seen
        sizes = f"{seen.frame_size:.0f} bytes, {seen.deals.mean():.2f} deals each"
        return f"{sizes}; {seen.frames_a_send:.2f} in a send; the server was busy {self.cpu_s / self.seconds:.0%}"


SINGLE = Load("one trade at a time", 1, 1)
SEVERAL = Load(f"{3 * len(MARKETS)} trades at a time", len(MARKETS), 3 * len(MARKETS))


def measure(report: Report, settings: Settings, gateway: Server, trades: Trades, count: int, seconds: float) -> None:
    """So many subscribers of the gateway, then of the baseline with messages of the same size."""
    found: dict[Load, Run] = {}
    with Crowd(gateway) as crowd:
        crowd.connect(count)
        crowd.say(DEALS)
        for load in (SINGLE, SEVERAL):
            meter = Meter(settings, clients=crowd.pid)
            run = found[load] = drive(crowd, trades.make, load, seconds)
            what = f"{count:,} subscribers, {load.about}: delivered"
            report.add(what, run.rate, "notifications/s", GOAL, f"{run}; {meter.text(run.seen.frame_count)}")
    with ws_baseline.running() as (server, broadcast), Crowd(server) as crowd:
        crowd.connect(count)
        for load, ours in found.items():
            run = drive(crowd, partial(broadcast, _as_large_as(ours.seen)), load, seconds)
            what = f"gevent-websocket, {count:,} clients, {load.about.replace('trade', 'message')}: delivered"
            ratios = (
                f"the gateway delivers {ours.rate / run.rate:.1f} times as many,"
                f" for {ours.cpu_us / run.cpu_us:.0%} of the CPU each"
            )
            report.add(what, run.rate, "notifications/s", "", f"{ratios}; {run}; {run.cpu_us:.1f} us each")


def drive(crowd: Crowd, make: Callable[[int], object], load: Load, seconds: float) -> Run:
    """Make trades for some seconds."""
    crowd.settle()
    crowd.begin()
    made_count = delivered_count = 0
    begin_s, begin_cpu_s = time.perf_counter(), _cpu_s(crowd.server)
    while time.perf_counter() < begin_s + seconds:
        while made_count - delivered_count <= load.in_flight_count - load.at_once_count:
            make(load.at_once_count)
            made_count += load.at_once_count
        delivered_count = crowd.wait(delivered_count + 1)
    crowd.wait(made_count)
    seconds, cpu_s = time.perf_counter() - begin_s, _cpu_s(crowd.server) - begin_cpu_s
    return Run(crowd.end(), seconds, cpu_s)


def _cpu_s(server: Server) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


def _as_large_as(seen: Seen) -> str:
    """A message of that size which counts as a deal."""
    return DEAL.decode().ljust(round(seen.frame_size) - ws_frames.HEAD_SIZE)
