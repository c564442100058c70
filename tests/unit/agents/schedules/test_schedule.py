"""What time does to a schedule: what is fired, what is passed over, and what a command changes."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callstream.agents.schedules.command import (
    Action,
    BadCommand,
    Command,
    UnknownSchedule,
    apply,
    command_event,
    read_command,
)
from callstream.agents.schedules.schedule import (
    MOST_AT_ONCE,
    MOST_INPUT_BYTES,
    MOST_REMEMBERED,
    Firing,
    Misfire,
    Schedule,
    Spec,
    changed,
    created,
    fire,
    read_row,
    resumed,
    suffix_of,
    upcoming,
)
from callstream.streams.topics import topic_of
from callstream.streams.wire import decode, encode

START = datetime(2025, 6, 1, 12, 0, 30, tzinfo=ZoneInfo("UTC")).timestamp()
MINUTE, HOUR = 60.0, 3_600.0
CRONS = st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0,59 */5 * * 1-5", "15 3 1 * *"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"])


def a_spec(**members: Any) -> Spec:
    return Spec.model_validate({"chain": "shop", "input": {"title": "mug"}, "cron": "* * * * *"} | members)


def a_schedule(now: float = START, **members: Any) -> Schedule:
    return created(a_spec(**members), "acme", "nightly", now)


def a_command(action: Action, **members: Any) -> Command:
    return Command.model_validate({"action": action, "tenant": "acme", "name": "nightly", "id": "c-1"} | members)


def test_a_new_schedule_fires_from_now_on() -> None:
    schedule = a_schedule()
    assert schedule.next_due == START + 30
    assert fire(schedule, START + 29.9) == Firing((), schedule)


def test_an_occurrence_is_fired_once_and_the_next_is_due() -> None:
    firing = fire(a_schedule(), START + 31)
    assert firing.occurrences == (START + 30,)
    assert (firing.schedule.next_due, firing.schedule.last_fired, firing.missed) == (START + 90, START + 30, False)
    assert fire(firing.schedule, START + 31).occurrences == ()


@pytest.mark.parametrize(
    ("misfire", "seconds_late", "fired"),
    [
        (Misfire.SKIP, 59, [0]),
        (Misfire.SKIP, 10 * MINUTE + 1, [10]),
        (Misfire.ONE, 59, [0]),
        (Misfire.ONE, 10 * MINUTE + 1, [10]),
        (Misfire.ALL, 10 * MINUTE + 1, list(range(11))),
    ],
)
def test_what_was_missed_is_up_to_the_policy(misfire: Misfire, seconds_late: float, fired: list[int]) -> None:
    # given a schedule of every minute whose service was away
    firing = fire(a_schedule(misfire=misfire), START + 30 + seconds_late)
    # then the policy says which of its minutes are made up for, and one in time is always fired
    assert firing.occurrences == tuple(START + 30 + minute * MINUTE for minute in fired)
    assert firing.missed == (fired[0] != 0)
    assert firing.schedule.next_due is not None
    assert firing.schedule.next_due > START + 30 + seconds_late


def test_a_daily_task_that_is_an_hour_late() -> None:
    late = START + 25 * HOUR
    daily: dict[str, Any] = {"cron": "0 12 * * *"}
    assert fire(a_schedule(misfire="skip", **daily), late).occurrences == ()
    assert fire(a_schedule(misfire="skip", grace_seconds=2 * HOUR, **daily), late).occurrences == (START - 30 + 86_400,)
    assert fire(a_schedule(misfire="one", **daily), late).occurrences == (START - 30 + 86_400,)


def test_of_very_many_only_the_last_are_made_up_for() -> None:
    firing = fire(a_schedule(misfire="all"), START + 365 * 24 * HOUR)
    assert len(firing.occurrences) == MOST_AT_ONCE
    assert firing.missed
    assert firing.schedule.next_due == firing.occurrences[-1] + MINUTE


@pytest.mark.parametrize(("month", "day", "shown"), [(3, 30, "03:00"), (10, 26, "02:30")])
def test_the_night_in_which_the_clocks_change_has_one_occurrence(month: int, day: int, shown: str) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    evening = datetime(2025, month, day, tzinfo=berlin) - timedelta(hours=6)
    schedule = a_schedule(evening.timestamp(), cron="30 2 * * *", zone="Europe/Berlin", misfire="all")
    fired = fire(schedule, datetime(2025, month, day, 12, tzinfo=berlin).timestamp()).occurrences
    assert [datetime.fromtimestamp(one, berlin).strftime("%H:%M") for one in fired] == [shown]


@given(
    CRONS,
    ZONES,
    st.sampled_from(Misfire),
    st.lists(st.floats(-5 * MINUTE, 30 * HOUR), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_whatever_time_does_no_occurrence_is_fired_twice_or_early(
    cron: str, zone: str, misfire: Misfire, steps: list[float], paused_at: set[int]
) -> None:
    now = datetime(2025, 10, 25, 20, tzinfo=ZoneInfo("UTC")).timestamp()
    schedule = a_schedule(now, cron=cron, zone=zone, misfire=misfire)
    fired: list[float] = []
    for number, step in enumerate(steps):
        # The clock may be set back too.
        now += step
        if number in paused_at:
            schedule = schedule.model_copy(update={"paused": True})
        elif schedule.paused:
            schedule = resumed(schedule, max(now, schedule.next_due or 0))
        before = schedule.next_due
        firing = fire(schedule, now)
        assert all(before is not None and before <= one <= now for one in firing.occurrences)
        fired += firing.occurrences
        schedule = firing.schedule
        assert before is None or schedule.next_due is None or schedule.next_due >= before
        assert fire(schedule, now).occurrences == ()
    assert fired == sorted(set(fired))
    assert len({suffix_of(one) for one in fired}) == len(fired)


@given(st.lists(st.floats(0, 59), min_size=1, max_size=30))
def test_who_looks_often_enough_misses_nothing(steps: list[float]) -> None:
    schedule, now, fired = a_schedule(misfire="skip"), START, 0
    for step in steps:
        now += step
        firing = fire(schedule, now)
        fired, schedule = fired + len(firing.occurrences), firing.schedule
    assert fired == int((now + 30 - START) // MINUTE)


def test_what_a_pause_covers_is_passed_over() -> None:
    paused = apply(a_schedule(misfire="all"), a_command(Action.PAUSE), START)
    assert paused is not None
    assert fire(paused, START + HOUR).occurrences == ()
    assert upcoming(paused, START, 5) == []
    again = apply(paused, a_command(Action.RESUME), START + HOUR)
    assert again is not None
    assert fire(again, START + HOUR).occurrences == ()
    assert again.next_due == START + 30 + HOUR


def test_a_schedule_that_is_not_paused_is_resumed_without_losing_what_is_due() -> None:
    assert resumed(a_schedule(), START + HOUR).next_due == START + 30


def test_another_input_moves_no_time_and_other_times_begin_anew() -> None:
    schedule = a_schedule()
    fuller = changed(schedule, a_spec(input={"title": "cup"}, priority="high"), START + HOUR)
    assert (fuller.next_due, fuller.input, fuller.priority) == (START + 30, {"title": "cup"}, "high")
    assert changed(schedule, a_spec(cron="0 14 * * *"), START + HOUR).next_due == START - 30 + 2 * HOUR
    assert changed(schedule, a_spec(zone="Asia/Kathmandu"), START + HOUR).next_due == START + 30 + HOUR


def test_a_task_is_named_by_schedule_and_time() -> None:
    schedule = a_schedule(priority="low", callback="https://shop.example/done")
    event = schedule.task(suffix_of(START + 30), START + 31)
    assert (event.task, event.tenant, event.chain) == ("nightly.20250601T120100Z", "acme", "shop")
    assert (event.priority, event.body.submission.callback) == ("low", "https://shop.example/done")


def test_the_next_occurrences_are_told() -> None:
    assert upcoming(a_schedule(), START, 3) == [START + 30, START + 90, START + 150]


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "every day"}, "cron"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"input": {"x": "y" * MOST_INPUT_BYTES}}, "input"),
        ({"misfire": "some"}, "misfire"),
        ({"grace_seconds": 0}, "grace_seconds"),
        ({"grace_seconds": float("nan")}, "grace_seconds"),
        ({"callback": "ftp://x"}, "callback"),
        ({"tenant": "other"}, "tenant"),
        ({"chain": "No Chain"}, "chain"),
    ],
)
def test_a_spec_that_does_not_fit_names_the_place(members: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        a_spec(**members)
    assert [error["loc"][0] for error in refused.value.errors()] == [place]


def test_a_row_comes_back_and_one_of_another_version_is_none() -> None:
    schedule = fire(a_schedule(), START + 31).schedule
    assert read_row({**schedule.row(), "at": 1.0}) == schedule
    assert read_row({"name": "nightly"}) is None
    assert schedule.spec == a_spec()


@pytest.mark.parametrize("action", Action)
def test_a_command_passes_through_the_log(action: Action) -> None:
    command = a_command(action, spec=a_spec() if action is Action.SET else None)
    record = encode(command_event(command, START), topic_of("schedules"))
    assert read_command(decode(record.value, record.headers)) == command


@pytest.mark.parametrize(
    ("action", "changes", "why"),
    [
        (Action.SET, {}, "a spec is given with the command 'set'"),
        (Action.PAUSE, {"spec": a_spec().model_dump(mode="json")}, "and only with it"),
        (Action.PAUSE, {"id": "NO"}, "id: "),
        (Action.PAUSE, {"more": 1}, "more: "),
    ],
)
def test_what_is_no_command_is_refused(action: Action, changes: dict[str, Any], why: str) -> None:
    event = command_event(a_command(action), START)
    event = event.with_body(outputs={"schedule": event.body.outputs["schedule"] | changes})
    with pytest.raises(BadCommand, match=why):
        read_command(event)


def test_a_task_is_no_command() -> None:
    with pytest.raises(BadCommand, match="is no command to a schedule"):
        read_command(a_schedule().task("x", START))


@pytest.mark.parametrize("action", [Action.PAUSE, Action.RESUME, Action.TRIGGER])
def test_a_command_to_a_schedule_that_there_is_not(action: Action) -> None:
    with pytest.raises(UnknownSchedule, match="no schedule of acme is called 'nightly'"):
        apply(None, a_command(action), START)


def test_the_latest_commands_are_remembered() -> None:
    schedule: Schedule | None = a_schedule()
    for number in range(MOST_REMEMBERED + 1):
        schedule = apply(schedule, a_command(Action.PAUSE, id=f"c-{number}"), START + number)
    assert schedule is not None
    assert schedule.applied == tuple(f"c-{number}" for number in range(1, MOST_REMEMBERED + 1))
    assert schedule.updated == START + MOST_REMEMBERED
