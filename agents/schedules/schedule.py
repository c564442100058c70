"""A schedule and what time does to it. Pure: `now` is an argument; moments are epoch seconds.

An *occurrence* is one moment at which the cron expression fires. Each is settled once, fired or passed over, in their
order: `next_due` is the first that is not settled, and it only ever moves forward. Times that the schedule is paused
for are no occurrences: they are passed over when it is resumed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator

from callstream.agents.schedules.cron import check, latest, occurrences, zone_of
from callstream.streams import strict_json
from callstream.streams.event import Event, Json, Moment, Priority, Strict, Submission
from callstream.streams.keys import Name, Tenant
from callstream.streams.submission import Order, new_event

MOST_AT_ONCE = 100
"""Occurrences that are fired at once at most: of more that are due, the last ones."""
MOST_INPUT_BYTES = 16 * 1024
"""Every gateway keeps every schedule in memory."""
MOST_REMEMBERED = 16
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"

ScheduleName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
CommandId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]


class Misfire(StrEnum):
    """What becomes of occurrences that could not be fired in time."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Spec(Strict):
    """What a schedule is to do, as its owner says it: which task, and when.

    An occurrence that is fired within `grace_seconds` is in time. Of those that are later, `misfire` says: none of them
    (`skip`), one task for all that are due (`one`), or each of them (`all`), `MOST_AT_ONCE` at most.
    """

    chain: Name
    input: Json
    cron: Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
    zone: Annotated[str, StringConstraints(max_length=64)] = "UTC"
    priority: Priority = Priority.NORMAL
    callback: Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s]+$")] | None = None
    misfire: Misfire = Misfire.ONE
    grace_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60.0

    @field_validator("cron")
    @classmethod
    def _that_fires(cls, given: str) -> str:
        check(given)
        return given

    @field_validator("zone")
    @classmethod
    def _that_is_known(cls, given: str) -> str:
        zone_of(given)
        return given

    @field_validator("input")
    @classmethod
    def _of_a_bounded_size(cls, given: Json) -> Json:
        size = len(strict_json.dumps(given))
        if size > MOST_INPUT_BYTES:
            raise ValueError(f"{size:,} bytes; the input of a schedule may have {MOST_INPUT_BYTES:,}")
        return given

    @property
    def submission(self) -> Submission:
        """What is handed in each time."""
        return Submission(chain=self.chain, input=self.input, callback=self.callback)


class Schedule(Spec):
    """A schedule as it stands. `applied` are the ids of the latest commands, so that one that comes again is known."""

    tenant: Tenant
    name: ScheduleName
    created: Moment
    updated: Moment
    paused: bool = False
    next_due: Moment | None = None
    last_fired: Moment | None = None
    applied: Annotated[tuple[CommandId, ...], Field(max_length=MOST_REMEMBERED)] = ()

    @classmethod
    def of_row(cls, row: Json) -> Self:
        """From a table's row. Raises ValidationError."""
        return cls.model_validate({name: value for name, value in row.items() if name != "at"})

    def row(self) -> Json:
        """As a table's row."""
        return self.model_dump(mode="json")

    @property
    def spec(self) -> Spec:
        """What its owner said."""
        return Spec.model_validate(self.model_dump(include=set(Spec.model_fields)))

    def task(self, suffix: str, now: float) -> Event:
        """The event that hands in one task, whose id is made of the schedule's name and a suffix."""
        return new_event(self.submission, Order(self.tenant, f"{self.name}.{suffix}", self.priority), now)

    def after(self, command: CommandId, now: float) -> Self:
        """This schedule after a command."""
        remembered = (*self.applied, command)[-MOST_REMEMBERED:]
        return self.model_copy(update={"updated": now, "applied": remembered})


@dataclass(frozen=True, slots=True)
class Firing:
    """What is to be fired now, in order, and the schedule after that. `missed`: some was due and is passed over."""

    occurrences: tuple[float, ...]
    schedule: Schedule
    missed: bool = False


def created(spec: Spec, tenant: str, name: str, now: float) -> Schedule:
    """A new schedule: it fires from now on."""
    given = {**spec.model_dump(), "tenant": tenant, "name": name, "created": now, "updated": now}
    return Schedule.model_validate({**given, "next_due": next_after(spec, now)})


def changed(schedule: Schedule, spec: Spec, now: float) -> Schedule:
    """The schedule with another spec. Other times begin anew from now; else what is due stays due."""
    same = (spec.cron, spec.zone) == (schedule.cron, schedule.zone)
    due = schedule.next_due if same else next_after(spec, now)
    return schedule.model_copy(update={**dict(spec), "next_due": due})


def resumed(schedule: Schedule, now: float) -> Schedule:
    """The schedule, firing again from now on: what would have been due meanwhile is passed over."""
    if not schedule.paused:
        return schedule
    return schedule.model_copy(update={"paused": False, "next_due": next_after(schedule, now)})


def fire(schedule: Schedule, now: float) -> Firing:
    """What is to be fired at a moment, by the misfire policy."""
    due = schedule.next_due
    if schedule.paused or due is None or now < due:
        return Firing((), schedule)
    found = latest(schedule.cron, schedule.zone, due, now, MOST_AT_ONCE)
    late = [moment for moment in found if now - moment > schedule.grace_seconds]
    match schedule.misfire:
        case Misfire.SKIP:
            chosen = found[len(late) :]
        case Misfire.ONE:
            chosen = found[-1:] if late else found
        case Misfire.ALL:
            chosen = found
    fired = {"last_fired": chosen[-1]} if chosen else {}
    after = schedule.model_copy(update={"next_due": next_after(schedule, now), **fired})
    return Firing(tuple(chosen), after, missed=chosen[:1] != [due])


def next_after(spec: Spec, now: float) -> float | None:
    """The first occurrence after a moment; None when there is none any more."""
    return next(occurrences(spec.cron, spec.zone, now), None)


def upcoming(schedule: Schedule, now: float, count: int) -> list[float]:
    """The next occurrences that it will fire, if nobody pauses it."""
    if schedule.paused:
        return []
    return list(islice(occurrences(schedule.cron, schedule.zone, now), count))


def suffix_of(occurrence: float) -> str:
    """What the id of an occurrence's task ends with: its time in UTC.

    >>> suffix_of(1743296400.0)
    '20250330T010000Z'
    """
    return datetime.fromtimestamp(occurrence, UTC).strftime("%Y%m%dT%H%M%SZ")


def read_row(row: Json) -> Schedule | None:
    """The schedule of a row; None for a row that this version cannot read."""
    try:
        return Schedule.of_row(row)
    except ValidationError:
        return None
