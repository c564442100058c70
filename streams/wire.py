"""Events as Kafka records: CloudEvents 1.0, Kafka protocol binding, binary mode out, binary and structured mode in.

Attributes are `ce_*` headers, the body is JSON. Extensions: `traceparent` (distributed tracing), `partitionkey`,
`sequence`, `expirytime`, `dataref` (the body is in the blob store: a claim check), and ours: `tenant`, `chain`,
`chainversion`, `priority`, `attempt`, `runat`, `run` (left out of a first run), and
of a task that replays another `parent`, `inherited`, `reuses`, `sandbox`. The task's id is the `subject`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from pydantic import TypeAdapter, ValidationError

from callstream.streams import strict_json
from callstream.streams.event import LAST_SECOND, MAX_EXTENSIONS, Body, Event, Json, Priority
from callstream.streams.findings import describe
from callstream.streams.keys import NAME_PATTERN, TASK_ID_PATTERN, TENANT_PATTERN
from callstream.streams.strict_json import BadJson

SPEC_VERSION = "1.0"
SOURCE = "/callstream"
BINARY_TYPE = "application/json"
STRUCTURED_TYPE = "application/cloudevents+json"
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_RECORD_BYTES = MAX_BODY_BYTES + 64 * 1024
MAX_HEADER_BYTES = 4096
MAX_SEQUENCE = 9999
MAX_RUN = 999_999
MAX_BODY_DEPTH = strict_json.MAX_DEPTH + 8
"""Deeper than a caller's document: what was taken at the door still fits when the event wraps it."""
CLAIM_CHECK_BYTES = 256 * 1024
DATAREF = "ce_dataref"
"""The header of a record without a value: where its body is (CloudEvents extension)."""
BODY_REF = "bodyref"
"""The attribute of a dead letter whose task had such a body, which was not there: the reference, for a redrive."""

_NO_NUMBERS = (b"NaN", b"Infinity")

Headers = list[tuple[str, bytes]]


class BadEvent(ValueError):
    """Why a record is no event of ours, in one sentence."""


class BodyMissing(BadEvent):
    """The body of an event is a claim check, and its blob is gone, damaged or larger than is read."""


class EventTooLarge(ValueError):
    """An event of more bytes than are passed on; the message says how many it has and how many may be."""


class LogUnavailable(Exception):
    """The broker has not taken a record: the worker must stop loudly, and the event stays unacknowledged."""


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record to be sent: to the partition of its key, which is the same on every topic."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers

    def by_reference(self, reference: str) -> "Record":
        """The record without its value, which is in the blob store."""
        return Record(self.topic, self.key, b"", [*self.headers, (DATAREF, reference.encode())])


def encode(event: Event, topic: str) -> Record:
    """The event as a record of that topic. Raises EventTooLarge beyond `MAX_BODY_BYTES`, ValueError for no JSON.

    A task with a failure may be larger by the hop and the failure that it gained: `MAX_RECORD_BYTES`, which is what
    is read, leaves room for them.
    """
    attributes = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": SOURCE,
        "type": event.type,
        "subject": event.task,
        "time": timestamp(event.time),
        "partitionkey": event.key.decode(),
        "sequence": f"{event.sequence:04d}",
        "tenant": event.tenant,
        "chain": event.chain,
        "chainversion": str(event.version),
        "priority": str(event.priority),
        "attempt": str(event.attempt),
    }
    if event.run:
        attributes["run"] = str(event.run)
    if event.deadline is not None:
        attributes["expirytime"] = timestamp(event.deadline)
    if event.run_at is not None:
        attributes["runat"] = timestamp(event.run_at)
    if event.traceparent is not None:
        attributes["traceparent"] = event.traceparent
    if event.parent is not None:
        attributes |= {"parent": event.parent, "inherited": str(event.inherited)}
    if event.reuses is not None:
        attributes["reuses"] = event.reuses
    if event.sandbox:
        attributes["sandbox"] = "true"
    attributes |= {name: value for name, value in event.extensions.items() if name not in attributes}
    headers: Headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    headers.append(("content-type", BINARY_TYPE.encode()))
    value = event.body.model_dump_json(exclude_defaults=True).encode()
    if any(word in value for word in _NO_NUMBERS):
        # In a text, or as a number: that one is refused here.
        value = strict_json.dumps(event.body.model_dump(mode="json", exclude_defaults=True))
    most = MAX_BODY_BYTES if event.body.failure is None else MAX_RECORD_BYTES
    if len(value) > most:
        raise EventTooLarge(f"the event has {len(value):,} bytes; at most {most:,} are passed on")
    return Record(topic, event.key, value, headers)


