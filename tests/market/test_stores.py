"""Both stores do the same: what is flushed is loaded again, whatever happens in between."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.messages import UNITS_MAX
from bus.text import halves
from market.candles import WIDE_MAX
from market.rows import joined
from market.schema import CANDLE, DEALS_KEPT_COUNT, Resolution
from market.store import Editable, Part, Position, StoreMoved
from tests.market.keeping import CATALOG, EVER, Keeping, assert_same, batches_until, recomputed
from tests.market.places import Place
from tests.market.records import START, assert_equal, candles, minutes, of, ticks
from tests.market.sentinels import Group, sentinels

KILL_COUNT = 6
FLUSHES_BEFORE_KILL_MAX = 40
FLOWS_COUNT = 25
A, B, _ = CATALOG.markets


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with sentinels(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where an empty store is."""
    group: Group | None = None if request.param == "file" else request.getfixturevalue("group")
    place = Place(tmp_path / "market.db", group)
    place.clear()
    return place


@pytest.fixture
def store(place: Place) -> Iterator[Editable]:
    with closing(place.store()) as store:
        yield store


def test_an_empty_store_is_at_the_beginning(store: Editable) -> None:
    loaded = store.load(CATALOG, EVER)
    assert loaded.position == Position()
    for part in loaded.parts:
        assert part.last_units == 0
        assert not len(part.ticks)
        assert not any(map(len, part.candles.values()))


