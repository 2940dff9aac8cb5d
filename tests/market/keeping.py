"""A stream of deals that is always the same, and who keeps a store up with it, as the market process does.

As a program it does so until it is killed, and writes a line for each flush:

    python -m tests.market.keeping file FILE | redis ADDRESS
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

from bus.messages import Frame
from conf.settings import MarketData
from market.board import ALWAYS, Board
from market.file_store import FileStore
from market.redis_store import RedisStore
from market.schema import Resolution
from market.store import Editable, Loaded, Part, StoreDown, StoreMoved
from tests.market.making import Deal, catalog, frame
from tests.market.records import assert_equal

CATALOG = catalog("AONE", "BTWO", "CIDLE")
EVER = dict.fromkeys(Resolution, ALWAYS)
BEGAN = 1_700_000_000
DEALS_OF_FRAME_MAX = 6


def batch(number: int) -> Frame:
    """The events of one batch; its number says which, and all that is in it."""
    draw = random.Random(number)
    count = 1 + number % DEALS_OF_FRAME_MAX
    deals = [
        Deal(
            time=BEGAN + 7 * number + place / 8,
            price=draw.randrange(1, 10**6),
            amount=draw.randrange(1, 10**9),
            market=draw.randrange(2),
            taker_side=draw.randrange(1, 3),
        )
        for place in range(count)
    ]
    return frame(deals, first=_first(number), first_deal_id=_first(number) - number)


def _first(number: int) -> int:
    """The number of the first event of a batch: those before it have so many deals and one other event each."""
    whole, rest = divmod(number, DEALS_OF_FRAME_MAX)
    deals = whole * DEALS_OF_FRAME_MAX * (DEALS_OF_FRAME_MAX + 1) // 2 + rest * (rest + 1) // 2
    return 1 + deals + number


class Keeping:
    """A board and its store; `turn` takes over a batch and flushes."""

    def __init__(self, store: Editable) -> None:
        self.store = store
        self.moved_count = self.down_count = 0
        self._load()

    def turn(self) -> None:
        """Take over the next batch and flush until that works; when the store moved, go back to where it is."""
        self.board.apply([batch(self.number)])
        self.number += 1
        self.flush()

    def flush(self) -> None:
        """Flush once more what is not stored."""
        while True:
            try:
                self.store.flush(*self.board.changed())
            except StoreMoved:
                self.moved_count += 1
                self._retried(self._load)
                return
            except StoreDown:
                self.down_count += 1
                continue
            self.board.flushed()
            return

    def _load(self) -> None:
        loaded = self.store.load(CATALOG, EVER)
        self.board = board_of(loaded)
        self.number = batches_until(loaded.position.number)

    def _retried(self, call: Callable[[], None]) -> None:
        while True:
            try:
                call()
            except StoreDown:
                self.down_count += 1
                continue
            return


def board_of(loaded: Loaded | None = None) -> Board:
    """A board that begins with what is loaded."""
    board = Board(MarketData())
    board.know(CATALOG)
    if loaded is not None:
        board.load(loaded)
    return board


def batches_until(event_number: int) -> int:
    """How many batches end with this event."""
    number = 0
    while _first(number) <= event_number:
        number += 1
    assert _first(number) == event_number + 1, "an event in the middle of a batch"
    return number


def recomputed(batch_count: int) -> dict[str, Part]:
    """What the first batches make, by market."""
    board = board_of()
    board.apply([batch(number) for number in range(batch_count)])
    parts, _ = board.changed()
    return {part.market.name: part for part in parts}


def assert_same(loaded: Loaded, wanted: dict[str, Part]) -> None:
    """What is loaded is what was made, and nothing else."""
    for part in loaded.parts:
        other = wanted[part.market.name]
        assert part.last_units == other.last_units, part.market.name
        for resolution in Resolution:
            assert_equal(part.candles[resolution], other.candles[resolution])
        assert_equal(part.ticks, other.ticks)


def main(arguments: list[str]) -> Never:
    kind, place = arguments
    keeping = Keeping(FileStore(Path(place)) if kind == "file" else RedisStore(place))
    while True:
        keeping.turn()
        print(keeping.number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