def decode(value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None) -> Event:
    """The event that a record carries, in binary or structured mode. Raises BadEvent.

    Attributes that are not known here are kept in `extensions`, for those who know them; other headers are ignored.
    The key is not read: it follows from tenant and task.
    """
    if value is None:
        raise BadEvent("the record has no value (a tombstone)")
    plain = _texts(headers or ())
    media_type = plain.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == STRUCTURED_TYPE:
            attributes, data = split_structured(strict_json.loads(value, MAX_RECORD_BYTES, MAX_BODY_DEPTH + 1))
        elif media_type.startswith("application/cloudevents"):
            raise BadEvent(f"content-type {media_type[:80]!r} is not taken; send {STRUCTURED_TYPE} or binary mode")
        else:
            attributes = {name[3:]: text for name, text in plain.items() if name.startswith("ce_")}
            check_attributes(attributes)
            _check_media_type(media_type or BINARY_TYPE)
            data = strict_json.loads(value, MAX_RECORD_BYTES, MAX_BODY_DEPTH)
    except BadJson as error:
        raise BadEvent(f"body: {error}") from None
    return _event(attributes, data)


def check_attributes(attributes: Mapping[str, str]) -> None:
    """The attributes that every CloudEvent needs. Raises BadEvent naming the one that is missing or wrong."""
    version = attributes.get("specversion")
    if version != SPEC_VERSION:
        said = "is missing" if version is None else f"{version[:80]!r} is not taken"
        raise BadEvent(f"attribute specversion {said}; send {SPEC_VERSION!r}")
    for name in ("id", "source", "type"):
        if not attributes.get(name):
            raise BadEvent(f"attribute {name!r} is missing")
    _check_media_type(attributes.get("datacontenttype", BINARY_TYPE))


def split_structured(envelope: object) -> tuple[dict[str, str], object]:
    """A structured-mode envelope as attributes (texts) and data. Raises BadEvent."""
    if not isinstance(envelope, dict):
        raise BadEvent("a structured CloudEvent is a JSON object")
    if "data_base64" in envelope:
        raise BadEvent("data_base64 is not taken; send JSON data")
    attributes = {}
    for name, value in envelope.items():
        if name == "data" or value is None:
            continue
        if not isinstance(value, str | int):
            raise BadEvent(f"attribute {name[:40]!r} must be a string or an integer")
        if len(str(value)) > MAX_HEADER_BYTES:
            raise BadEvent(f"attribute {name[:40]!r} is longer than {MAX_HEADER_BYTES:,} characters")
        attributes[name] = str(value)
    check_attributes(attributes)
    return attributes, envelope.get("data")


@lru_cache(maxsize=4_096)
def timestamp(seconds: float) -> str:
    """Epoch seconds as RFC 3339, UTC, microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def epoch(text: str) -> float:
    """RFC 3339 with an offset as epoch seconds. Raises ValueError, OverflowError outside of the years 1970 to 9999."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text[:80]!r} has no UTC offset")
    seconds = moment.timestamp()
    if not 0 <= seconds <= LAST_SECOND:
        raise OverflowError(f"{text[:80]!r} is not within the years 1970 to 9999, UTC")
    return seconds


def _check_media_type(given: str) -> None:
    if given.partition(";")[0].strip().lower() != BINARY_TYPE:
        raise BadEvent(f"content type {given[:80]!r} is not taken; send {BINARY_TYPE}")


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    texts = {}
    for name, raw in headers:
        name = name.lower()
        if not (name.startswith("ce_") or name == "content-type"):
            continue
        if raw is None or len(raw) > MAX_HEADER_BYTES:
            raise BadEvent(f"header {name[:40]!r} is empty or longer than {MAX_HEADER_BYTES:,} bytes")
        try:
            texts[name] = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise BadEvent(f"header {name[:40]!r} is not UTF-8") from None
    return texts


