"""Notifications of deals to many subscribers: how many a second, beside what another server manages.

The loop is closed: a trade is made only while few are not delivered yet, so nobody falls behind and everything arrives.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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


SINGLE = Load("one trade at a time", 1, 1)
SEVERAL = Load(f"{3 * len(MARKETS)} trades at a time", len(MARKETS), 3 * len(MARKETS))


def measure(report: Report, settings: Settings, gateway: Server, trades: Trades, count: int, seconds: float) -> None:
    """So many subscribers of the gateway, then of the baseline with messages of the same size."""
    found: dict[Load, tuple[Seen, float]] = {}
    with Crowd(gateway) as crowd:
        crowd.connect(count)
        crowd.say(DEALS)
        for load in (SINGLE, SEVERAL):
            meter = Meter(settings, clients=crowd.pid)
            seen, rate = found[load] = drive(crowd, trades.make, load, seconds)
            what = f"{count:,} subscribers, {load.about}: delivered"
            report.add(what, rate, "notifications/s", GOAL, f"{_text(seen)}; {meter.text(seen.frame_count)}")
    with ws_baseline.running() as (server, broadcast), Crowd(server) as crowd:
        crowd.connect(count)
        for load, (ours, our_rate) in found.items():
            make = partial(broadcast, _as_large_as(ours))
            meter = Meter(settings, clients=crowd.pid, baseline=server.pid)
            seen, rate = drive(crowd, make, load, seconds)
            what = f"gevent-websocket, {count:,} clients, {load.about}: delivered"
            detail = (
                f"the gateway is {our_rate / rate:.1f} times as fast; {_text(seen)}; {meter.text(seen.frame_count)}"
            )
            report.add(what, rate, "notifications/s", "", detail)


def drive(crowd: Crowd, make: Callable[[int], object], load: Load, seconds: float) -> tuple[Seen, float]:
    """What a crowd is sent in some seconds, and how many frames a second."""
    crowd.settle()
    crowd.begin()
    made_count = delivered_count = 0
    begin_s = time.perf_counter()
    while time.perf_counter() < begin_s + seconds:
        while made_count - delivered_count <= load.in_flight_count - load.at_once_count:
            make(load.at_once_count)
            made_count += load.at_once_count
        delivered_count = crowd.wait(delivered_count + 1)
    crowd.wait(made_count)
    rate_s = time.perf_counter() - begin_s
    seen = crowd.end()
    return seen, seen.frame_count / rate_s


def _as_large_as(seen: Seen) -> str:
    """A message of that size which counts as a deal."""
    return DEAL.decode().ljust(round(seen.frame_size) - ws_frames.HEAD_SIZE)


def _text(seen: Seen) -> str:
    return f"{seen.frame_size:.0f} bytes, {seen.deals.mean():.2f} deals each; {seen.frames_a_send:.2f} in a send"
