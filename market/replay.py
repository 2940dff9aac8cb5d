"""The command `pit replay`: recorded order flow of a real exchange, played through a running tradepit.

As fast as it goes, a cancel still waits for the reply to its put, so that an order may live longer here, counted in
rows, than it did there, and trade more; at the recorded speed it hardly does.
"""

import time
from itertools import islice
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bus.endpoints import address
from conf.options import configured
from conf.settings import Settings
from market import bitstamp
from market.bus_link import BusLink
from market.http_link import HttpLink
from market.links import Link, LinkBroken
from market.orderflow import Flow
from market.player import Player, Tally
from market.trades import count_deals, last_event_number

PERCENTS = (50, 90, 99, 99.9, 100)


@click.command()
@click.option("--via", type=click.Choice(["http", "bus"]), default="bus", show_default=True, help="The way in.")
@click.option(
    "--file", type=click.Path(path_type=Path), help="Another recording with the same columns: .csv or .csv.gz."
)
@click.option("--market", "market_name", default="BTCUSD", show_default=True, help="The market it is played on.")
@click.option("--users", "user_count", type=click.IntRange(1, 1_000_000), default=300, show_default=True)
@click.option("--speed", type=click.FloatRange(min=0), default=0.0, help="1: as recorded. Default: as fast as it goes.")
@click.option("--limit", "row_count", type=click.IntRange(1), help="Play only the first rows of the recording.")
@configured
def command(
    settings: Settings,
    via: str,
    file: Path | None,
    market_name: str,
    user_count: int,
    speed: float,
    row_count: int | None,
) -> None:
    """Play recorded order flow of a real exchange through the running one."""
    console = Console()
    try:
        path = file or bitstamp.find()
        link = _connect(settings, via)
        try:
            market = link.market(market_name)
            rows = list(islice(bitstamp.read(path, market.money_prec, market.stock_prec), row_count))
            console.print(f"{len(rows):,} rows of {path.name} on {market.name} over {via}, by {user_count} users")
            player, flow, tally = Player(link), Flow(rows, user_count), Tally()
            player.fund(market, rows, user_count)
            before = last_event_number(settings.paths.events_dir)
            interrupted = False
            began_s = time.perf_counter()
            with _progress(console) as bar:
                task = bar.add_task("rows", total=len(rows))
                try:
                    player.play(flow, tally, speed, lambda count: bar.update(task, completed=count))
                except KeyboardInterrupt:
                    interrupted = True
            seconds = time.perf_counter() - began_s
        finally:
            link.close()
    except (bitstamp.NoRecording, LinkBroken) as error:
        raise click.ClickException(str(error)) from None
    console.print(report(flow, tally, seconds, count_deals(settings.paths.events_dir, before)))
    if interrupted:
        raise KeyboardInterrupt  # for the exit code


def report(flow: Flow, tally: Tally, seconds: float, trade_count: int | None) -> Table:
    """What the run did, as a table."""
    done_count = tally.put_count + tally.cancel_count
    table = Table(show_header=False)
    table.add_row("orders", f"{tally.put_count:,}")
    table.add_row("  that traded on arrival", f"{tally.taker_count:,}")
    table.add_row("cancels", f"{tally.cancel_count:,}")
    table.add_row("trades", "unknown: the event log is not here" if trade_count is None else f"{trade_count:,}")
    table.add_row("rows with nothing left to do", f"{flow.skipped_count:,}")
    table.add_row("rejects", f"{tally.refusals.total():,}")
    for text, count in tally.refusals.most_common():
        table.add_row(f"  {text}", f"{count:,}")
    table.add_row("seconds", f"{seconds:.2f}")
    table.add_row("rate", f"{done_count / max(seconds, 1e-9):,.0f} commands/s")
    if tally.latencies_s:
        values = np.percentile(np.array(tally.latencies_s) * 1000, PERCENTS)
        for percent, value in zip(PERCENTS, values, strict=True):
            table.add_row(f"latency p{percent}" if percent < 100 else "latency max", f"{value:.2f} ms")
    return table


def _connect(settings: Settings, via: str) -> Link:
    if via == "bus":
        return BusLink(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
    host, _, port = settings.http.bind.rpartition(":")
    return HttpLink(host.strip("[]"), int(port))


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console)
