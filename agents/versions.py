"""An event whose chain this worker does not have, or not in that version: it is kept, not failed.

In a rolling upgrade the next owner of its partition may have the version, or this worker when it starts again. So the
event goes round: by the timer back onto its own topic, until somebody can take its step. When the version was first
missed travels with it, and after so long it is buried.
"""

from dataclasses import dataclass

from callstream.streams.chain import MissingVersion
from callstream.streams.event import TASK_UNVERSIONED, Event, Failure, Json
from callstream.streams.outcome import Bury
from callstream.streams.topics import NOTIFIED, topic_of
from callstream.streams.wire import Record, encode, epoch, timestamp
from callstream.tables.tasks import MISSING

SINCE = "missingsince"
"""The attribute that says when the version was first missed (RFC 3339)."""


@dataclass(frozen=True, slots=True)
class Held:
    """The event as it goes round, and what those who show the task are told, the first time."""

    event: Event
    remark: Record | None


def hold(event: Event, missing: MissingVersion, service: str, now: float, most_seconds: float) -> Held | Bury:
    """What becomes of an event whose version is missing: kept until `most_seconds` or its deadline are over."""
    since = _since(event, now)
    if event.deadline is not None and now > event.deadline:
        late = f"its deadline passed while it waited on {service!r} for {_name(missing)}: {missing}"
        return Bury(Failure(kind="deadline", message=late[:2000]))
    if now - since >= most_seconds:
        waited = f"waited {(now - since) / 3600:.1f} h on {service!r} for {_name(missing)}: {missing}"
        return Bury(Failure(kind="unknown-chain", message=waited[:2000]))
    if SINCE in event.extensions:
        return Held(event, None)
    kept = event.extended(**{SINCE: timestamp(now)})
    return Held(kept, encode(_remark(kept, missing, service, now), topic_of(NOTIFIED)))


def released(event: Event) -> Event:
    """The event without what was noted while its version was missing."""
    return event.extended(**{SINCE: None}) if SINCE in event.extensions else event


def _remark(event: Event, missing: MissingVersion, service: str, now: float) -> Event:
    told: Json = {"chain": missing.chain, "version": missing.version, "service": service, "since": now}
    return event.saying(TASK_UNVERSIONED, MISSING, told, result=None)


def _since(event: Event, now: float) -> float:
    """When the version was first missed; whoever wrote the attribute may have written anything."""
    try:
        return min(now, epoch(event.extensions[SINCE]))
    except (KeyError, ValueError, OverflowError):
        return now


def _name(missing: MissingVersion) -> str:
    return f"version {missing.version} of chain {missing.chain!r}"
