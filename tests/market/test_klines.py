"""K-lines and statuses against their twin in plain Python (tests/reference/klines.py), which looks at every candle."""

import json
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.codes import Code
from bus.methods import METHODS
from conf.settings import MarketData
from market import klines
from market.board import Board
from market.calendar import DAY_S, HOUR_S, MINUTE_S, MONTH_S, WEEK_S, source
from market.klines import Question
from market.replies import Respondent
from market.schema import Resolution
from tests.market.making import Deal, catalog, frames
from tests.reference.klines import Tape

# A moment near which the clocks of a zone do something, or none.
ZONES = {
    "UTC": (1_772_323_200,),
    "Asia/Kolkata": (1_772_323_200,),
    "America/New_York": (1_772_953_200, 1_793_512_800),  # 8 March and 1 November 2026, 2:00
    "Europe/London": (1_774_746_000, 1_792_890_000),
    "Australia/Lord_Howe": (1_775_314_800, 1_791_043_200),  # by half an hour
    "America/Sao_Paulo": (1_541_300_400, 1_550_368_800),  # at midnight, which was missing or came twice
    "America/St_Johns": (1_162_089_060,),  # at 0:01 back to yesterday
    "Pacific/Apia": (1_325_239_200,),  # a day was left out
}
SECONDS = tuple(seconds for seconds in range(1, MINUTE_S) if MINUTE_S % seconds == 0)
MINUTES = tuple(minutes * MINUTE_S for minutes in range(1, 60) if 60 % minutes == 0)
HOURS = tuple(hours * HOUR_S for hours in range(1, 24) if 24 % hours == 0)
DAYS = (*(days * DAY_S for days in range(1, 7)), WEEK_S, MONTH_S)
INTERVALS = (*SECONDS, *MINUTES, *HOURS, *DAYS)
QUESTION_COUNT = 8  # about each case
KEPT = MarketData()
NOW = 1_800_000_015  # 2027-01-15, a Friday, 8:00:15 UTC
MIDNIGHT = NOW // DAY_S * DAY_S

Plain = tuple[int, ...]
PACES_S = (1, 100, 5_000, DAY_S, 3 * DAY_S)  # typical gaps between deals
BACK_S = 7_000  # how far the machine's clock may be set back


@dataclass(frozen=True)
class Case:
    """A market and what happens in it; questions are about times near `now`."""

    zone: str
    limits: MarketData
    batches: list[list[Deal]]
    now: int

    def tapes(self) -> tuple[Board, Tape]:
        """What both make of it."""
        board, limits = Board(self.limits), self.limits
        board.know(catalog("AB"))
        board.apply(frames(self.batches))
        tape = Tape(self.zone, limits.sec_max, limits.min_max, limits.hour_max, limits.kline_row_max)
        for deal in (deal for batch in self.batches for deal in batch):
            tape.deal(*deal[:3])
        board.sweep(self.now)
        tape.sweep(self.now)
        return board, tape


def case_of(draw: Random) -> Case:
    """A market near a moment at which clocks change, with few or many deals at one pace."""
    zone = draw.choice(sorted(ZONES))
    limits = MarketData(
        time_zone=zone,
        sec_max=draw.randint(60, 5_000),
        min_max=draw.randint(60, 3_000),
        hour_max=draw.randint(24, 200),
        kline_row_max=draw.choice((100, 100_000)),
    )
    pace, sets_clock = draw.choice(PACES_S), draw.random() < 0.3
    count = draw.choice((1, 2, 10, 40))
    moment = draw.choice(ZONES[zone]) - pace * count * draw.random() + draw.uniform(-2 * HOUR_S, 2 * HOUR_S)
    deals = []
    for _ in range(count):
        moment += draw.expovariate(1 / pace)
        if sets_clock and draw.random() < 0.2:
            moment -= draw.uniform(0, BACK_S)
        deals.append(Deal(moment, draw.randint(1, 9), draw.randint(1, 10 ** draw.randint(1, 18) - 1)))
    cuts = sorted({0, count, *(draw.randint(0, count) for _ in range(draw.randint(0, 5)))})
    batches = [deals[first:after] for first, after in pairwise(cuts)]
    return Case(zone, limits, batches, int(moment) + draw.choice((0, 1, 50, 4_000, DAY_S, 20 * DAY_S, 35 * DAY_S)))


def asked(board: Board, limits: MarketData, start: int, end: int, interval: int, now: int) -> list[Plain] | None:
    """market.kline as rows of units, by way of its text; None when it is refused."""
    respond = Respondent(board, limits, lambda: now + 0.5)
    market = board.catalog.markets[0]
    outcome = respond(METHODS["market.kline"], [market, start, end, interval])
    if isinstance(outcome, Code):
        assert outcome is Code.INVALID_ARGUMENT
        return None
    question = Question(start=start, end=min(end, now), interval=interval, now=now)
    rows = klines.klines(board.tape(0).series, question, board.calendar, limits)
    assert [row[0] for row in json.loads(outcome)] == [row.start for row in rows]
    return [tuple(row) for row in rows]


