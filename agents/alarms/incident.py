"""An incident, and the CloudEvents that tell of it. Pure.

The incidents of one rule and subject are numbered, each one more than the last on the log: two processes that both
took themselves for the one that judges, one of them for a moment too long, tell of the same incident under the same id.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from callstream.agents.alarms.options import Kind
from callstream.streams import strict_json, topics
from callstream.streams.event import NO_DIGEST, Body, Event, Json, Line, Moment, Submission
from callstream.streams.findings import describe
from callstream.streams.keys import Name, task_key
from callstream.streams.strict_json import BadJson
from callstream.streams.topics import topic_of
from callstream.streams.wire import BINARY_TYPE, SOURCE, SPEC_VERSION, BadEvent, Headers, Record, timestamp

RANG, ENDED = "callstream.alarm.rang", "callstream.alarm.ended"
OWNER = "callstream"
"""Stands where a task's event has its tenant."""
MOST_SUBJECT = 400
MOST_BYTES = 64 * 1024
OPEN: Literal["open"] = "open"
OVER: Literal["ended"] = "ended"


class Incident(BaseModel):
    """Something that a rule has found, from when to when (epoch seconds).

    `started` is since when it held, `rang` when it was told, `ended` since when it was quiet. `value` is what was
    found when it was told last. What a newer program adds is left out by an older one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    rule: Name
    kind: Kind
    subject: Annotated[str, StringConstraints(max_length=MOST_SUBJECT)]
    number: Annotated[int, Field(ge=1, le=10**9)]
    state: Literal["open", "ended"] = OPEN
    value: float
    threshold: float
    started: Moment
    rang: Moment
    ended: Moment | None = None
    message: Line = ""

    @property
    def place(self) -> tuple[str, str]:
        """Rule and subject: of those that share them, one is open at most."""
        return self.rule, self.subject

    @property
    def id(self) -> str:
        """The same while it is open and when it has ended."""
        return f"{self.rule}/{self.subject}/{self.number}"

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.state == OPEN

    @property
    def type(self) -> str:
        """What the event says that tells of it as it is."""
        return RANG if self.is_open else ENDED

    @property
    def time(self) -> float:
        """When what is told of it was so."""
        return self.rang if self.ended is None else self.ended

    def follows(self, before: "Incident | None") -> bool:
        """Whether it says more than what was known of its rule and subject: a later one, or the end of that one."""
        if before is None:
            return True
        return (self.number, not self.is_open) > (before.number, not before.is_open)

    def told(self) -> Json:
        """As an event, a webhook and a gateway tell of it."""
        lasted = None if self.ended is None else round(max(0.0, self.ended - self.started), 3)
        return {"id": self.id, **self.model_dump(mode="json"), "lasted_seconds": lasted}


def record_of(incident: Incident) -> Record:
    """The CloudEvent of an incident as it is, with the key of its rule and subject. The same state has the same id."""
    key = task_key(OWNER, f"{incident.rule}/{incident.subject}")
    attributes = {
        "specversion": SPEC_VERSION,
        "id": event_id(incident),
        "source": SOURCE,
        "type": incident.type,
        "subject": incident.id,
        "time": timestamp(incident.time),
        "partitionkey": key.decode(),
    }
    headers: Headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    headers.append(("content-type", BINARY_TYPE.encode()))
    return Record(topic_of(topics.ALARMS), key, strict_json.dumps(incident.told()), headers)


def event_id(incident: Incident) -> str:
    """Of the event that tells of an incident as it is."""
    return f"{incident.id}/{'rang' if incident.is_open else 'ended'}"


def read_incident(value: bytes | None) -> Incident:
    """The incident that a record's value tells of. Raises BadEvent."""
    if value is None:
        raise BadEvent("the record has no value (a tombstone)")
    try:
        return Incident.model_validate(strict_json.loads(value, MOST_BYTES))
    except BadJson as error:
        raise BadEvent(f"body: {error}") from None
    except ValidationError as error:
        raise BadEvent(f"body: {describe(error)}") from None


def as_event(value: bytes | None, headers: object) -> Event:
    """A record of the topic as what actors work on: who tells others of alarms is an actor as any. Raises BadEvent."""
    incident = read_incident(value)
    body = Body(submission=Submission(chain="alarms", input=incident.told()), digest=NO_DIGEST)
    task = f"{incident.rule}/{incident.subject}"
    return Event(OWNER, task, "alarms", 0, 0, body, time=incident.time, type=incident.type)
