"""`pit bench core`: the engine alone, no process, no disk.

The slowest command is looked for twice. As it was: every call in one run, the machine's interruptions included,
beside an empty kernel called just as often. Of itself: the same commands are applied from the same state several
times and each keeps its best time; what the machine did to one run does not come back in the others.
"""

import time
from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bus.messages import Records
from engine import schema
from engine.exchange import Exchange
from supervisor.bench import orders
from supervisor.bench.report import Report, percentile_text

BATCH_COUNT = 1_000
RUN_COUNT = 5
SLOW_US = 100.0
LEVEL_COUNT = 100_000
RESTING_COUNT = 1_000_000
CAPACITY = schema.Capacity(order_capacity=1 << 21)
SHALLOW_GOAL_COUNT = 5_000_000  # orders/s


def run(*, quick: bool) -> Report:
    """Measure everything."""
    report = Report(title="core")
    count = 100_000 if quick else 1_000_000
    resting_count = RESTING_COUNT // 10 if quick else RESTING_COUNT
    level_count = LEVEL_COUNT // 10 if quick else LEVEL_COUNT
    filled = orders.filling(level_count, resting_count)
    book = f"{resting_count:,} resting orders on {level_count:,} levels"
    flow, stirring = orders.trading(count), orders.stirring(filled, level_count, count // 4)
    nothing = filled[:0]

    _rate(report, "limit orders that trade", nothing, flow, f"{SHALLOW_GOAL_COUNT:,}")
    _rate(report, f"the same before {book}", filled, flow, f"{SHALLOW_GOAL_COUNT // 2:,}")
    _rate(report, f"put, take and cancel all over {book}", filled, stirring, "")
    _slowest(report, filled, stirring[: count // 5])
    _memory(report)
    return report


def _started(resting: Records) -> Exchange:
    exchange = Exchange(orders.LISTING, CAPACITY)
    _apply(exchange, orders.funding(), must_accept=True)
    _apply(exchange, resting, must_accept=True)
    return exchange


def _apply(exchange: Exchange, commands: Records, *, must_accept: bool = False) -> None:
    for start in range(0, len(commands), BATCH_COUNT):
        batch = commands[start : start + BATCH_COUNT]
        while len(batch):
            applied = exchange.apply(batch, 1.0, blob_size=len(orders.DETAIL))
            assert not must_accept or not applied.results["code"].any(), "the benchmark's own orders must be accepted"
            batch = batch[applied.done :]


def _rate(report: Report, what: str, resting: Records, flow: Records, goal: str) -> None:
    rates, cpu_rates = [], []
    batch_us: list[float] = []
    for run_number in range(RUN_COUNT + 1):
        exchange = _started(resting)
        before = exchange.event_number, exchange.deal_id, exchange.sequence
        begin_cpu_ns = time.thread_time_ns()
        times_ns = np.array([*_timed(exchange, flow, BATCH_COUNT)])
        cpu_ns = time.thread_time_ns() - begin_cpu_ns
        if run_number == 0:
            continue  # machine code is made and memory touched for the first time
        rates.append(len(flow) / (times_ns.sum() / 1e9))
        cpu_rates.append(len(flow) / (cpu_ns / 1e9))
        batch_us += list(times_ns / 1000)
    event_count, deal_count, accepted_count = (
        after - old
        for after, old in zip((exchange.event_number, exchange.deal_id, exchange.sequence), before, strict=True)
    )
    batches = f"batches of {BATCH_COUNT:,}: {percentile_text(batch_us, 'us', (50, 99, 100))}"
    detail = (
        f"{accepted_count / len(flow):.0%} accepted,"
        f" {deal_count / len(flow):.2f} deals and {event_count / len(flow):.2f} events each;"
        f" {batches}; runs {min(rates):,.0f} to {max(rates):,.0f};"
        f" {np.median(cpu_rates):,.0f} a second of CPU time"
    )
    report.add(what, float(np.median(rates)), "orders/s", goal, detail)


def _timed(exchange: Exchange, commands: Records, batch_count: int) -> Iterator[int]:
    """Apply all commands and yield the nanoseconds of each batch."""
    for start in range(0, len(commands), batch_count):
        batch = commands[start : start + batch_count]
        begin_ns = time.perf_counter_ns()
        applied = exchange.apply(batch, 2.0)
        while applied.done < len(batch):
            batch = batch[applied.done :]
            applied = exchange.apply(batch, 2.0)
        yield time.perf_counter_ns() - begin_ns


@njit  # type: ignore[untyped-decorator]  # numba has no types
def _nothing(commands: Records) -> int:
    return len(commands)


def _empty(count: int, commands: Records) -> NDArray[np.int64]:
    """The nanoseconds of calls of a kernel that does nothing: what the machine adds by itself."""
    _nothing(commands)
    times_ns = np.empty(count, "i8")
    for place in range(count):
        begin_ns = time.perf_counter_ns()
        _nothing(commands)
        times_ns[place] = time.perf_counter_ns() - begin_ns
    return times_ns


def _slowest(report: Report, resting: Records, flow: Records) -> None:
    runs = []
    for _ in range(3):
        exchange = _started(resting)
        runs.append(np.array([*_timed(exchange, flow, 1)]))
    first_us, best_us = runs[0] / 1000, np.min(runs, axis=0) / 1000
    empty_us = _empty(len(flow), flow[:1]) / 1000
    goal = f"none above {SLOW_US:.0f}"
    percents = (50, 99, 99.99, 100)
    for what, times_us in (
        ("slowest single command: of itself", best_us),
        ("slowest single command: as it was", first_us),
        ("slowest empty kernel on this machine", empty_us),
    ):
        slow = f"{(times_us > SLOW_US).sum()} of {len(times_us):,} above {SLOW_US:.0f} us"
        detail = f"{percentile_text(times_us, 'us', percents)}; {slow}"
        report.add(what, float(times_us.max()), "us", goal if times_us is best_us else "", detail)


def _memory(report: Report) -> None:
    """Bytes by kind of thing, from the record sizes and the load of the tables at full capacity."""
    capacity = schema.Capacity()
    memory = np.zeros(Exchange.size(capacity), np.uint8)
    parts = {name: array.nbytes for name, array in schema.arrays(memory, capacity)._asdict().items()}
    order_bytes = (parts["slots"] + parts["order_index"]) / capacity.order_capacity
    report.add(
        "memory of an open order",
        order_bytes,
        "bytes",
        detail=f"slot {schema.SLOT.itemsize}, the rest is its index entry",
    )
    report.add("memory of a price level", schema.LEVEL.itemsize, "bytes")
    balance_bytes = parts["balances"] / capacity.balance_capacity
    report.add(
        "memory of a balance",
        balance_bytes,
        "bytes",
        detail=f"row {schema.BALANCE.itemsize}, in a table with room to spare",
    )
    user_market_bytes = parts["user_markets"] / capacity.user_market_capacity
    report.add(
        "memory of a user in a market", user_market_bytes, "bytes", detail="once it has had a resting order there"
    )
    user_bytes = 2 * balance_bytes + user_market_bytes
    report.add("memory of a user", user_bytes, "bytes", detail="two balances, one market")
