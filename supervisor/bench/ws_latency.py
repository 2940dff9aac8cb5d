"""How long it takes from an order's reply, which says that it is on disk, to the notifications of it.

Both are received on this machine, the reply by this process, so that a notification may come before it: the clock is
the same. Trades are made in one market at a rate that leaves time.
"""

import time

import numpy as np
from numpy.typing import NDArray

from supervisor.bench import ws_auth, ws_frames
from supervisor.bench.report import Report, percentile_text, percentiles
from supervisor.bench.ws_crowd import Crowd, Seen, Server
from supervisor.bench.ws_trades import DEALS, MARKETS, TAKER_ID, Trades

RATE = 10  # trades/s
PERCENTS = (50, 99, 100)


def measure(report: Report, gateway: Server, trades: Trades, count: int, trade_count: int) -> None:
    """From a reply to the deal at all of so many subscribers, and to the user's own order.update."""
    with Crowd(gateway) as crowd, Crowd(gateway) as owner:
        crowd.connect(count)
        crowd.say(DEALS)
        owner.connect(1)
        owner.say(ws_frames.request("server.auth", f"{ws_auth.TOKEN}{TAKER_ID}", "bench"))
        owner.say(ws_frames.request("order.subscribe", MARKETS[0]))
        for each in (crowd, owner):
            each.settle()
            each.begin(trade_count)
        replied_ns = _trade(trades, trade_count)
        for each in (crowd, owner):
            each.settle()
        found = {"the deal at all of them": crowd.end(), "the user's own order.update": owner.end()}
    for what, seen in found.items():
        late_ms = latencies_ms(seen, replied_ns)
        detail = f"{percentile_text(late_ms, 'ms', PERCENTS)}; {trade_count} trades, {RATE} a second"
        crowd_text = f"{count:,} subscriber{'s' if count > 1 else ''}"
        report.add(f"{crowd_text}: from a reply to {what}, p99", percentiles(late_ms)["p99"], "ms", "", detail)


def _trade(trades: Trades, count: int) -> NDArray[np.int64]:
    """Make trades; the time.monotonic_ns of each reply."""
    replied_ns = np.zeros(count, "i8")
    begin_s = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, begin_s + number / RATE - time.perf_counter()))
        replied_ns[number] = trades.make(1, 1)
    return replied_ns


def latencies_ms(seen: Seen, replied_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Milliseconds from each reply to each connection's notification of it."""
    times_ns = np.repeat(seen.times_ns[: len(seen.deals)], seen.deals, axis=0)
    assert len(times_ns) == len(replied_ns), "everything arrives"
    late_ms: NDArray[np.float64] = (times_ns - replied_ns[:, None]).ravel() / 1e6
    return late_ms
