"""What an exchange has listed, from its disk: for commands that work while it is stopped.

    the newest good snapshot  ->  every listing that the journal tells of after it

Indexes are those of the records, which a change of the listing's order does not change.
"""

import json

from bus import catalog
from bus.catalog import Catalog
from bus.messages import CommandKind, QueryKind
from conf import markets
from conf.markets import Listing
from conf.settings import Settings
from engine import snapshot
from engine.content import by_row
from engine.exchange import Exchange
from engine.journal_reader import Entry, Scan
from engine.recovery import NO_LISTING


def listed(settings: Settings) -> Catalog:
    """The assets and markets; before the first start those of the markets file.

    Raises Damaged, BadMarkets, OSError.
    """
    exchange = Exchange(NO_LISTING)
    start = snapshot.newest(settings.paths.snapshots_dir).snapshot
    if start is not None:
        exchange.configure(by_row(start.listing, start.content))
        exchange.configure(start.listing)
    for entry in Scan(settings.paths.journal_dir, start.sequence if start else 0):
        if entry.frame.records[0]["kind"] == CommandKind.CONFIGURE:
            exchange.configure(_listing(entry))
    if not exchange.sequence:
        exchange.configure(markets.load(settings.markets_file))
    return catalog.make(exchange.answer(QueryKind.ASSETS).records, exchange.answer(QueryKind.MARKETS).records)


def _listing(entry: Entry) -> Listing:
    command = entry.frame.records[0]
    start, size = int(command["detail_offset"]), int(command["detail_size"])
    return markets.parse(json.loads(bytes(entry.frame.blob[start : start + size])))