_PRIORITIES = tuple(map(str, Priority))
_PATTERNS = {
    "tenant": re.compile(TENANT_PATTERN.replace("$", r"\Z")),
    "subject": re.compile(TASK_ID_PATTERN.replace("$", r"\Z")),
    "chain": re.compile(NAME_PATTERN.replace("$", r"\Z")),
    "chainversion": re.compile(r"^[0-9]{1,6}\Z"),
    "sequence": re.compile(r"^[0-9]{1,4}\Z"),
    "attempt": re.compile(r"^[1-9][0-9]{0,5}\Z"),
    "run": re.compile(r"^[0-9]{1,6}\Z"),
    "type": re.compile(r"^[!-~]{1,200}\Z"),
    "parent": re.compile(TASK_ID_PATTERN.replace("$", r"\Z")),
    "inherited": re.compile(r"^[0-9]{1,2}\Z"),
    "reuses": re.compile(TASK_ID_PATTERN.replace("$", r"\Z")),
    "sandbox": re.compile(r"^(true|false)\Z"),
    "traceparent": re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z"),
}

_KNOWN = {"specversion", "id", "source", "time", "partitionkey", "priority", "expirytime", "dataref", "data"} | {
    *("datacontenttype", "dataschema"),
    *_PATTERNS,
}
_EXTENSION = re.compile(r"^[a-z0-9]{1,40}\Z")


@lru_cache(maxsize=4_096)
def _checked(name: str, value: str | None) -> str:
    """An attribute's text, if it is one: most are those of the task's last event. Raises BadEvent."""
    if value is None or not _PATTERNS[name].match(value):
        raise BadEvent(f"attribute {name!r} is {'missing' if value is None else f'not valid: {value[:80]!r}'}")
    return value


def _event(attributes: Mapping[str, str], data: object) -> Event:
    """The event of checked attributes and a parsed body."""

    def text(name: str, default: str | None = None) -> str:
        return _checked(name, attributes.get(name, default))

    def moment(name: str) -> float:
        try:
            return epoch(attributes[name])
        except (ValueError, OverflowError) as error:
            raise BadEvent(f"attribute {name!r}: {str(error)[:200]}") from None

    if attributes.get("priority", Priority.NORMAL) not in _PRIORITIES:
        raise BadEvent(f"attribute 'priority' is {attributes['priority'][:80]!r}, not one of {', '.join(_PRIORITIES)}")
    try:
        return Event(
            tenant=text("tenant"),
            task=text("subject"),
            chain=text("chain"),
            version=int(text("chainversion", "0")),
            sequence=int(text("sequence", "0")),
            body=_BODY.validate_python(data),
            attempt=int(text("attempt", "1")),
            priority=Priority(attributes.get("priority", Priority.NORMAL)),
            time=moment("time") if "time" in attributes else 0.0,
            deadline=moment("expirytime") if "expirytime" in attributes else None,
            traceparent=text("traceparent") if "traceparent" in attributes else None,
            type=text("type"),
            extensions=_extensions(attributes),
            run_at=moment("runat") if "runat" in attributes else None,
            run=int(text("run", "0")),
            parent=text("parent") if "parent" in attributes else None,
            inherited=int(text("inherited", "0")),
            reuses=text("reuses") if "reuses" in attributes else None,
            sandbox=text("sandbox", "false") == "true",
        )
    except ValidationError as error:
        raise BadEvent(f"body: {describe(error, data)}") from None


def _extensions(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes that no field of an event has; a name that CloudEvents does not allow is nobody's."""
    found = {name: value for name, value in attributes.items() if name not in _KNOWN and _EXTENSION.match(name)}
    if len(found) > MAX_EXTENSIONS:
        raise BadEvent(f"{len(found)} attributes are not known here; at most {MAX_EXTENSIONS} are passed on")
    return found


def as_json(event: Event) -> Json:
    """The event in structured mode, for people and for HTTP."""
    record = encode(event, "")
    attributes = {name[3:]: raw.decode() for name, raw in record.headers if name.startswith("ce_")}
    return {
        **attributes,
        "datacontenttype": BINARY_TYPE,
        "data": event.body.model_dump(mode="json", exclude_defaults=True),
    }


_BODY = TypeAdapter(Body)
