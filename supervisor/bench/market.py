"""`pit bench market`: how many deals a second the market process takes over, and what its answers cost; no socket.

The events are those of the engine, for orders that trade in three markets, cut into frames of a thousand deals, as
after a pause, and into frames of one. The answers come from a month of minutes, and are taken as text.
"""

import importlib
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bus import catalog
from bus.messages import EventKind, Frame, FrameKind, QueryKind, Records, pack, unpack
from bus.methods import METHODS
from conf.settings import MarketData
from engine import schema
from engine.exchange import Exchange
from supervisor.bench import orders
from supervisor.bench.report import Report, percentile_text

BATCH_COUNT = 1_000  # orders that the engine gets at once: these have the same time
SECONDS_PER_BATCH = 0.1
BEGIN_S = 1_777_593_600.0  # 2026-05-01
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
ORDERS_A_MINUTE = 20
FRAMES_AT_ONCE = 500  # of the month
PERCENTS = (50, 99, 100)


def run(*, quick: bool) -> Report:
    """Measure everything."""
    report = Report(title="market data")
    count = 20_000 if quick else 200_000
    exchange = _exchange()
    events = _events(exchange, count, SECONDS_PER_BATCH)
    for deal_count, what in ((1_000, "deals taken over, 1,000 in a frame"), (1, "deals taken over, one in a frame")):
        part = events if deal_count > 1 else events[: len(events) // 4]
        _rate(report, what, exchange, [*_frames(part, deal_count)])
    _answers(report, days=3 if quick else 30, count=50 if quick else 300)
    return report


def _exchange() -> Exchange:
    exchange = Exchange(orders.LISTING, schema.Capacity(order_capacity=1 << 20))
    exchange.apply(orders.funding(), BEGIN_S, blob_size=len(orders.DETAIL))
    return exchange


def _events(exchange: Exchange, order_count: int, batch_s: float, batch_count: int = BATCH_COUNT) -> Records:
    """The events of so many orders, `batch_count` of them every `batch_s` seconds."""
    flow = orders.trading(order_count, market_count=len(orders.LISTING.markets))
    found = []
    for number, start in enumerate(range(0, order_count, batch_count)):
        batch = flow[start : start + batch_count]
        applied = exchange.apply(batch, BEGIN_S + number * batch_s)
        assert applied.done == len(batch), "the event buffer holds what a batch makes"
        found.append(applied.events.copy())
    return np.concatenate(found)


def _frames(events: Records, deal_count: int) -> Iterator[Frame]:
    """The same events in frames of so many deals."""
    ends = np.flatnonzero(events["kind"] == EventKind.DEAL)[deal_count - 1 :: deal_count] + 1
    for first, end in pairwise([0, *ends.tolist()]):
        part = events[first:end]
        yield unpack(pack(FrameKind.EVENTS, part, first=int(part[0]["number"]), time=float(part[0]["time"])))


def _board(exchange: Exchange) -> Any:
    """An empty board that knows the markets. The supervisor names what is beside it, and never imports it."""
    board = importlib.import_module("market.board").Board(MarketData())
    asset_records, market_records = (exchange.answer(kind).records for kind in (QueryKind.ASSETS, QueryKind.MARKETS))
    board.know(catalog.make(asset_records, market_records))
    return board


def _rate(report: Report, what: str, exchange: Exchange, frames: list[Frame]) -> None:
    board = _board(exchange)
    deal_count = sum(int((frame.records["kind"] == EventKind.DEAL).sum()) for frame in frames)
    times_us = []
    begin_cpu_ns = time.thread_time_ns()
    for frame in frames:
        begin_ns = time.perf_counter_ns()
        board.apply([frame])
        times_us.append((time.perf_counter_ns() - begin_ns) / 1_000)
    cpu_us = (time.thread_time_ns() - begin_cpu_ns) / 1_000
    event_count = sum(len(frame.records) for frame in frames)
    detail = (
        f"{event_count / deal_count:.1f} events a deal; a frame took {percentile_text(times_us, 'us', PERCENTS)};"
        f" {cpu_us / deal_count:.2f} us of CPU time a deal"
    )
    report.add(what, deal_count / (sum(times_us) / 1e6), "deals/s", "", detail)


class Question(NamedTuple):
    """Something that is asked of a market."""

    what: str
    method: str
    values: list[int]  # what follows the market


def _questions(days: int, now: int) -> list[Question]:
    lengths = {MINUTE_S: 1_000, HOUR_S: days * 24, DAY_S: days}
    klines = [
        Question(
            f"market.kline, {row_count:,} rows of {interval:,} s",
            "market.kline",
            [now - (row_count - 1) * interval, now, interval],
        )
        for interval, row_count in lengths.items()
    ]
    return [
        *klines,
        Question("market.status of a day", "market.status", [DAY_S]),
        Question("market.status_today", "market.status_today", []),
        Question("market.deals, the newest 100", "market.deals", [100, 0]),
    ]


def _answers(report: Report, days: int, count: int) -> None:
    """What questions take when so many days lie behind."""
    exchange = _exchange()
    events = _events(exchange, days * DAY_S // MINUTE_S * ORDERS_A_MINUTE, MINUTE_S, ORDERS_A_MINUTE)
    board, frames = _board(exchange), [*_frames(events, ORDERS_A_MINUTE)]
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        board.apply(frames[start : start + FRAMES_AT_ONCE])
    now = int(events[-1]["time"])
    respond = importlib.import_module("market.replies").Respondent(board, MarketData(), lambda: float(now))
    for question in _questions(days, now):
        times_ms, answer = [], ""
        for place in range(count):
            market = board.catalog.markets[place % len(board.catalog.markets)]
            begin_ns = time.perf_counter_ns()
            answer = respond(METHODS[question.method], [market, *question.values])
            times_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
        detail = f"{len(answer):,} bytes; {percentile_text(times_ms, 'ms', PERCENTS)}"
        report.add(f"{question.what}, median", float(np.median(times_ms)), "ms", "", detail)
