"""Candles and series against plain integers."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import DEAL_EVENT, UNITS_MAX, EventKind, Records
from bus.text import halves, wide
from market import candles
from market.candles import WIDE_MAX
from market.schema import CANDLE
from market.series import ROOM_COUNT_MIN, Series
from tests.market.making import Deal, frame

Plain = list[int]  # start, open, close, high, low, volume, money


def deals(*rows: Deal) -> Records:
    events = frame(rows, first=1).records
    found: Records = events[events["kind"] == EventKind.DEAL].view(DEAL_EVENT)
    return found


def plain(found: Records) -> list[Plain]:
    rows = candles.words(np.ascontiguousarray(found)).tolist()
    return [[*row[:5], wide(*row[5:7]), wide(*row[7:9])] for row in rows]


def candle(start: int, price: int, volume: int = 1, money: int = 1) -> Records:
    made = np.zeros(1, CANDLE)
    made["start"] = start
    for name in ("open_units", "close_units", "high_units", "low_units"):
        made[name] = price
    made["volume_units"], made["money_units"] = halves(volume), halves(money)
    return made


def some(*starts: int) -> Records:
    return np.concatenate([candle(start, 100 + place) for place, start in enumerate(starts)])


def test_the_candles_of_the_contract() -> None:
    """CONTRACT 11.9, in units of 10^-2 of money and 10^-4 of stock."""
    found = candles.of_deals(
        deals(
            Deal(1_510_000_001.5, 800_000, 15_000),
            Deal(1_510_000_001.9, 801_000, 15_000),
            Deal(1_510_000_065.2, 801_000, 5_000),
        )
    )
    seconds = candles.merged(found, candles.firsts(found["start"]))
    money, last_money = 24_015 * 10**6, 4_005 * 10**6
    assert plain(seconds) == [
        [1_510_000_001, 800_000, 801_000, 801_000, 800_000, 30_000, money],
        [1_510_000_065, 801_000, 801_000, 801_000, 801_000, 5_000, last_money],
    ]
    (hour,) = plain(candles.merged(seconds, np.zeros(1, np.int64)))
    assert hour[1:] == [800_000, 801_000, 801_000, 800_000, 35_000, money + last_money]


@given(st.integers(0, 1 << 62))
def test_sums_are_exact(seed: int) -> None:
    draw = Random(seed)
    most = draw.choice((10, 1 << 32, UNITS_MAX))
    rows = [Deal(draw.randrange(6), draw.randint(1, most), draw.randint(1, most)) for _ in range(draw.randint(1, 40))]
    found = candles.of_deals(deals(*rows))
    starts = candles.firsts(found["start"])
    ends = [*starts[1:].tolist(), len(rows)]
    for row, first, end in zip(plain(candles.merged(found, starts)), starts.tolist(), ends, strict=True):
        group = rows[first:end]
        prices = [deal.price for deal in group]
        money = sum(deal.price * deal.amount for deal in group)
        volume = sum(deal.amount for deal in group)
        assert row == [int(group[0].time), prices[0], prices[-1], max(prices), min(prices), volume, money]


def test_a_sum_that_does_not_fit_stays_at_the_largest() -> None:
    large = candle(60, 1, money=WIDE_MAX - 5)
    for rest in (4, 5, 6, WIDE_MAX):
        pair = np.concatenate([large, candle(61, 1, money=rest)])
        wanted = min(WIDE_MAX, WIDE_MAX - 5 + rest)
        assert plain(candles.merged(pair, np.zeros(1, np.int64)))[0][6] == wanted
        series = Series()
        series.add(large)
        series.add(candle(60, 1, money=rest))
        assert plain(series.candles)[0][6] == wanted


def test_the_first_deal_opens_and_the_last_one_closes_whatever_their_times() -> None:
    series = Series()
    for part in (some(10, 20, 30), some(20, 5), candle(30, 90), some(25, 25, 40), some(20)):
        series.add(part)
    assert series.starts.tolist() == [5, 10, 20, 25, 30, 40]
    assert series.candles["start"].tolist() == series.starts.tolist()
    assert series.candles["open_units"].tolist() == [101, 100, 101, 100, 102, 102]
    assert series.candles["close_units"].tolist() == [101, 100, 100, 101, 90, 102]
    assert series.candles["low_units"].tolist() == [101, 100, 100, 100, 90, 102]
    assert [row[5] for row in plain(series.candles)] == [1, 1, 3, 2, 2, 1]


@given(st.integers(0, 1 << 62))
def test_a_series_is_what_a_dict_would_be(seed: int) -> None:
    draw = Random(seed)
    series, wanted, stored = Series(), dict[int, Plain](), dict[int, Plain]()
    now = 0
    for _ in range(draw.randint(1, 30)):
        now += draw.choice((0, 1, 5))
        starts = [now + draw.choice((0, 1, 2, -3 * draw.randrange(2))) for _ in range(draw.randint(1, 6))]
        if draw.random() < 0.5:
            starts = sorted(set(starts))
        added = np.concatenate([candle(start, draw.randint(1, 9)) for start in starts])
        series.add(added)
        for row in plain(added):
            wanted[row[0]] = merged(wanted[row[0]], row) if row[0] in wanted else row
        now = max(now, *starts)
        if draw.random() < 0.2:
            bound = now - draw.randint(0, 2 * ROOM_COUNT_MIN)
            series.remove_before(bound)
            wanted = {start: row for start, row in wanted.items() if start >= bound}
        if draw.random() < 0.3:
            stored |= {row[0]: row for row in plain(series.changed())}
            series.stored()
            assert {start: row for start, row in stored.items() if start in wanted} == wanted
        assert plain(series.candles) == [wanted[start] for start in sorted(wanted)]
        assert series.starts.tolist() == sorted(wanted)


def merged(before: Plain, after: Plain) -> Plain:
    start, opening, _, high, low, volume, money = before
    _, _, close, after_high, after_low, after_volume, after_money = after
    sums = [volume + after_volume, money + after_money]
    return [start, opening, close, max(high, after_high), min(low, after_low), *sums]


def test_what_changes_while_it_is_stored_is_stored_next_time() -> None:
    series = Series()
    series.add(some(1, 2))
    assert series.changed()["start"].tolist() == [1, 2]
    series.add(some(2, 3))
    series.stored()
    assert series.changed()["start"].tolist() == [2, 3]
    series.stored()
    assert not len(series.changed())


def test_what_could_not_be_stored_is_handed_out_again_with_what_is_new() -> None:
    series = Series()
    series.load(some(1, 2))
    series.add(some(4))
    assert series.changed()["start"].tolist() == [4]
    series.add(some(5))
    assert series.changed()["start"].tolist() == [4, 5]


@pytest.mark.parametrize("count", [1, ROOM_COUNT_MIN, 1000])
def test_room_that_was_left_is_used_again(count: int) -> None:
    series = Series()
    for first in range(0, 20 * count, count):
        series.add(some(*range(first, first + count)))
        series.remove_before(first)
    assert series.starts.tolist() == [*range(19 * count, 20 * count)]
    assert len(series) == count
