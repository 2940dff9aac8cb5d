"""A board: the same for deals in one batch as for one at a time, and what of it the store does not have yet."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import Frame, Records
from conf.settings import MarketData
from market.board import Board
from market.calendar import DAY_S
from market.schema import DEALS_KEPT_COUNT, Resolution
from market.store import Loaded, Part, Position
from market.ticks import Ticks
from tests.market.making import Deal, catalog, frame

LIMITS = MarketData(time_zone="America/New_York")
NAMES = ("AB", "CD", "EF")
BEGIN = 1_772_953_200 - 50  # clocks change


def board() -> Board:
    made = Board(LIMITS)
    made.know(catalog(*NAMES))
    return made


def some_deals(draw: Random, count: int) -> list[Deal]:
    moment = float(BEGIN)
    found = []
    for _ in range(count):
        moment += draw.choice((0, 0.3, 40, 4_000))
        found.append(Deal(moment, draw.randint(1, 50), draw.randint(1, 50), draw.randrange(3), draw.randint(1, 2)))
    return found


def content(made: Board) -> dict[str, bytes]:
    """All that it holds."""
    found = {}
    for market in made.catalog.markets:
        tape = made.tape(market.index)
        found[market.name] = str(tape.last_units).encode() + tape.ticks.kept.tobytes()
        for resolution, series in tape.series.items():
            found[f"{market.name} {resolution.name}"] = series.candles.tobytes()
    return found


def singly(deals: list[Deal]) -> list[Frame]:
    return [frame([deal], first=2 * place + 1, first_deal_id=place + 1) for place, deal in enumerate(deals)]


@given(st.integers(0, 1 << 62))
def test_a_batch_makes_the_same_as_its_deals_one_by_one(seed: int) -> None:
    draw = Random(seed)
    deals = some_deals(draw, draw.randint(1, 60))
    one_by_one, at_once, in_one_frame = board(), board(), board()
    for part in singly(deals):
        one_by_one.apply([part])
    at_once.apply(singly(deals))
    in_one_frame.apply([frame(deals, first=1, first_deal_id=1)])
    assert content(one_by_one) == content(at_once) == content(in_one_frame)
    assert one_by_one.position == at_once.position == Position(number=2 * len(deals), deal_id=len(deals))
    assert in_one_frame.position == Position(number=len(deals) + 1, deal_id=len(deals))


def test_deals_that_are_known_count_once() -> None:
    made = board()
    first = frame([Deal(BEGIN, 5, 1), Deal(BEGIN, 6, 1)], first=1, first_deal_id=1)
    made.apply([first])
    again = frame([Deal(BEGIN, 6, 1), Deal(BEGIN, 7, 1)], first=4, first_deal_id=2)
    made.apply([again])
    made.apply([])
    assert made.tape(0).ticks.kept["deal_id"].tolist() == [1, 2, 3]
    assert made.tape(0).series[Resolution.SEC].candles["volume_units"][:, 0].tolist() == [3]
    assert made.position == Position(number=6, deal_id=3)


@pytest.mark.parametrize(("skips", "volume"), [(False, 6), (True, 5)])
def test_the_first_deal_of_an_exchange_counts_unless_it_is_to_be_skipped(skips: bool, volume: int) -> None:
    made = Board(replace(LIMITS, skip_first_deal=skips))
    made.know(catalog(*NAMES))
    made.apply([frame([Deal(BEGIN, 5, 1)], first=1, first_deal_id=1)])
    assert made.tape(0).last_units == (0 if skips else 5)
    made.apply([frame([Deal(BEGIN, 6, 2), Deal(BEGIN, 7, 3)], first=3, first_deal_id=2)])
    assert made.tape(0).last_units == 7
    assert made.tape(0).series[Resolution.DAY].candles["volume_units"][:, 0].tolist() == [volume]
    assert made.position == Position(number=5, deal_id=3)


def test_the_buckets_of_a_deal() -> None:
    """CONTRACT 11.9, but in a zone."""
    made = board()
    made.apply([frame([Deal(1_510_000_001.5, 8000, 15)], first=1)])
    starts = {resolution: series.starts.tolist() for resolution, series in made.tape(0).series.items()}
    assert starts == {
        Resolution.SEC: [1_510_000_001],
        Resolution.MIN: [1_509_999_960],
        Resolution.HOUR: [1_509_998_400],
        Resolution.DAY: [1_509_944_400],  # 2017-11-06 0:00 in New York
    }


def stored(parts: list[Part], before: dict[str, Part]) -> dict[str, Part]:
    """What a store holds after a flush."""
    found = dict(before)
    for part in parts:
        old = before.get(part.market.name, Part(market=part.market))
        candles = {resolution: replaced(old.candles.get(resolution), new) for resolution, new in part.candles.items()}
        ticks = np.concatenate([old.ticks, part.ticks])[-DEALS_KEPT_COUNT:]
        found[part.market.name] = Part(market=part.market, last_units=part.last_units, candles=candles, ticks=ticks)
    return found


def replaced(old: Records | None, new: Records) -> Records:
    if old is None:
        return new
    kept = old[~np.isin(old["start"], new["start"])]
    joined: Records = np.concatenate([kept, new])
    return joined[np.argsort(joined["start"])]


@given(st.integers(0, 1 << 62))
def test_flushes_bring_a_store_to_what_the_board_holds_even_when_some_fail(seed: int) -> None:
    draw = Random(seed)
    made, parts = board(), dict[str, Part]()
    batches = singly(some_deals(draw, draw.randint(1, 60)))
    position = Position()
    while batches:
        count = draw.randint(1, 20)
        made.apply(batches[:count])
        batches = batches[count:]
        changed, reached = made.changed()
        made.apply(batches[:3])  # while it is being flushed
        batches = batches[3:]
        if not batches or draw.random() < 0.6:
            parts, position = stored(changed, parts), reached
            made.flushed()
    changed, reached = made.changed()
    parts, position = stored(changed, parts), reached
    again = board()
    again.load(Loaded(position=position, parts=tuple(parts.values())))
    assert content(again) == content(made)
    assert again.position == made.position


def test_what_is_stored_is_not_flushed_again() -> None:
    made = board()
    made.apply([frame([Deal(BEGIN, 5, 1)], first=1)])
    changed, position = made.changed()
    assert [(part.market.name, part.last_units, len(part.ticks)) for part in changed] == [
        ("AB", 5, 1),
        ("CD", 0, 0),  # the first flush tells of markets without deals, too (CONTRACT 4.3)
        ("EF", 0, 0),
    ]
    made.flushed()
    assert made.changed() == ([], position)
    made.apply([frame([Deal(BEGIN + 1, 6, 1, market=1)], first=3)])
    ((part,), _) = made.changed()
    assert (part.market.name, part.last_units) == ("CD", 6)
    assert part.ticks["price_units"].tolist() == [6]
    assert {resolution: len(found) for resolution, found in part.candles.items()} == dict.fromkeys(Resolution, 1)


def test_a_market_that_is_listed_later_has_its_deals() -> None:
    made = Board(LIMITS)
    made.know(catalog("AB"))
    made.apply([frame([Deal(BEGIN, 5, 1, market=1)], first=1)])
    assert not made.is_listed
    made.know(catalog("AB", "CD"))
    assert made.is_listed
    parts, _ = made.changed()
    assert {part.market.name: len(part.ticks) for part in parts} == {"AB": 0, "CD": 1}


def test_a_sweep_forgets_what_is_kept_no_longer() -> None:
    made = board()
    made.apply([frame([Deal(BEGIN, 5, 1), Deal(BEGIN + 40 * DAY_S, 5, 1)], first=1)])
    made.sweep(BEGIN + 40 * DAY_S)
    counts = {resolution: len(series) for resolution, series in made.tape(0).series.items()}
    assert counts == {Resolution.SEC: 1, Resolution.MIN: 2, Resolution.HOUR: 2, Resolution.DAY: 2}
    made.sweep(BEGIN + 4_000 * DAY_S)
    counts = {resolution: len(series) for resolution, series in made.tape(0).series.items()}
    assert counts == {Resolution.SEC: 0, Resolution.MIN: 0, Resolution.HOUR: 0, Resolution.DAY: 2}


@pytest.mark.parametrize("batch_count", [1, 7, DEALS_KEPT_COUNT - 1, 3 * DEALS_KEPT_COUNT])
def test_ticks_are_the_newest(batch_count: int) -> None:
    ticks, total = Ticks(), 0
    while total < 2 * DEALS_KEPT_COUNT + 11:
        new = np.zeros(batch_count, ticks.kept.dtype)
        new["deal_id"] = np.arange(total + 1, total + batch_count + 1)
        ticks.add(new)
        total += batch_count
    assert ticks.count == total
    assert ticks.kept["deal_id"].tolist() == [*range(total - DEALS_KEPT_COUNT + 1, total + 1)]
    assert ticks.after(total - 3)["deal_id"].tolist() == [total - 2, total - 1, total]
    assert len(ticks.after(-(1 << 63))) == len(ticks.changed()) == DEALS_KEPT_COUNT
    assert not len(ticks.after((1 << 63) - 1))
