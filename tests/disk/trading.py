"""A flow of commands that trade, and a journal, event log and exchange that live together as in the matcher."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from bus import eventlog
from bus.codes import Code
from bus.messages import COMMAND, CommandKind, FrameKind, Records, Side, pack
from conf import markets
from conf.markets import Listing
from conf.paths import Paths
from engine.exchange import Exchange
from engine.journal import Journal
from engine.journal_reader import Header
from engine.opening import configure_frame
from engine.recovery import Rebuilt, events_frame, rebuild
from engine.schema import Capacity

CAPACITY = Capacity(
    order_capacity=4096, level_capacity=2048, balance_capacity=1024, user_market_capacity=512, update_capacity=4096
)
HEADER = Header(seed=11, instance="test")
DETAIL = b"{}"


def _asset(name: str) -> dict[str, object]:
    return {"name": name, "prec_save": 20, "prec_show": 8}


def _market(stock: str, **other: object) -> dict[str, object]:
    return {"name": f"{stock}USD", "stock": {"name": stock, "prec": 8}, "money": {"name": "USD", "prec": 8}, **other}


LISTING = markets.parse({"assets": [_asset("BTC"), _asset("USD")], "markets": [_market("BTC")]})
# what is new stands first: clients see another order than the records refer to
WIDER = markets.parse({
    "assets": [_asset("ETH"), _asset("BTC"), _asset("USD")],
    "markets": [_market("ETH"), _market("BTC", min_amount="0.1")],
})


class Flow:
    """Deposits, orders near one price, cancels; some are refused."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._business_id = 1000 * seed
        self._order_id = 0

    def batch(self, count: int) -> Records:
        commands = np.zeros(count, COMMAND)
        commands["kind"] = self._draw.choice(
            [CommandKind.PUT_LIMIT, CommandKind.UPDATE_BALANCE, CommandKind.CANCEL], count, p=[0.7, 0.2, 0.1]
        )
        commands["user_id"] = self._draw.integers(1, 5, count)
        commands["side"] = self._draw.integers(Side.ASK, Side.BID + 1, count)
        commands["amount_units"] = self._draw.integers(1, 100, count) * 10**7
        commands["price_units"] = self._draw.integers(95, 106, count) * 10**8
        commands["taker_rate_units"], commands["maker_rate_units"] = 20, 10
        commands["asset"] = self._draw.integers(0, 2, count)
        commands["change_units"][:, 0] = 10**13
        commands["detail_size"] = len(DETAIL)
        commands["subject_id"] = np.arange(count) + self._business_id
        cancels = commands["kind"] == CommandKind.CANCEL
        commands["subject_id"][cancels] = self._draw.integers(1, self._order_id + 2, int(cancels.sum()))
        self._business_id += count
        self._order_id += count // 2
        return commands


class House:
    """What a matcher holds, opened as it opens it."""

    def __init__(self, data_dir: Path) -> None:
        self.paths = Paths(data_dir=data_dir, instance="test")
        self.paths.make()
        self.events = eventlog.Writer(self.paths.events_dir, segment_size=1 << 20)
        try:
            self.rebuilt: Rebuilt = rebuild(self.paths, CAPACITY, header=HEADER, events=self.events)
        except BaseException:
            self.events.close()
            raise
        self.exchange: Exchange = self.rebuilt.exchange
        self.journal = Journal(self.paths.journal_dir, self.rebuilt.end, header=HEADER, segment_size=1 << 17)
        self.events.mark_durable(self.exchange.event_number)
        if not self.exchange.listing.assets:
            self.configure(LISTING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def configure(self, listing: Listing) -> None:
        self.exchange.configure(listing)
        self.journal.append(configure_frame(self.exchange, listing))
        assert self.journal.sync_now()

    def trade(self, flow: Flow, batches: int, now: float) -> None:
        for number in range(batches):
            self.apply(flow.batch(30), now + number)

    def apply(self, commands: Records, now: float, *, journaled: bool = True) -> None:
        """Apply a batch as the matcher does; without `journaled`, die after the events were logged."""
        exchange = self.exchange
        applied = exchange.apply(commands, now, blob_size=len(DETAIL))
        assert applied.done == len(commands)
        accepted: Any = commands[applied.results["code"] == Code.OK]
        if not len(accepted):
            return
        if journaled:
            assert self.journal.has_room(1 << 14)
            self.journal.append(
                pack(
                    FrameKind.COMMANDS,
                    accepted,
                    DETAIL,
                    first=exchange.sequence - len(accepted) + 1,
                    total=self.journal.unsynced_count,
                    time=exchange.time,
                    results_hash=exchange.results_hash,
                    sealed=True,
                )
            )
        self.events.append(events_frame(applied.events, DETAIL, exchange.time))
        if journaled:
            assert self.journal.sync_now()
            self.events.mark_durable(exchange.event_number)

    def close(self) -> None:
        self.journal.close()
        self.events.close()
