"""`pit bench ws`: one WebSocket process of a private exchange, and beside it the simplest server on gevent-websocket.

Trades are made over the bus, one deal each, and the gateway tells all subscribers of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from conf.settings import Settings
from supervisor import control
from supervisor.bench import private, ws_auth, ws_delivery, ws_idle, ws_latency, ws_stuck
from supervisor.bench.report import Report, machine
from supervisor.bench.ws_clients import Lost
from supervisor.bench.ws_crowd import Server
from supervisor.bench.ws_trades import Trades


class Work(NamedTuple):
    """How much is done."""

    idle_count: int
    subscriber_counts: tuple[int, ...]
    seconds: float  # of each load
    round_count: int  # with and without a client that does not read
    trade_count: int  # of which latency is taken


FULL = Work(10_000, (1_000, 5_000), 10.0, 5, 200)
QUICK = Work(1_000, (1_000, 5_000), 1.0, 3, 20)


def run(folder: Path | None, work: Work) -> Report:
    """Measure everything."""
    try:
        with _exchange(folder) as settings:
            report = Report(title="ws, one process, durable", machine=machine(settings.data_dir))
            gateway, trades = server_of(settings), Trades(settings)
            try:
                trades.open()
                ws_idle.measure(report, gateway, work.idle_count)
                for count in work.subscriber_counts:
                    ws_delivery.measure(report, settings, gateway, trades, count, work.seconds)
                ws_stuck.measure(
                    report, settings, gateway, trades, work.subscriber_counts[0], work.seconds / 2, work.round_count
                )
                for count in (1, *work.subscriber_counts):
                    ws_latency.measure(report, gateway, trades, count, work.trade_count)
            finally:
                trades.close()
    except Lost as lost:
        raise click.ClickException(str(lost)) from None
    return report


@contextmanager
def _exchange(folder: Path | None) -> Iterator[Settings]:
    with ws_auth.serving() as auth_url:
        ws = {
            "auth_url": auth_url,
            "connection_per_address_max": 1_000_000,
            "metrics_bind": f"127.0.0.1:{private.free_port()}",
            "ping_interval_s": 0,  # pings would be counted as notifications
            "send_buffer_max_size": 1 << 28,  # the client that does not read shall stay
            "slow_timeout_s": 3600,
        }
        with private.exchange(folder, None, ws=ws) as settings:
            yield settings


def server_of(settings: Settings) -> Server:
    """The exchange's one process of the gateway."""
    rows = control.ask(settings.paths, {"do": "status"})["processes"]
    (pid,) = (row["pid"] for row in rows if row["name"] == "ws-0")
    host, _, port = settings.ws.bind.rpartition(":")
    return Server(host, int(port), pid)