def question_of(draw: Random, case: Case) -> tuple[int, int, int]:
    """Start, end and interval of a question about times at which something happens."""
    interval = draw.choice(draw.choice((SECONDS, MINUTES, HOURS, DAYS)))
    reach = min(150 * interval, 50 * DAY_S)
    deal = draw.choice([deal for batch in case.batches for deal in batch])
    start = draw.choice((int(deal.time), case.now)) - draw.randint(-reach // 8, reach)
    return start, start + draw.randint(-1, 2 * reach), interval


@given(st.integers(0, 1 << 62))
def test_klines_are_those_of_the_twin(seed: int) -> None:
    draw = Random(seed)
    case = case_of(draw)
    board, tape = case.tapes()
    for _ in range(QUESTION_COUNT):
        start, end, interval = question_of(draw, case)
        wanted = tape.kline(start, end, interval, case.now)
        assert asked(board, case.limits, start, end, interval, case.now) == wanted, (case, start, end, interval)


@given(st.integers(0, 1 << 62))
def test_statuses_are_those_of_the_twin(seed: int) -> None:
    draw = Random(seed)
    case = case_of(draw)
    board, tape = case.tapes()
    series = board.tape(0).series
    for _ in range(QUESTION_COUNT):
        now, period = case.now - draw.choice((0, draw.randint(0, 70), draw.randint(0, DAY_S))), draw.randint(1, 5_000)
        assert klines.status(series, period, now) == tape.status(period, now), (case, period, now)
        assert klines.today(series, board.calendar, now) == tape.today(now), (case, now)


def test_every_interval_of_the_contract_is_known_and_no_other() -> None:
    known = {seconds for seconds in range(-10, 3_000_000) if source(seconds) is not None}
    assert known == set(INTERVALS)
    assert source(1 << 62) is None


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_longest_question_gives_the_newest_rows_and_no_more(interval: int) -> None:
    now = 1_800_000_000
    limits = MarketData(kline_row_max=100)
    board = Board(limits)
    board.know(catalog("AB"))
    old, new = (Deal(moment, 7, 1) for moment in (now - 200 * interval, now))
    board.apply(frames([[old], [new]]))
    rows = asked(board, limits, 1, 9 * 10**18, interval, now)
    assert rows is not None
    far = [row for row in rows if row[0] < now - interval]
    assert far == [] or len(rows) == 100
    assert rows[-1][1:] == (7, 7, 7, 7, 1, 7)
    assert all(after[0] > before[0] for before, after in pairwise(rows))


def traded(*moments: float, limits: MarketData = KEPT) -> Board:
    """A market in which one unit was traded at a price of 5 at these times."""
    board = Board(limits)
    board.know(catalog("AB"))
    board.apply(frames([[Deal(moment, 5, 1) for moment in moments]]))
    return board


def test_the_price_before_a_time_without_deals_is_carried_however_long_it_was() -> None:
    rows = asked(traded(NOW - 604_000), KEPT, NOW - 10, NOW, 1, NOW)
    assert rows == [(start, 5, 5, 5, 5, 0, 0) for start in range(NOW - 10, NOW + 1)]


@pytest.mark.parametrize(
    ("interval", "since"),
    [
        (1, NOW - KEPT.sec_max),
        (MINUTE_S, (NOW // MINUTE_S - KEPT.min_max) * MINUTE_S),
        (HOUR_S, (NOW // HOUR_S - KEPT.hour_max) * HOUR_S),
        (DAY_S, MIDNIGHT - 30 * DAY_S),
        (WEEK_S, MIDNIGHT - 4 * DAY_S - 30 * DAY_S),  # it is a Friday
        (MONTH_S, MIDNIGHT - 29 * DAY_S),  # the first that begins 30 days before now, or later
    ],
)
def test_a_price_is_carried_from_what_is_kept_or_thirty_days(interval: int, since: int) -> None:
    rows = asked(traded(since), KEPT, NOW, NOW, interval, NOW)
    assert rows is not None
    assert [row[1:] for row in rows] == [(5, 5, 5, 5, 0, 0)]
    assert asked(traded(since - 1), KEPT, NOW, NOW, interval, NOW) == []


def test_what_began_before_it_is_kept_is_in_the_bucket_that_holds_it() -> None:
    since = NOW - KEPT.sec_max
    first = since // 30 * 30
    assert first < since
    assert asked(traded(first), KEPT, 1, since - 1, 30, NOW) == [(first, 5, 5, 5, 5, 1, 5)]
    assert asked(traded(first), KEPT, 1, first - 1, 30, NOW) == []


def test_a_status_that_begins_with_a_minute_has_its_seconds() -> None:
    """Not the candle of that minute, which would be the same, unless seconds are no longer kept."""
    minute = NOW // MINUTE_S * MINUTE_S
    board = traded(minute + 5)
    assert klines.status(board.tape(0).series, NOW - minute, NOW) is not None
    board.tape(0).series[Resolution.SEC].remove_before(NOW)
    assert klines.status(board.tape(0).series, NOW - minute, NOW) is None
    assert klines.status(board.tape(0).series, NOW - minute + 1, NOW) is not None
