"""The journal from its first command on, applied once more in memory of its own: all that must have come of it."""

from dataclasses import dataclass, field
from typing import Any

from bus.catalog import Catalog
from bus.messages import Bytes, Frame, Records, unpack
from bus.text import wide
from conf.settings import Settings
from engine import recovery
from engine.exchange import Exchange
from engine.journal_reader import Scan, read_header
from engine.opening import capacity_of
from engine.recovery import events_frames
from tests.soak.wanted.commands import Commands
from tests.soak.wanted.history import Rows
from tests.soak.wanted.market import MarketTwin
from tests.soak.wanted.messages import Messages
from tests.soak.wanted.own import OwnOrders, Sums

Held = tuple[int, int]  # available and frozen, in 10^-prec_save
Balances = dict[tuple[int, str], Held]  # by user and asset; those of nothing are left out


@dataclass
class Wanted:
    """What follows from the journal."""

    commands: Commands
    rows: Rows
    market: MarketTwin
    messages: Messages
    own: OwnOrders
    sums: Sums
    command_count: int = 0
    event_count: int = 0
    balances: Balances = field(default_factory=dict)

    def add(self, frame: Frame) -> None:
        """Take the next events."""
        self.event_count += len(frame.records)
        for part in (self.commands, self.rows, self.market, self.messages, self.own, self.sums):
            part.add(frame)


def wanted_of(settings: Settings, catalog: Catalog, followed: frozenset[int]) -> Wanted:
    """Replay the whole journal of an exchange that has ended. Raises Damaged, Diverged, AssertionError of the twin."""
    wanted = Wanted(
        Commands(catalog),
        Rows(catalog),
        MarketTwin(catalog, settings.market),
        Messages(catalog),
        OwnOrders(catalog, followed),
        Sums(catalog),
    )
    header = read_header(settings.paths.journal_dir)
    assert header is not None, "there is no journal"
    exchange = recovery.begin(None, capacity_of(settings), seed=header.seed)

    def tell(events: Records, blob: Bytes, now: float) -> None:
        for data in events_frames(events, blob, now):
            wanted.add(unpack(data))

    for entry in Scan(settings.paths.journal_dir):
        recovery.replay(exchange, entry, tell)
    wanted.command_count = exchange.sequence
    wanted.balances = balances_of(exchange, catalog)
    return wanted


def balances_of(exchange: Exchange, catalog: Catalog) -> Balances:
    """Every balance that is not nothing."""
    rows = exchange.state.balances[exchange.state.balances["used"] != 0]
    return {
        (int(row["user_id"]), catalog.asset_by_index[row["asset"]].name): held
        for row in rows
        if any(held := (_units(row["available_units"]), _units(row["freeze_units"])))
    }


def _units(halves: Any) -> int:
    return wide(*halves.tolist())
