"""`pit bench history`: how many trades a second the history keeps up with, and how late it is.

A private exchange trades as fast as its history stores, everything else running on the same machine; then at half that
rate, where waiting for an order to be in the history tells of the recorder and not of a backlog.
"""

import math
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pymysql
import zmq

from bus.calls import call
from bus.codes import Code
from bus.endpoints import place
from bus.messages import unpack
from bus.methods import METHODS
from conf.settings import Settings
from supervisor.bench import mariadb, orders, private
from supervisor.bench.cpu import Meter
from supervisor.bench.report import Report, machine, percentile_text
from supervisor.bench.stored import Passed, Sample, passed
from supervisor.bench.trading import REPLY_TIMEOUT_MS, Run, Trading

SQLITE, MYSQL = "sqlite", "mysql"
GOALS = {SQLITE: "15,000", MYSQL: "6,000"}  # trades/s
LAG_GOAL = "< 1,000"  # ms
WINDOW_S = 5  # of parts of this length, the slowest one is told
PACED_PART = 1 / 2  # so that what a pause of the disk left is soon stored
DRAIN_TIMEOUT_S = 60.0
PAGE_COUNT = 100
DATABASE = "trade_history"
PERCENTS = (50, 90, 99, 100)
# The least that a server for this wants (docs/history.md); what commits wait for is as it comes.
MARIADB_OPTIONS = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G")


class Store(NamedTuple):
    """Where the history is kept meanwhile."""

    kind: str
    setting: str  # [history] store
    server: mariadb.MariaDb | None  # a private one

    @property
    def pids(self) -> dict[str, int]:
        """The database's, when it is private."""
        return {"database": self.server.pid} if self.server else {}

    @property
    def described(self) -> dict[str, str]:
        """The private server, for the head of the report."""
        return {"database": f"{self.server.version}, {' '.join(MARIADB_OPTIONS)}"} if self.server else {}

    def size(self, settings: Settings) -> int:
        """Bytes that it takes on the disk; 0 when that can't be seen from here."""
        if self.kind == SQLITE:
            return _file_size(settings.paths.history_file)
        return _database_size(self.server.account) if self.server else 0


def run(store: str, folder: Path | None, *, quick: bool) -> Report:
    """Measure everything. `store` is the setting, or "mysql" for a private MariaDB."""
    seconds = 6 if quick else 60
    with _store(store, folder) as kept:
        sections = f'[history]\nstore = "{kept.setting}"'
        commands = [("history", "init")] if kept.kind == MYSQL else []
        with private.exchange(folder, None, sections=sections, commands=commands) as settings:
            title = f"history in {kept.kind}, everything on one machine"
            report = Report(title=title, machine=machine(settings.data_dir) | kept.described)
            trading = Trading(settings)
            try:
                trading.fund()
                rate = _flat_out(report, trading, settings, kept, seconds)
                _paced(report, trading, settings, rate * PACED_PART, seconds / 3)
            finally:
                trading.close()
            _questions(report, settings, 50 if quick else 500)
    return report


@contextmanager
def _store(store: str, folder: Path | None) -> Iterator[Store]:
    """What `store` means; a private MariaDB runs meanwhile, if it is one."""
    if store != MYSQL:
        yield Store(SQLITE if store == SQLITE else MYSQL, store, None)
        return
    with (
        tempfile.TemporaryDirectory(prefix="tradepit-bench-mariadb-", dir=folder) as place,
        mariadb.private(Path(place) / "server", MARIADB_OPTIONS) as server,
    ):
        yield Store(MYSQL, server.address(DATABASE), server)


def _flat_out(report: Report, trading: Trading, settings: Settings, store: Store, seconds: float) -> float:
    """Trade as fast as all of it is stored; return the orders a second that this was."""
    trading.run(seconds / 10)  # batches find their size
    _drain(trading)
    size_before, meter = store.size(settings), Meter(settings, **store.pids)
    done = trading.run(seconds)
    first, last, end = done.samples[0], done.samples[-1], _drain(trading)
    everything = passed(settings.paths.events_dir, first.stored, end.durable)
    all_trade_count = everything.between(first.stored, end.durable).trades
    spent = meter.text(all_trade_count)
    counts = everything.between(first.stored, last.stored)
    rate = counts.trades / done.seconds
    detail = (
        f"{counts.events / done.seconds:,.0f} events/s, {counts.rows / done.seconds:,.0f} rows/s in the original's"
        f" tables, {counts.rows / counts.trades:.1f} rows a trade; the slowest {WINDOW_S} s"
        f" {min(_window_rates(done.samples, everything)):,.0f} trades/s; behind {_behind_text(done)}; {spent}"
    )
    report.add(
        f"trades stored while trading goes on, {done.seconds:.0f} s", rate, "trades/s", GOALS[store.kind], detail
    )
    _lag(report, done, rate, goal="")
    if size_before:
        used = (store.size(settings) - size_before) / all_trade_count
        report.add("disk that a trade takes in the history", used, "bytes")
    return done.order_count / done.seconds


