"""What a store of market data is: all of it loaded at the start, what has changed flushed from time to time.

There are two, market/file_store.py and market/redis_store.py. What one holds is a moment of the event stream: the
position is flushed in the same transaction as what was made of the events up to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bus.catalog import Catalog, Market
from bus.messages import Records
from market.schema import TICK, Resolution


class StoreDown(Exception):
    """The store does not answer, or refuses for now: the text says why. To try again is right."""


class StoreMoved(StoreDown):
    """The store is not where the last flush left it: a failover lost that one, `pit market` changed what is kept, or
    a flush after it was done although its answer was lost.

    To flush again is no use: load everything again, and take the events from the position that was loaded.
    """


class StoreWrong(Exception):
    """The store holds what can't be used: the text says what, and what to do. To try again is no use."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a store is."""

    number: int = 0  # of the last event
    deal_id: int = 0  # of the last deal


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is stored of one market, or what has changed in it since the last flush."""

    market: Market
    last_units: int = 0  # price; 0: never traded
    candles: Mapping[Resolution, Records] = field(default_factory=dict)  # CANDLE, by start
    ticks: Records = field(default_factory=lambda: np.zeros(0, TICK))  # oldest first; of a flush the new ones


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """All that a store holds."""

    position: Position
    parts: tuple[Part, ...]


class Store(Protocol):
    """Where market data is kept; made without connecting. `Settings.market.store` says which."""

    def load(self, catalog: Catalog, since: Mapping[Resolution, int]) -> Loaded:
        """Connect and read everything of the listed markets, of each resolution the candles that start at or after
        `since`. Raises StoreDown, StoreWrong.
        """
        ...

    def flush(self, parts: list[Part], position: Position) -> None:
        """Write what has changed since the last flush that did not raise, all of it or nothing. Candles that are
        there are replaced, ticks are added to those that are there, of which the newest 10,000 stay.

        Without anything new it only looks whether the store is where the last flush left it: to ask that now and
        then is how a change by `pit market` is noticed. Raises StoreMoved, StoreDown, StoreWrong. After StoreDown
        nothing of it is stored, or, when the connection broke during it, perhaps all: then the next flush raises
        StoreMoved.
        """
        ...

    def sweep(self, markets: list[Market], before: Mapping[Resolution, int]) -> None:
        """Remove the candles that start before these times. Raises StoreDown."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Editable(Store, Protocol):
    """A store as `pit market` uses it. The market process may run: its next flush raises StoreMoved then."""

    def fill(self, market: Market, resolution: Resolution, candles: Records, *, replace: bool) -> int:
        """Add candles where there are none, or, to `replace`, everywhere; return how many were written.

        Raises StoreDown, StoreWrong.
        """
        ...

    def set_last(self, market: Market, last_units: int) -> bool:
        """Set the last price of a market that has none; return whether it was set. Raises StoreDown, StoreWrong."""
        ...

    def rebuild(self, parts: Iterable[Part], position: Position) -> None:
        """Put parts in the place of all that is stored of their markets, at once. Raises StoreDown, StoreWrong."""
        ...
