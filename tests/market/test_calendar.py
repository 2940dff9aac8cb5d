"""Days, weeks, months and buckets of zones, told in UTC."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from market import calendar
from market.calendar import DAY_S, HOUR_S, MONTH_S, WEEK_S

NOVEMBER_7 = 1_510_000_000  # 2017-11-06 20:26:40 UTC
MONDAY = 1_509_926_400


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def told(moments: object) -> list[str]:
    return [datetime.fromtimestamp(int(each), UTC).strftime("%m-%d %H:%M") for each in moments]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("zone", "first", "last", "starts"),
    [
        ("UTC", "2026-03-07", "2026-03-08", ["03-07 00:00", "03-08 00:00", "03-09 00:00"]),
        ("Asia/Kolkata", "2026-03-07", "2026-03-08", ["03-06 18:30", "03-07 18:30", "03-08 18:30"]),
        # 23 and 25 hours
        ("America/New_York", "2026-03-08 12:00", "2026-03-09 12:00", ["03-08 05:00", "03-09 04:00", "03-10 04:00"]),
        ("America/New_York", "2026-11-01 12:00", "2026-11-02 12:00", ["11-01 04:00", "11-02 05:00", "11-03 05:00"]),
        ("Europe/London", "2026-03-29 12:00", "2026-03-29 12:00", ["03-29 00:00", "03-29 23:00"]),
        # an offset that changed by half an hour
        ("Australia/Lord_Howe", "2026-04-04 20:00", "2026-04-05 20:00", ["04-04 13:00", "04-05 13:30", "04-06 13:30"]),
        # midnight was jumped over: the day began at 1:00
        ("America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 12:00", ["11-03 03:00", "11-04 03:00", "11-05 02:00"]),
        # 23:00 to 0:00 came twice
        ("America/Sao_Paulo", "2019-02-16 12:00", "2019-02-17 12:00", ["02-16 02:00", "02-17 03:00", "02-18 03:00"]),
        # midnight came twice, and between the two a minute of the new day and an hour of the old one
        ("America/St_Johns", "2006-10-28 12:00", "2006-10-29 12:00", ["10-28 02:30", "10-29 02:30", "10-30 03:30"]),
        # 30 December was left out
        ("Pacific/Apia", "2011-12-29 12:00", "2011-12-30 12:00", ["12-29 10:00", "12-30 10:00", "12-31 10:00"]),
    ],
)
def test_days_begin_at_local_midnight(zone: str, first: str, last: str, starts: list[str]) -> None:
    days = calendar.of_zone(zone)
    assert told(days.days(moment(first), moment(last))) == starts
    begin, after = moment(first), moment(last)
    for day, next_day in pairwise(days.days(begin, after).tolist()):
        assert {days.day(each) for each in (day, day + 1, (day + next_day) // 2, next_day - 1)} == {day}
        assert {days.next_day(each) for each in (day, next_day - 1)} == {next_day}


def test_days_before_count_dates() -> None:
    days = calendar.of_zone("America/New_York")
    assert told([days.days_before(moment("2026-03-31 12:00"), 30)]) == ["03-01 05:00"]
    apia = calendar.of_zone("Pacific/Apia")
    assert told([apia.days_before(moment("2012-01-01 12:00"), count) for count in (1, 2, 3)]) == [
        "12-31 10:00",
        "12-30 10:00",
        "12-30 10:00",  # the date that never was
    ]


def test_hours_are_counted_from_each_midnight() -> None:
    days = calendar.of_zone("America/New_York")
    spring = days.edges(moment("2026-03-08 05:00"), moment("2026-03-09 04:00"), 6 * HOUR_S)
    assert told(spring) == ["03-08 05:00", "03-08 11:00", "03-08 17:00", "03-08 23:00", "03-09 04:00", "03-09 10:00"]
    autumn = days.edges(moment("2026-11-01 22:30"), moment("2026-11-02 05:00"), 12 * HOUR_S)
    assert told(autumn) == ["11-01 16:00", "11-02 04:00", "11-02 05:00", "11-02 17:00"]


@pytest.mark.parametrize(("interval", "begin"), [(1, 0), (12, 4), (60, 40), (300, 100), (1800, 1600)])
def test_less_than_an_hour_is_counted_from_1970(interval: int, begin: int) -> None:
    edges = calendar.of_zone("Asia/Kolkata").edges(NOVEMBER_7, NOVEMBER_7 + interval, interval)
    assert edges.tolist() == [NOVEMBER_7 - begin + place * interval for place in range(3)]


def test_weeks_begin_on_monday() -> None:
    utc = calendar.of_zone("UTC")
    assert utc.edges(NOVEMBER_7, NOVEMBER_7, WEEK_S).tolist() == [MONDAY, MONDAY + WEEK_S]
    assert utc.edges(1_509_900_000, 1_509_900_000, WEEK_S)[0] == 1_509_321_600
    assert utc.edges(MONDAY, MONDAY, WEEK_S)[0] == MONDAY
    london = calendar.of_zone("Europe/London").edges(moment("2026-03-27"), moment("2026-03-30"), WEEK_S)
    assert told(london) == ["03-23 00:00", "03-29 23:00", "04-05 23:00"]


def test_months_begin_on_the_first() -> None:
    edges = calendar.of_zone("Europe/London").edges(moment("2026-01-31"), moment("2026-04-01"), MONTH_S)
    assert told(edges) == ["01-01 00:00", "02-01 00:00", "03-01 00:00", "03-31 23:00", "04-30 23:00"]


def test_days_are_counted_from_1970() -> None:
    days = calendar.of_zone("Asia/Tokyo")
    edges = days.edges(moment("2026-03-07"), moment("2026-03-07"), 3 * DAY_S)
    shown = [datetime.fromtimestamp(int(edge), ZoneInfo("Asia/Tokyo")) for edge in edges]
    assert [(each.toordinal() - datetime(1970, 1, 1).toordinal()) % 3 for each in shown] == [0, 0]
    assert {each.hour for each in shown} == {0}
    assert edges[0] <= moment("2026-03-07") < edges[1]


def test_a_group_of_days_without_one_of_them_is_shorter() -> None:
    edges = calendar.of_zone("Pacific/Apia").edges(moment("2011-12-28 12:00"), moment("2012-01-01"), 2 * DAY_S)
    assert told(edges) == ["12-28 10:00", "12-30 10:00", "12-31 10:00", "01-02 10:00"]
    assert told(calendar.of_zone("Pacific/Apia").edges(moment("2011-12-28"), moment("2012-01-01"), DAY_S)) == [
        "12-27 10:00",
        "12-28 10:00",
        "12-29 10:00",
        "12-30 10:00",
        "12-31 10:00",
        "01-01 10:00",
    ]