def test_what_is_flushed_is_loaded_again(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    made = {
        resolution: candles(START, START + 90_000, price=UNITS_MAX - resolution, volume=WIDE_MAX, money=resolution)
        for resolution in Resolution
    }
    parts = [Part(market=A, last_units=5, candles=made, ticks=ticks(3, 4, 9)), Part(market=B)]
    store.flush(parts, Position(number=77, deal_id=9))
    loaded = place.loaded()
    assert loaded.position == Position(number=77, deal_id=9)
    part = of(loaded)
    assert part.last_units == 5
    assert_equal(part.ticks, parts[0].ticks)
    for resolution in Resolution:
        assert_equal(part.candles[resolution], made[resolution])
    assert of(loaded, "BTWO").last_units == 0


def test_candles_are_replaced_and_deals_added(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    store.flush(
        [Part(market=A, last_units=1, candles=minutes(0, 60), ticks=ticks(1, 2))], Position(number=2, deal_id=2)
    )
    later = minutes(60, 120, price=9)
    store.flush([Part(market=A, last_units=9, candles=later, ticks=ticks(3))], Position(number=3, deal_id=3))
    part = of(place.loaded())
    assert_equal(part.candles[Resolution.MIN], np.concatenate((candles(0), later[Resolution.MIN])))
    assert_equal(part.ticks, ticks(1, 2, 3))


def test_the_newest_deals_stay(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    ids, more = range(1, DEALS_KEPT_COUNT - 3), range(DEALS_KEPT_COUNT - 3, DEALS_KEPT_COUNT + 5)
    store.flush([Part(market=A, ticks=ticks(*ids)), Part(market=B, ticks=ticks(7))], Position(deal_id=ids[-1]))
    store.flush([Part(market=A, ticks=ticks(*more))], Position(deal_id=more[-1]))
    loaded = place.loaded()
    assert_equal(of(loaded).ticks, ticks(*range(more[-1] - DEALS_KEPT_COUNT + 1, more[-1] + 1)))
    assert_equal(of(loaded, "BTWO").ticks, ticks(7))


def test_more_deals_than_are_kept_may_come_at_once(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    ids = range(1, 2 * DEALS_KEPT_COUNT)
    store.flush([Part(market=A, ticks=ticks(*ids))], Position(deal_id=ids[-1]))
    assert_equal(of(place.loaded()).ticks, ticks(*ids[-DEALS_KEPT_COUNT:]))


def test_old_candles_are_not_loaded_and_can_be_swept(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    starts = range(0, 600, 60)
    part = Part(market=A, candles={size: candles(*starts) for size in (Resolution.SEC, Resolution.MIN)})
    store.flush([part], Position(number=1))
    since = EVER | {Resolution.MIN: 300}
    assert_equal(of(store.load(CATALOG, since)).candles[Resolution.MIN], candles(*starts[5:]))
    for before in (120, 180, 361):  # the first time one way, then a quicker one
        store.sweep([A, B], {Resolution.MIN: before})
        loaded = of(place.loaded()).candles
        assert_equal(loaded[Resolution.MIN], candles(*(start for start in starts if start >= before)))
        assert_equal(loaded[Resolution.SEC], candles(*starts))


def test_a_store_that_another_has_written_has_moved(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    store.flush([Part(market=A, candles=minutes(0))], Position(number=1))
    with closing(place.store()) as other:
        other.load(CATALOG, EVER)
        other.flush([Part(market=A, candles=minutes(60))], Position(number=2))
    for parts in ([Part(market=A, candles=minutes(120), ticks=ticks(1))], []):
        with pytest.raises(StoreMoved):
            store.flush(parts, Position(number=3, deal_id=1))
    assert store.load(CATALOG, EVER).position == Position(number=2)
    store.flush([Part(market=A, candles=minutes(180))], Position(number=3))
    assert_equal(of(place.loaded()).candles[Resolution.MIN], candles(0, 60, 180))


def test_candles_that_are_there_stay_when_others_are_filled_in(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    store.flush([Part(market=A, candles=minutes(60, price=1))], Position(number=1))
    with closing(place.store()) as other:
        assert other.fill(A, Resolution.MIN, candles(0, 60, 120), replace=False) == 2
        assert other.fill(B, Resolution.DAY, candles(0), replace=False) == 1
    with pytest.raises(StoreMoved):
        store.flush([], Position(number=1))
    loaded = store.load(CATALOG, EVER)
    assert loaded.position == Position(number=1)
    assert_equal(of(loaded).candles[Resolution.MIN], joined([candles(60, price=1), candles(0, 60, 120)]))
    assert_equal(of(loaded, "BTWO").candles[Resolution.DAY], candles(0))
    with closing(place.store()) as other:
        assert other.fill(A, Resolution.MIN, candles(60, 180, price=7), replace=True) == 2
    assert_equal(of(place.loaded()).candles[Resolution.MIN][[1, 3]], candles(60, 180, price=7))


def test_a_last_price_is_set_once(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    store.flush([Part(market=A, last_units=0), Part(market=B, last_units=4)], Position(number=1))
    with closing(place.store()) as other:
        assert other.set_last(A, 12)
        assert not other.set_last(A, 13)
        assert not other.set_last(B, 13)
    loaded = place.loaded()
    assert (of(loaded).last_units, of(loaded, "BTWO").last_units) == (12, 4)
    with pytest.raises(StoreMoved):
        store.flush([], Position(number=1))


def test_a_rebuild_puts_other_data_in_the_place_of_all(store: Editable, place: Place) -> None:
    store.load(CATALOG, EVER)
    old = {size: candles(0, 86_400) for size in Resolution}
    parts = [Part(market=market, last_units=1, candles=old, ticks=ticks(1, 2)) for market in (A, B)]
    store.flush(parts, Position(number=2, deal_id=2))
    made = Part(market=A, last_units=3, candles=minutes(*range(0, 60 * 3000, 60), price=8), ticks=ticks(5))
    with closing(place.store()) as other:
        other.rebuild([made], Position(number=9, deal_id=5))
    with pytest.raises(StoreMoved):
        store.flush([], Position(number=2, deal_id=2))
    loaded = store.load(CATALOG, EVER)
    assert loaded.position == Position(number=9, deal_id=5)
    assert of(loaded).last_units == 3
    assert_equal(of(loaded).ticks, ticks(5))
    for size in Resolution:
        assert_equal(of(loaded).candles[size], made.candles.get(size, candles()))
    assert_equal(of(loaded, "BTWO").candles[Resolution.HOUR], old[Resolution.HOUR])
    store.flush([Part(market=B, candles=minutes(0))], Position(number=10, deal_id=5))


units = st.integers(1, UNITS_MAX)
sums = st.integers(0, WIDE_MAX)
starts = st.integers(0, 50).map(lambda number: START + number)
rows = st.tuples(starts, units, units, units, units, sums, sums)
flushes = st.lists(st.tuples(st.sampled_from(Resolution), st.lists(rows, max_size=5, unique_by=lambda row: row[0])))


@settings(max_examples=FLOWS_COUNT, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flow=flushes)
def test_any_numbers_survive(place: Place, flow: list[tuple[Resolution, list[Any]]]) -> None:
    place.clear()
    wanted: dict[Resolution, dict[int, Any]] = {resolution: {} for resolution in Resolution}
    with closing(place.store()) as store:
        store.load(CATALOG, EVER)
        for number, (resolution, found) in enumerate(flow, start=1):
            made = np.array([(*row[:5], halves(row[5]), halves(row[6])) for row in found], CANDLE)
            store.flush([Part(market=A, last_units=number, candles={resolution: made})], Position(number=number))
            wanted[resolution] |= {row["start"]: row for row in made}
        part = of(store.load(CATALOG, EVER)) if flow else Part(market=A)
    for resolution, by_start in wanted.items():
        made = np.array([by_start[start] for start in sorted(by_start)], CANDLE)
        assert_equal(part.candles.get(resolution, made[:0]), made)
    assert part.last_units == len(flow)


def test_whoever_is_killed_goes_on_where_the_store_is(place: Place) -> None:
    """Nothing is lost and nothing counts twice, whatever the killed process was doing."""
    draw = random.Random(5)
    before = 0
    for _ in range(KILL_COUNT):
        command = [sys.executable, "-m", "tests.market.keeping", *place.words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline()) for _ in range(draw.randint(1, FLUSHES_BEFORE_KILL_MAX))][-1]
            process.kill()
        loaded = place.loaded()
        batch_count = batches_until(loaded.position.number)
        assert batch_count >= told > before
        before = batch_count
        assert_same(loaded, recomputed(batch_count))


def test_who_keeps_a_store_up_goes_back_when_it_is_rebuilt_meanwhile(place: Place) -> None:
    with closing(place.store()) as store:
        keeping = Keeping(store)
        for _ in range(8):
            keeping.turn()
        with closing(place.store()) as other:
            parts = list(recomputed(3).values())
            other.rebuild(parts, Position(number=9, deal_id=6))
        for _ in range(8):
            keeping.turn()
        assert keeping.moved_count == 1
        assert_same(place.loaded(), recomputed(keeping.number))
        assert keeping.number == 3 + 7
