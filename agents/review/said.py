"""What can be said about a held task: a verdict, a claim, its release, and that its time is over.

Each is an event under the task's key on the topic of verdicts, with one member in its outputs: whose order on the log
decides between two reviewers. An older program takes what it does not know for a verdict that is none.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError, model_validator

from callstream.streams import strict_json
from callstream.streams.event import VERDICT as VERDICT_TYPE
from callstream.streams.event import Event, Json, Moment, Strict, Submission
from callstream.streams.findings import describe
from callstream.streams.keys import Name
from callstream.streams.review import LONGEST_LEASE_SECONDS, SHORTEST_LEASE_SECONDS

VERDICT, CLAIM, RELEASE, DUE = "verdict", "claim", "release", "due"
MOST_EDITED_STEPS = 16
MOST_EDITED_FIELDS = 16

EditedText = Annotated[str, StringConstraints(max_length=200_000)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reviewer = Annotated[str, StringConstraints(min_length=1, max_length=200)]
EditedFields = Annotated[dict[FieldName, EditedText], Field(min_length=1, max_length=MOST_EDITED_FIELDS)]


class Choice(StrEnum):
    """What a reviewer may say."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    REGENERATE = "regenerate"
    ESCALATE = "escalate"


class Verdict(Strict):
    """A reviewer's decision about a held task; `edits` maps a step and a field of its output to the new text.

    The `reason` of a regenerate is what the model is told. `group` is who is to look at what is escalated.
    """

    verdict: Choice
    reviewer: Reviewer
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""
    edits: dict[Name, EditedFields] = Field(default_factory=dict, max_length=MOST_EDITED_STEPS)
    group: Name | None = None

    @model_validator(mode="after")
    def _what_belongs_where(self) -> "Verdict":
        if (self.verdict is Choice.EDIT) != bool(self.edits):
            raise ValueError("edits are given with the verdict 'edit', and only with it")
        if self.verdict is Choice.REGENERATE and not self.reason.strip():
            raise ValueError("the verdict 'regenerate' needs a reason: it is what the model is told")
        if self.group is not None and self.verdict is not Choice.ESCALATE:
            raise ValueError("a group is given with the verdict 'escalate', and only with it")
        return self


class Claim(Strict):
    """A reviewer takes a held task for so many seconds; once more, the lease begins anew."""

    reviewer: Reviewer
    seconds: Annotated[float, Field(ge=SHORTEST_LEASE_SECONDS, le=LONGEST_LEASE_SECONDS)]


class Release(Strict):
    """A reviewer gives a held task back."""

    reviewer: Reviewer


class Due(Strict):
    """The time at which a held task was to be decided (epoch seconds) has come."""

    at: Moment


Command = Verdict | Claim | Release | Due
_MEMBERS: dict[str, type[Verdict] | type[Claim] | type[Release] | type[Due]] = {
    VERDICT: Verdict,
    CLAIM: Claim,
    RELEASE: Release,
    DUE: Due,
}


@dataclass(frozen=True, slots=True)
class Said:
    """What an event says, as it came: `given` is not yet checked. `mark` is the same for the same event.

    `at` is the event's own time, epoch seconds: a lease is measured by it, so that the log read again says the same.
    """

    kind: str
    given: Json
    at: float
    mark: str

    @property
    def who(self) -> str:
        """The name given, whatever it is."""
        return str(self.given.get("reviewer", ""))[:200]

    def command(self) -> Command:
        """What is said. Raises ValueError, with what is wrong with it."""
        try:
            return _MEMBERS[self.kind].model_validate(self.given)
        except ValidationError as error:
            raise ValueError(describe(error)) from None


def as_json(command: Command) -> Json:
    """A command as events and rows have it."""
    said = command.model_dump(mode="json")
    return {name: value for name, value in said.items() if name != "group" or value is not None}


def command_event(held: Event, command: Command, now: float) -> Event:
    """The event for the topic of verdicts: it names the hold by task and sequence and carries the command alone.

    `held` is the event as it stands on the review topic. Times are whole milliseconds, as the wire keeps them.
    """
    kind = next(kind for kind, model in _MEMBERS.items() if isinstance(command, model))
    body = held.body.model_copy(
        update={
            "submission": Submission(chain=held.chain, input={}),
            "outputs": {kind: as_json(command)},
            "trail": (),
            "held": None,
            "additions": {},
        }
    )
    return held.changed(type=VERDICT_TYPE, body=body, time=round(now, 3), deadline=None)


def said_in(event: Event) -> Said:
    """What an event on the topic of verdicts says."""
    outputs = event.body.outputs
    kind = next((kind for kind in _MEMBERS if kind in outputs), VERDICT)
    raw = strict_json.pack([kind, outputs.get(kind, {}), round(event.time * 1000)])
    return Said(kind, outputs.get(kind, {}), event.time, hashlib.blake2b(raw, digest_size=8).hexdigest())
