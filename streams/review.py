"""A hold as everybody sees it: the terms that its step has set, and what was said about it so far.

The terms travel in the body's `additions`, which older programs pass on as they are. A hold without any adds nothing.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from callstream.streams.event import Count, Event, Json, Moment, Priority, Strict
from callstream.streams.keys import Name

ADDITION = "review"
MOST_ROUNDS = 10
SHORTEST_LEASE_SECONDS, LONGEST_LEASE_SECONDS = 10.0, 24 * 3600.0
LONGEST_DUE_SECONDS = 90 * 24 * 3600.0
MOST_TEXT = 200_000
MOST_NOTE = 2000


class OnDue(StrEnum):
    """What becomes of a held task that nobody has decided in time."""

    NONE = "none"
    RELEASE = "release"
    REJECT = "reject"
    ESCALATE = "escalate"


class Terms(Strict):
    """How a held task is to be reviewed.

    `priority` is by default the task's own. `due_seconds` counts from the hold; what is undecided then is treated as
    `on_due` says. `group` is who is to look at it, `escalate_to` who after an escalation. With `four_eyes` two persons
    have to approve. A reviewer may send the task back `rounds` times.
    """

    priority: Priority | None = None
    due_seconds: Annotated[float, Field(gt=0, le=LONGEST_DUE_SECONDS)] | None = None
    on_due: OnDue = OnDue.NONE
    group: Name | None = None
    escalate_to: Name | None = None
    four_eyes: bool = False
    rounds: Annotated[int, Field(ge=0, le=MOST_ROUNDS)] = 3

    @model_validator(mode="after")
    def _due_if_anything_follows(self) -> "Terms":
        if self.on_due is not OnDue.NONE and self.due_seconds is None:
            raise ValueError(f"on_due is {self.on_due}, and without due_seconds nothing is ever due")
        return self


NO_TERMS = Terms()


class _Lease(BaseModel):
    by: str
    since: Moment
    until: Moment


class _Note(BaseModel):
    at: Moment
    by: str
    what: str
    why: str
    mark: str | None


class _Attempt(BaseModel):
    at: Moment
    by: str
    note: str
    step: str
    texts: dict[str, str]


class _Told(BaseModel):
    """What is told of a review, as `opened` begins it."""

    run: Count
    sequence: Count
    state: str
    since: Moment
    priority: Priority
    group: str | None
    escalate_to: str | None
    due: Moment | None
    on_due: OnDue
    four_eyes: bool
    regenerate: str | None
    rounds: int
    claim: _Lease | None
    approvals: list[str]
    edits: dict[str, dict[str, str]]
    attempts: list[_Attempt]
    audit: list[_Note]
    told: Count


class _Addition(Strict):
    """What a hold adds to its event."""

    terms: Terms = NO_TERMS
    text: Annotated[str, StringConstraints(max_length=MOST_TEXT)] = ""
    regenerate: Name | None = None
    note: Json | None = None


def with_terms(event: Event, terms: Terms, text: str, regenerate: str | None) -> Event:
    """The held event with what its step says of the hold: `text` was judged, `regenerate` is where it may go back to.

    What an earlier hold of the task added is taken away.
    """
    kept = {name: value for name, value in event.body.additions.items() if name != ADDITION}
    given = _Addition(terms=terms, text=text[:MOST_TEXT], regenerate=regenerate)
    said = given.model_dump(mode="json", exclude_defaults=True)
    return event.with_body(additions={**kept, ADDITION: said} if said else kept)


def with_note(event: Event, step: str, note: str, earlier: str) -> Event:
    """The event on its way back to a step, with what a reviewer asks of it and the text that is to be better."""
    told = {"step": step, "note": note[:MOST_NOTE], "earlier": earlier[:MOST_TEXT]}
    return event.with_body(additions={**event.body.additions, ADDITION: {"note": told}})


def without(event: Event) -> Event:
    """The event on its way on."""
    kept = {name: value for name, value in event.body.additions.items() if name != ADDITION}
    return event.with_body(additions=kept)


def note_for(event: Event, step: str) -> tuple[str, str] | None:
    """What a reviewer who sent the task back asks of a step, and its earlier text; None for nothing.

    >>> from callstream.streams.event import Body, Submission
    >>> body = Body(submission=Submission(chain="shop", input={}), digest="0" * 64)
    >>> event = Event("acme", "mug-1", "shop", 1, 3, body)
    >>> note_for(with_note(event, "copy", "shorter", "A long text."), "copy")
    ('shorter', 'A long text.')
    """
    told = _addition(event).note or {}
    note, earlier = told.get("note"), told.get("earlier")
    if told.get("step") != step or not isinstance(note, str):
        return None
    return note, earlier if isinstance(earlier, str) else ""


def text_of(event: Event) -> str:
    """The text that the holding step has judged; spans of its findings count in it. Empty where the step gave none."""
    return _addition(event).text


def opened(event: Event, before: Json | None = None) -> Json:
    """What is known about a hold when it begins. `before` is what was known about an earlier one of the same task.

    Times are epoch seconds. `told` counts what was ever noted in `audit`, of which the latest is kept.
    """
    given = _addition(event)
    terms, began = given.terms, event.body.trail[-1].ended if event.body.trail else event.time
    past = before or {}
    return {
        "run": event.run,
        "sequence": event.sequence,
        "state": "held",
        "since": began,
        "priority": str(terms.priority or event.priority),
        "group": terms.group,
        "escalate_to": terms.escalate_to,
        "due": None if terms.due_seconds is None else began + terms.due_seconds,
        "on_due": str(terms.on_due),
        "four_eyes": terms.four_eyes,
        "regenerate": given.regenerate,
        "rounds": terms.rounds,
        "claim": None,
        "approvals": [],
        "edits": {},
        "attempts": past.get("attempts", []),
        "audit": past.get("audit", []),
        "told": past.get("told", 0),
    }


def fits(told: Json) -> bool:
    """Whether what is told of a review has all that those who show it rely on: anybody may write to a topic."""
    try:
        _Told.model_validate(told)
    except ValidationError:
        return False
    return True


def _addition(event: Event) -> _Addition:
    """What the event says; who writes to the topic may have written anything, which counts as nothing."""
    try:
        return _Addition.model_validate(event.body.additions.get(ADDITION, {}))
    except ValidationError:
        return _Addition()
