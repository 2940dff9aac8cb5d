"""`pit market`: make market data anew, and bring in older candles.

The exchange may run: its market process looks at the store every few seconds, and loads it anew when it was changed.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace as with_fields
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bus import positions
from bus.catalog import Catalog, Market
from bus.eventlog import Reader
from conf.markets import BadMarkets
from conf.options import configured
from conf.settings import Settings
from engine.journal_reader import Damaged
from engine.listed import listed
from engine.retelling import NotRetold
from market import calendar, importing, rebuilding
from market.board import kept_since
from market.csv_candles import BadFile, Reading, read
from market.importing import Done
from market.keeper import NAME
from market.opening import store_of
from market.schema import NAMES
from market.store import Part, StoreDown, StoreWrong

SENTINEL = "sentinel://"
RESOLUTIONS = {name: resolution for resolution, name in NAMES.items()}


@click.group()
def market() -> None:
    """Market data: k-lines, last prices and recent deals."""


@market.command()
@click.option("--drop-imported", is_flag=True, help="Drop candles that no deal of this exchange has made, too.")
@configured
def rebuild(settings: Settings, drop_imported: bool) -> None:
    """Make all market data anew from the events of this exchange.

    Imported candles from before its first deals are kept; what was imported later has to be imported again. Where
    the event log does not reach back to the first event, the journal is replayed. The exchange may run or not.
    """
    until_number = Reader(settings.paths.events_dir).durable_number
    if not until_number:
        raise click.ClickException("the event log has no events; if there were some, start the exchange: it makes them")
    with _troubles(), closing(store_of(settings)) as store:
        catalog = listed(settings)
        stored = None if drop_imported else store.load(catalog, kept_since(settings.market, int(time.time())))
        with _progress() as bar:
            task = bar.add_task("events", total=until_number)
            parts, position = rebuilding.made(
                settings, catalog, until_number, lambda number: bar.update(task, completed=number)
            )
        store.rebuild(rebuilding.with_older(parts, stored) if stored is not None else parts, position)
    hint = positions.Position(settings.paths.positions_dir, NAME)
    hint.tell(position.number)
    hint.close()
    click.echo(f"{len(parts)} markets made of {position.number:,} events, {position.deal_id:,} of them deals")


@market.command("import")
@click.argument("source", metavar="FILE.csv|sentinel://...")
@click.option("--market", "market_name", metavar="NAME", help="The market; from sentinel:// all, if not given.")
@click.option("--resolution", type=click.Choice(list(RESOLUTIONS)), help="The candles' size. Default: their distance.")
@click.option("--larger", is_flag=True, help="Make candles of every greater size of them, too.")
@click.option("--cut", is_flag=True, help="Cut off decimals that the market does not have.")
@click.option("--replace", is_flag=True, help="Replace candles that are there, also those that deals have made.")
@configured
def import_(
    settings: Settings,
    source: str,
    market_name: str | None,
    resolution: str | None,
    larger: bool,
    cut: bool,
    replace: bool,
) -> None:
    """Bring in older candles: from a CSV file, or from the Redis of a ViaBTC Exchange Server.

    A file has a line of names (time, open, high, low, close, volume and perhaps money, in any order) and a line for
    each candle. Times count seconds, milli- or microseconds since 1970, or are ISO 8601. From Redis, candles of all
    sizes are copied, and the last price of markets that have none, but no deals. Candles that are there stay as they
    are.
    """
    since = kept_since(settings.market, now := int(time.time()))
    with _troubles(), closing(store_of(settings)) as store:
        catalog = listed(settings)
        chosen = _market(catalog, market_name) if market_name is not None else None
        if source.startswith(SENTINEL):
            found = _copied(settings, source, catalog, chosen)
            _report(importing.store_parts(store, found, since, replace=replace))
            return
        if chosen is None:
            raise click.UsageError("name the market of the file with --market")
        size = None if resolution is None else RESOLUTIONS[resolution]
        days = calendar.of_zone(settings.market.time_zone)
        reading = Reading(chosen, size, ZoneInfo(settings.market.time_zone), days, now, cut)
        size, candles = read(Path(source), reading)
        sizes = {size: candles} | (dict(importing.larger(candles, size, days)) if larger else {})
        _report(
            importing.store_candles(store, chosen, size, found, since, replace=replace) for size, found in sizes.items()
        )


def _report(rows: Iterable[Done]) -> None:
    """Tell what is done as it is done."""
    found = False
    for found_row in rows:
        found = True
        name, resolution, *counts = found_row
        told = zip(counts, ("written", "there already", "too old to be kept"), strict=True)
        click.echo(f"{name} {NAMES[resolution]}: " + ", ".join(f"{count:,} {what}" for count, what in told if count))
    if not found:
        raise click.ClickException("there are no candles of these markets")


def _copied(settings: Settings, source: str, catalog: Catalog, chosen: Market | None) -> tuple[Part, ...]:
    """What another Redis has of one market or all."""
    from market.redis_store import RedisStore  # as in market/opening.py

    if source == settings.market.store:
        raise click.UsageError("that is the store of this exchange itself")
    wanted = catalog if chosen is None else with_fields(catalog, markets=(chosen,))
    try:
        other = RedisStore(source)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with closing(other):
        return other.load(wanted, kept_since(settings.market, int(time.time()))).parts


def _market(catalog: Catalog, name: str) -> Market:
    if name not in catalog.market_by_name:
        raise click.UsageError(f"there is no market {name}, only {', '.join(catalog.market_by_name)}")
    return catalog.market_by_name[name]


@contextmanager
def _troubles() -> Iterator[None]:
    """What the world can do to a command, as its message."""
    try:
        yield
    except (StoreDown, StoreWrong, BadFile, NotRetold, Damaged, BadMarkets, OSError) as error:
        raise click.ClickException(str(error)) from None


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))
