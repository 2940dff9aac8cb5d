"""All that is known of the markets: last prices, newest deals and candles, made of the events so far.

It is the state of the market process at an event's number. Nothing here reads a clock, a socket or a file.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from bus.catalog import EMPTY, Catalog, Market
from bus.messages import DEAL_EVENT, EventKind, Frame, Records
from conf.settings import MarketData
from market import calendar, candles, ticks
from market.calendar import HOUR_S, MINUTE_S, Calendar
from market.schema import Resolution
from market.series import Series
from market.store import Loaded, Part, Position
from market.ticks import Ticks

ALWAYS = -(1 << 62)  # before any time
SIZES_S = {Resolution.SEC: 1, Resolution.MIN: MINUTE_S, Resolution.HOUR: HOUR_S}  # of candles counted from 1970


def kept_since(settings: MarketData, now: int) -> dict[Resolution, int]:
    """The start of the oldest candles that are kept of each size (CONTRACT 4.3, 4.5)."""
    return {
        Resolution.SEC: now - settings.sec_max,
        Resolution.MIN: (now // MINUTE_S - settings.min_max) * MINUTE_S,
        Resolution.HOUR: (now // HOUR_S - settings.hour_max) * HOUR_S,
        Resolution.DAY: ALWAYS,
    }


class Tape:
    """What is remembered of one market."""

    def __init__(self) -> None:
        self.last_units = 0  # price; 0: never traded
        self.ticks = Ticks()
        self.series: Mapping[Resolution, Series] = {resolution: Series() for resolution in Resolution}
        self.is_known = False  # to the store

    def load(self, part: Part) -> None:
        """Begin with what is stored."""
        self.last_units = part.last_units
        self.ticks.load(part.ticks)
        for resolution, stored in part.candles.items():
            self.series[resolution].load(stored)
        self.is_known = True

    def add(self, deals: Records, seconds: Records, days: Calendar) -> None:
        """Take over DEAL_EVENTs and the candles that they make of each second."""
        self.ticks.add(ticks.of_deals(deals))
        self.last_units = int(deals["price_units"][-1])
        if len(seconds) == 1:
            start, *rest = candles.words(seconds)[0].tolist()
            for resolution, series in self.series.items():
                series.add_one(_bucket(start, resolution, days), *rest)
            return
        for resolution, series in self.series.items():
            starts = _buckets(seconds["start"], resolution, days)
            groups = candles.firsts(starts)
            larger = candles.merged(seconds, groups).copy()
            larger["start"] = starts[groups]
            series.add(larger)

    def changed(self, market: Market) -> Part | None:
        """What the store does not have yet, or None."""
        new_ticks = self.ticks.changed()
        new_candles = {resolution: series.changed() for resolution, series in self.series.items()}
        if self.is_known and not len(new_ticks) and not any(map(len, new_candles.values())):
            return None
        return Part(market=market, last_units=self.last_units, candles=new_candles, ticks=new_ticks)

    def stored(self) -> None:
        """What `changed` gave is in the store."""
        self.is_known = True
        self.ticks.stored()
        for series in self.series.values():
            series.stored()


class Board:
    """All markets.

    board = Board(settings.market)
    board.know(catalog)
    board.load(store.load(...))
    board.apply(frames)                    # any number of times
    parts, position = board.changed()      # once all traded markets are listed
    store.flush(parts, position)           # meanwhile more may be applied
    board.flushed()                        # unless the store refused: then the next `changed` has all of it
    """

    def __init__(self, settings: MarketData) -> None:
        self.calendar = calendar.of_zone(settings.time_zone)
        self.catalog = EMPTY
        self.position = Position()  # up to which events are applied
        self._settings = settings
        self._skipped_deal_id = settings.skipped_deal_id
        self._tapes: dict[int, Tape] = {}  # by index of the market
        self._storing: list[Tape] = []

    @property
    def is_listed(self) -> bool:
        """Whether the catalog has every market that has traded."""
        return all(index < len(self.catalog.market_by_index) for index in self._tapes)

    def know(self, catalog: Catalog) -> None:
        """These are the markets now."""
        self.catalog = catalog
        for market in catalog.markets:
            self.tape(market.index)

    def tape(self, market_index: int) -> Tape:
        """What is remembered of a market."""
        tape = self._tapes.get(market_index)
        if tape is None:
            tape = self._tapes[market_index] = Tape()
        return tape

    def load(self, loaded: Loaded) -> None:
        """Begin with what is stored."""
        self.position = loaded.position
        for part in loaded.parts:
            self.tape(part.market.index).load(part)

    def apply(self, frames: Sequence[Frame]) -> None:
        """Take over the deals of frames of events that follow each other; deals that are known are left out."""
        if not frames:
            return
        deals = _deals(frames)
        deal_id = self.position.deal_id
        deals = deals[deals["deal_id"] > max(deal_id, self._skipped_deal_id)]
        if len(deals):
            self._add(deals)
            deal_id = int(deals["deal_id"][-1])
        self.position = Position(number=frames[-1].first + len(frames[-1].records) - 1, deal_id=deal_id)

    def changed(self) -> tuple[list[Part], Position]:
        """What the store does not have yet, and the position it has then. Every market must be listed."""
        assert self.is_listed
        changes = {index: tape.changed(self.catalog.market_by_index[index]) for index, tape in self._tapes.items()}
        self._storing = [self._tapes[index] for index, part in changes.items() if part is not None]
        return [part for part in changes.values() if part is not None], self.position

    def flushed(self) -> None:
        """What `changed` gave is in the store. What has changed since then is not."""
        for tape in self._storing:
            tape.stored()
        self._storing = []

    def sweep(self, now: int) -> None:
        """Forget candles that are kept no longer."""
        since = kept_since(self._settings, now)
        for tape in self._tapes.values():
            for resolution, start in since.items():
                tape.series[resolution].remove_before(start)

    def _add(self, deals: Records) -> None:
        markets = deals["market"]
        if (markets != markets[0]).any():
            deals = deals[np.argsort(markets, kind="stable")]
            markets = deals["market"]
        seconds = candles.of_deals(deals)
        groups = candles.firsts(markets, seconds["start"])
        seconds = candles.merged(seconds, groups)
        begins = candles.firsts(markets)
        seconds_begins = np.searchsorted(groups, begins)
        ranges = pairwise((*begins.tolist(), len(deals))), pairwise((*seconds_begins.tolist(), len(seconds)))
        for (first, after), (seconds_first, seconds_after) in zip(*ranges, strict=True):
            tape = self.tape(int(markets[first]))
            tape.add(deals[first:after], seconds[seconds_first:seconds_after], self.calendar)


def _bucket(second: int, resolution: Resolution, days: Calendar) -> int:
    """The start of the candle that holds this second."""
    if resolution is Resolution.DAY:
        return days.day(second)
    return second // SIZES_S[resolution] * SIZES_S[resolution]


def _buckets(seconds: candles.Words, resolution: Resolution, days: Calendar) -> candles.Words:
    """The starts of the candles that hold these seconds."""
    if resolution is Resolution.DAY:
        starts = days.days(int(seconds.min()), int(seconds.max()))
        return starts[np.searchsorted(starts, seconds, side="right") - 1]
    return seconds // SIZES_S[resolution] * SIZES_S[resolution]


def _deals(frames: Sequence[Frame]) -> Records:
    """The DEAL_EVENTs of frames."""
    found = [frame.records[frame.records["kind"] == EventKind.DEAL] for frame in frames]
    if len(found) > 1:
        found = [np.concatenate([deals.view(np.int64) for deals in found])]  # much faster than field by field
    deals: Records = found[0].view(DEAL_EVENT)
    return deals
