"""When cron expressions fire: on both sides of a change of the clocks, in odd zones, and which are refused."""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callstream.agents.schedules.cron import BadCron, UnknownZone, check, latest, occurrences, zone_of

BERLIN, KATHMANDU = "Europe/Berlin", "Asia/Kathmandu"
ZONES = st.sampled_from(["UTC", BERLIN, KATHMANDU, "America/New_York", "Australia/Lord_Howe", "America/Havana"])
MOMENTS = st.integers(1_600_000_000, 1_900_000_000).map(float)
CRONS = st.builds(
    " ".join,
    st.tuples(
        st.sampled_from(["*", "0", "30", "*/7", "5-10", "0,59"]),
        st.sampled_from(["*", "2", "0", "1-3", "*/5", "23"]),
        st.sampled_from(["*", "1", "L", "29", "*/10", "LW"]),
        st.sampled_from(["*", "3", "MAR,OCT", "*/2"]),
        st.sampled_from(["*", "0", "SUN", "1-5", "SUN#1", "5L"]),
    ),
)


def at(zone: str, *parts: int, fold: int = 0) -> float:
    return datetime(*parts, tzinfo=ZoneInfo(zone), fold=fold).timestamp()  # type: ignore[arg-type,misc]


def told(expression: str, zone: str, after: float, count: int) -> list[str]:
    found = islice(occurrences(expression, zone, after), count)
    return [datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%d. %H:%M %z") for moment in found]


def test_a_time_that_does_not_exist_fires_at_the_first_that_does() -> None:
    before = at(BERLIN, 2025, 3, 29, 12)
    assert told("30 2 * * *", BERLIN, before, 2) == ["30. 03:00 +0200", "31. 02:30 +0200"]
    assert told("0,30 2 * * *", BERLIN, before, 2) == ["30. 03:00 +0200", "31. 02:00 +0200"]


def test_a_time_that_comes_twice_fires_the_first_time() -> None:
    assert told("30 2 * * *", BERLIN, at(BERLIN, 2025, 10, 25, 12), 2) == ["26. 02:30 +0200", "27. 02:30 +0100"]


@pytest.mark.parametrize("start", [(2, 10, 1), (2, 30, 0), (2, 30, 1), (2, 45, 0)])
def test_and_not_again_whenever_it_is_looked_for(start: tuple[int, int, int]) -> None:
    hour, minute, fold = start
    began = at(BERLIN, 2025, 10, 26, hour, minute, fold=fold)
    assert told("30 2 * * *", BERLIN, began, 1) == ["27. 02:30 +0100"]


def test_every_hour_is_every_hour_that_passes() -> None:
    forward = told("30 * * * *", BERLIN, at(BERLIN, 2025, 3, 30, 1, 0), 2)
    back = told("30 * * * *", BERLIN, at(BERLIN, 2025, 10, 26, 2, 0), 3)
    assert forward == ["30. 01:30 +0100", "30. 03:30 +0200"]
    assert back == ["26. 02:30 +0200", "26. 02:30 +0100", "26. 03:30 +0100"]


def test_a_zone_of_three_quarters_of_an_hour() -> None:
    assert told("0 9 * * *", KATHMANDU, at("UTC", 2025, 3, 29, 3, 14), 2) == ["29. 09:00 +0545", "30. 09:00 +0545"]
    assert next(occurrences("0 9 * * *", KATHMANDU, at("UTC", 2025, 3, 29, 3, 14))) == at("UTC", 2025, 3, 29, 3, 15)


def test_a_leap_day_is_waited_for() -> None:
    assert next(occurrences("0 0 29 2 *", "UTC", at("UTC", 2096, 3, 1))) == at("UTC", 2104, 2, 29)


@given(CRONS, ZONES, MOMENTS)
@example("30 2 * * *", BERLIN, at(BERLIN, 2025, 10, 26, 2, 30, fold=1))
def test_each_occurrence_is_later_than_the_one_before_and_found_again_from_there(
    expression: str, zone: str, after: float
) -> None:
    found = list(islice(occurrences(expression, zone, after), 20))
    assert found == sorted(set(found))
    assert not found or found[0] > after
    assert all(moment % 60 == 0 for moment in found)
    for place, moment in enumerate(found[:-1]):
        assert next(occurrences(expression, zone, moment)) == found[place + 1]


@given(CRONS, ZONES, MOMENTS, st.integers(0, 90 * 24 * 3600), st.integers(1, 20))
@example("30 2 * * *", BERLIN, at(BERLIN, 2025, 3, 20), 30 * 24 * 3600, 5)
@example("*/7 * * * *", BERLIN, at(BERLIN, 2025, 10, 26), 30 * 3600, 20)
def test_the_latest_are_the_last_of_all(expression: str, zone: str, since: float, seconds: int, most: int) -> None:
    until = since + seconds
    every = []
    for moment in occurrences(expression, zone, since - 1):
        if moment > until:
            break
        every.append(moment)
    assert latest(expression, zone, since, until, most) == every[-most:]


def test_a_year_that_was_missed_is_not_gone_through_minute_by_minute() -> None:
    since = at("UTC", 2025, 1, 1)
    found = latest("* * * * *", "UTC", since, since + 365 * 24 * 3600, 100)
    assert len(found) == 100
    assert found[-1] == since + 365 * 24 * 3600


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 2,4,6 *", "never fires"),
        ("0 0 32 1 *", "'32' is no day of month"),
        ("61 * * * *", "'61' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * MOON", "'MOON' is no day of week"),
        ("* * * *", "has 4 fields; a cron expression has 5"),
        ("0 * * * * *", "has 6 fields"),
        ("@daily", "has 1 fields"),
        ("", "has 0 fields"),
        ("*/0 * * * *", "is no minute"),
        ("5-1 * * * *", "is no minute"),
    ],
)
def test_what_is_no_expression_or_never_fires_is_refused(expression: str, why: str) -> None:
    with pytest.raises(BadCron, match=why.replace("*", r"\*")):
        check(expression)


@given(st.text("0123456789*/,-#LW² SUNjan", max_size=30) | st.text(max_size=30))
def test_whatever_is_given_is_taken_or_refused(expression: str) -> None:
    try:
        check(expression)
    except BadCron:
        return
    assert next(occurrences(expression, "UTC", datetime(2028, 2, 29, tzinfo=UTC).timestamp())) > 0


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b", "x" * 999])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone, match="no time zone is called"):
        zone_of(name)