def _paced(report: Report, trading: Trading, settings: Settings, order_rate: float, seconds: float) -> None:
    """Trade at a rate that leaves time."""
    done = trading.run(seconds, order_rate)
    first, last = done.samples[0], done.samples[-1]
    trade_count = (
        passed(settings.paths.events_dir, first.durable, last.durable).between(first.durable, last.durable).trades
    )
    _lag(report, done, trade_count / done.seconds, goal=LAG_GOAL)
    _drain(trading)


def _lag(report: Report, done: Run, rate: float, goal: str) -> None:
    """How late orders come to be in the history."""
    if not done.lags_ms:
        raise click.ClickException("no order was found in the history; `pit logs history-0` of an exchange shows why")
    lags = f"{percentile_text(done.lags_ms, 'ms', PERCENTS)}, {len(done.lags_ms):,} orders"
    failed = f"; {done.failed_count} questions failed" if done.failed_count else ""
    detail = f"{lags}; behind {_behind_text(done)}{failed}"
    what = f"from an order's reply until it is in the history, at {rate:,.0f} trades/s: p99"
    report.add(what, float(np.percentile(done.lags_ms, 99)), "ms", goal, detail)


def _behind_text(done: Run) -> str:
    return percentile_text([sample.durable - sample.stored for sample in done.samples], "events", PERCENTS)


def _window_rates(samples: list[Sample], everything: Passed) -> list[float]:
    """Trades a second that were stored in each part of WINDOW_S."""
    times = np.array([sample.time_s for sample in samples])
    edges = np.searchsorted(times, np.arange(times[0], times[-1], WINDOW_S)).tolist()
    return [
        everything.between(samples[start].stored, samples[end].stored).trades / (times[end] - times[start])
        for start, end in pairwise(edges)
    ]


def _drain(trading: Trading) -> Sample:
    """Wait until everything is stored."""
    sample = trading.drain(DRAIN_TIMEOUT_S)
    if sample.stored < sample.durable:
        raise click.ClickException(
            f"{sample.durable - sample.stored:,} events are not stored after {DRAIN_TIMEOUT_S:.0f} s"
        )
    return sample


def _questions(report: Report, settings: Settings, count: int) -> None:
    """What pages of the history take, one question at a time, nothing else going on."""
    market, draw = orders.MARKET, np.random.default_rng(7)
    pages: dict[str, list[Any]] = {
        "market.user_deals": [market.name, 0, PAGE_COUNT],
        "order.finished": [market.name, 0, 0, 0, PAGE_COUNT],
        "balance.history": [market.money, "trade", 0, 0, 0, PAGE_COUNT],
    }
    socket: Any = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(place(settings, "history"))
    for name, rest in pages.items():
        times_ms = []
        for user_id in draw.integers(1, orders.USER_COUNT + 1, count).tolist():
            begin_s = time.perf_counter()
            socket.send(call(METHODS[name], [user_id, *rest], tag=1))
            if not socket.poll(REPLY_TIMEOUT_MS):
                raise click.ClickException(f"{name} was not answered in {REPLY_TIMEOUT_MS} ms")
            if (code := Code(unpack(socket.recv()).total)) != Code.OK:
                raise click.ClickException(f"{name} was answered with {code.name}")
            times_ms.append((time.perf_counter() - begin_s) * 1000)
        what = f"{name}, {PAGE_COUNT} newest records, median"
        report.add(what, float(np.median(times_ms)), "ms", "", percentile_text(times_ms, "ms", PERCENTS))
    socket.close()


def _file_size(file: Path) -> int:
    """Bytes of a SQLite file when its log will be copied into it."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        sizes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return math.prod(sizes)


def _database_size(account: dict[str, Any]) -> int:
    """Bytes of the pages in use: its files are larger, each has room ahead."""
    with pymysql.connect(**account, database="information_schema") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM tables WHERE table_schema = %s", (DATABASE,))
        names = ", ".join(f"`{DATABASE}`.`{name}`" for (name,) in cursor.fetchall())
        cursor.execute(f"ANALYZE TABLE {names}")
        cursor.execute("SELECT SUM(data_length + index_length) FROM tables WHERE table_schema = %s", (DATABASE,))
        return int(cursor.fetchone()[0])
