"""Making market data anew from all events, and what else is to be kept of a store."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from bus.catalog import Catalog, Market
from bus.messages import Frame, Records
from conf.settings import Settings
from engine.retelling import Events
from market.board import SIZES_S, Board, Tape
from market.calendar import DAY_S
from market.schema import CANDLE, Resolution
from market.store import Loaded, Part, Position

EVENTS_AT_ONCE = 200_000
WAIT_MS = 200
LENGTHS_S: Mapping[Resolution, int] = SIZES_S | {Resolution.DAY: DAY_S}


def made(
    settings: Settings, catalog: Catalog, until_number: int, progress: Callable[[int], None]
) -> tuple[list[Part], Position]:
    """What all events up to a number, at least, make of every market. `progress` is told how far it is.

    Events that the log no longer has are made again from the journal. Raises NotRetold.
    """
    board = Board(settings.market)
    board.know(catalog)
    with Events(settings, after_number=0) as events:
        while board.position.number < until_number:
            board.apply(_some(events, until_number))
            board.sweep(int(time.time()))
            board.changed()  # is not asked for: years of it would fill the memory
            board.flushed()
            progress(board.position.number)
    return [_whole(board.tape(market.index), market) for market in catalog.markets], board.position


def with_older(parts: list[Part], loaded: Loaded) -> list[Part]:
    """The parts that events have made, and before them what else is stored: candles that were imported."""
    stored = {part.market.name: part for part in loaded.parts}
    return [_joined(part, stored[part.market.name]) if part.market.name in stored else part for part in parts]


def _some(events: Events, until_number: int) -> list[Frame]:
    """Events, as many as are there, but not too many at once."""
    frames: list[Frame] = []
    count = 0
    while count < EVENTS_AT_ONCE and events.last_number < until_number:
        frame = events.receive(0 if frames else WAIT_MS)
        if frame is not None:
            frames.append(frame)
            count += len(frame.records)
        elif not events.is_retelling:
            break
    return frames


def _whole(tape: Tape, market: Market) -> Part:
    """All that is remembered of a market."""
    candles = {resolution: series.candles for resolution, series in tape.series.items()}
    return Part(market=market, last_units=tape.last_units, candles=candles, ticks=tape.ticks.kept)


def _joined(part: Part, stored: Part) -> Part:
    candles = {}
    for resolution in Resolution:
        found = part.candles.get(resolution, np.zeros(0, CANDLE))
        before = _older(stored.candles.get(resolution, found[:0]), found, LENGTHS_S[resolution])
        candles[resolution] = np.concatenate((before, found))
    return Part(market=part.market, last_units=part.last_units or stored.last_units, candles=candles, ticks=part.ticks)


def _older(stored: Records, found: Records, length_s: int) -> Records:
    """The stored candles that end before the first one that events have made."""
    return stored[stored["start"] + length_s <= found["start"][0]] if len(found) else stored
