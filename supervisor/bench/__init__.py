"""The commands `pit bench`: how fast this machine runs tradepit, with machine, load and percentiles.

Benchmarks, never timed tests: they print figures beside their goals and judge nothing. The modules behind the
commands are imported when they are called, because they bring the compiled kernels with them.
"""

from pathlib import Path

import click

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_DIR = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep its data here: a folder on the disk to measure.",
)
_CONF = click.option(
    "--conf",
    "conf_file",
    type=click.Path(path_type=Path),
    help="Measure this running exchange, not a private one; its users 1 to 1,000 become rich.",
)
_QUICK = click.option("--quick", is_flag=True, help="A tenth of the work, for a first look.")


@click.group()
def command() -> None:
    """Measure this machine; each prints the machine, its load, and percentiles."""


@command.command("core")
@_JSON
@_QUICK
def bench_core(as_json: bool, quick: bool) -> None:
    """The engine alone: orders per second, the slowest command, memory."""
    from supervisor.bench import core

    core.run(quick=quick).show(as_json=as_json)


@command.command("bus")
@_JSON
@_QUICK
@_DIR
@_CONF
def bench_bus(as_json: bool, quick: bool, folder: Path | None, conf_file: Path | None) -> None:
    """A private exchange over its bus, each reply after fdatasync."""
    from supervisor.bench import bus

    bus.run(folder, conf_file, quick=quick).show(as_json=as_json)


@command.command("http")
@_JSON
@_QUICK
@_DIR
@_CONF
def bench_http(as_json: bool, quick: bool, folder: Path | None, conf_file: Path | None) -> None:
    """A private exchange over HTTP, under wrk."""
    from supervisor.bench import http

    http.run(folder, conf_file, quick=quick).show(as_json=as_json)


@command.command("history")
@_JSON
@_QUICK
@_DIR
@click.option(
    "--store",
    default="sqlite",
    show_default=True,
    metavar="STORE",
    help="sqlite; mysql: a private MariaDB; mysql://user:password@host/database: an empty one, for this only.",
)
def bench_history(as_json: bool, quick: bool, folder: Path | None, store: str) -> None:
    """A private exchange: how many trades a second its history stores, and how late it is."""
    from supervisor.bench import history

    history.run(store, folder, quick=quick).show(as_json=as_json)


@command.command("market")
@_JSON
@_QUICK
def bench_market(as_json: bool, quick: bool) -> None:
    """Market data alone: deals per second taken over, and what answers cost."""
    from supervisor.bench import market

    market.run(quick=quick).show(as_json=as_json)


@command.command("ws")
@_JSON
@_QUICK
@_DIR
def bench_ws(as_json: bool, quick: bool, folder: Path | None) -> None:
    """A private exchange: its WebSocket clients, notifications, how late they are."""
    from supervisor.bench import ws

    ws.run(folder, ws.QUICK if quick else ws.FULL).show(as_json=as_json)


@command.command("kafka")
@_JSON
@_QUICK
@_DIR
def bench_kafka(as_json: bool, quick: bool, folder: Path | None) -> None:
    """A private exchange and broker: messages a second through the courier, and how late they are."""
    from supervisor.bench import kafka

    kafka.run(folder, quick=quick).show(as_json=as_json)
