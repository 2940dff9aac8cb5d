"""The engine with the manners of the twin: commands and answers as plain Python, so that the two can be compared."""

from collections.abc import Sequence
from typing import Any

from bus.messages import QueryKind
from conf.markets import Listing
from engine.exchange import Exchange
from engine.schema import Array, Capacity
from tests.reference.exchange import Applied
from tests.reference.records import Command, Record, plain, plain_event, to_records

SMALL = Capacity(
    order_capacity=4096,
    level_capacity=2048,
    balance_capacity=1024,
    user_market_capacity=512,
    update_capacity=4096,
    market_capacity=8,
)


class Driver:
    """An `Exchange` behind the methods of `tests.reference.exchange.Twin`."""

    def __init__(self, listing: Listing, capacity: Capacity = SMALL, exchange: Exchange | None = None) -> None:
        self.exchange = exchange or Exchange(listing, capacity)
        self.events: list[Array] = []  # all there were

    def apply(self, commands: Sequence[Command], now: float, blob_size: int = 0) -> Applied:
        """Do a batch, in as many calls as the engine's event buffer makes of it."""
        applied = Applied()
        records = to_records(commands)
        while True:
            results, events, done = self.exchange.apply(records, now, blob_size=blob_size)
            assert done or not len(records), "a call does one command at least"
            self.events.append(events.copy())
            applied.results.extend(plain(result) for result in results)
            applied.events.extend(plain_event(events[place : place + 1]) for place in range(len(events)))
            records = records[done:]
            if not len(records):
                return applied

    def configure(self, listing: Listing) -> None:
        self.exchange.configure(listing)

    def pending(self, market: int, user_id: int, offset: int, limit: int) -> tuple[list[Record], int]:
        answered = self.exchange.answer(QueryKind.PENDING, market=market, user_id=user_id, offset=offset, limit=limit)
        return self._rows(answered.records), answered.total

    def pending_detail(self, market: int, order_id: int) -> list[Record]:
        return self._rows(self.exchange.answer(QueryKind.PENDING_DETAIL, market=market, order_id=order_id).records)

    def book(self, market: int, side: int, offset: int, limit: int) -> tuple[list[Record], int]:
        answered = self.exchange.answer(QueryKind.BOOK, market=market, side=side, offset=offset, limit=limit)
        return self._rows(answered.records), answered.total

    def depth(self, market: int, limit: int, interval_units: int) -> tuple[list[Record], list[Record]]:
        answered = self.exchange.answer(QueryKind.DEPTH, market=market, limit=limit, interval=interval_units)
        rows = self._rows(answered.records)
        return rows[: answered.total], rows[answered.total :]

    def balances(self, user_id: int) -> list[Record]:
        """As the twin's: rows in which there is no entry are left out."""
        rows = self._rows(self.exchange.answer(QueryKind.BALANCES, user_id=user_id).records)
        return [row for row in rows if row["available_state"] or row["freeze_state"]]

    def asset_summaries(self) -> list[Record]:
        return self._rows(self.exchange.answer(QueryKind.ASSETS).records)

    def market_summaries(self) -> list[Record]:
        return self._rows(self.exchange.answer(QueryKind.MARKETS).records)

    @staticmethod
    def _rows(records: Any) -> list[Record]:
        return [plain(record) for record in records]


def same_content(one: Exchange, other: Exchange) -> bool:
    """Whether two exchanges hold the same, byte for byte."""
    ours, theirs = one.dump(), other.dump()
    return ours.keys() == theirs.keys() and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
