"""Commands to schedules: on their topic each is an event whose task is the schedule and whose output is the command."""

from enum import StrEnum

from pydantic import ValidationError

from callstream.agents.schedules.schedule import CommandId, Schedule, ScheduleName, Spec, changed, created, resumed
from callstream.streams.event import Event, Strict, Submission
from callstream.streams.findings import describe
from callstream.streams.keys import Tenant
from callstream.streams.submission import Order, new_event

COMMAND = "schedule"
"""The output that holds the command, and the name of the event's chain, of which there is none."""
TYPE_PREFIX = "callstream.schedule."


class BadCommand(ValueError):
    """Why an event is no command to a schedule, in one sentence."""


class UnknownSchedule(LookupError):
    """There is no schedule of that name."""


class Action(StrEnum):
    """What can be done to a schedule."""

    SET = "set"
    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    REMOVE = "remove"


class Command(Strict):
    """One command. `id` tells it from others, so that one that comes again is known; `spec` belongs to `set`."""

    action: Action
    tenant: Tenant
    name: ScheduleName
    id: CommandId
    spec: Spec | None = None

    @property
    def trigger_suffix(self) -> str:
        """What the id of a triggered task ends with."""
        return f"now-{self.id}"


def command_event(command: Command, now: float) -> Event:
    """The event for the topic of commands."""
    empty = Submission(chain=COMMAND, input={})
    event = new_event(empty, Order(command.tenant, command.name), now)
    said = command.model_dump(mode="json", include={"id", "spec"})
    return event.as_type(TYPE_PREFIX + command.action).with_body(outputs={COMMAND: said})


def read_command(event: Event) -> Command:
    """The command of an event. Raises BadCommand."""
    said = event.body.outputs.get(COMMAND)
    if said is None or not event.type.startswith(TYPE_PREFIX):
        raise BadCommand(f"an event of type {event.type[:80]!r} is no command to a schedule")
    action = event.type.removeprefix(TYPE_PREFIX)
    try:
        command = Command.model_validate({**said, "action": action, "tenant": event.tenant, "name": event.task})
    except ValidationError as error:
        raise BadCommand(describe(error)) from None
    if (command.action is Action.SET) != (command.spec is not None):
        raise BadCommand("a spec is given with the command 'set', and only with it")
    return command


def apply(schedule: Schedule | None, command: Command, now: float) -> Schedule | None:
    """The schedule after a command; None when it is removed. Raises UnknownSchedule."""
    if command.action is Action.REMOVE:
        return None
    if command.spec is not None:
        new = created(command.spec, command.tenant, command.name, now)
        return (changed(schedule, command.spec, now) if schedule is not None else new).after(command.id, now)
    if schedule is None:
        raise UnknownSchedule(f"no schedule of {command.tenant} is called {command.name!r}")
    match command.action:
        case Action.PAUSE:
            schedule = schedule.model_copy(update={"paused": True})
        case Action.RESUME:
            schedule = resumed(schedule, now)
    return schedule.after(command.id, now)
