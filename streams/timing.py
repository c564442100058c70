"""Records that are to be sent later: what the timer's topic carries, and back again.

A record for the timer is the record itself, under the same key and so in the same partition, with two headers more:
when it is due and which topic it is for. Its `ce_type` says meanwhile that it waits, so that whoever reads the topic
does not take the event for one that has come. A body that is in the blob store stays there: its reference is a header.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from callstream.streams.event import LAST_SECOND, TASK_WAITING
from callstream.streams.topics import TIMER, topic_of
from callstream.streams.wire import Record

DUE = "callstream-due"
DESTINATION = "callstream-destination"
TYPE = "callstream-type"
CE_TYPE = "ce_type"
CE_ID = "ce_id"
LONGEST_DELAY_SECONDS = 366 * 24 * 3600.0
_MICROSECONDS = 1_000_000
_MOST_MICROSECONDS = LAST_SECOND * _MICROSECONDS
_MOST_DIGITS = len(str(_MOST_MICROSECONDS))


class BadTimer(ValueError):
    """Why a record on the timer's topic cannot be kept, in one sentence."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A record and when it is to be sent, epoch microseconds."""

    due: int
    record: Record

    @property
    def id(self) -> str:
        """The same for the same event to the same topic: the id of the event, which is deterministic."""
        found = next((raw for name, raw in self.record.headers if name == CE_ID), b"")
        return f"{self.record.topic}/{found.decode('utf-8', 'replace')}"


def check_due(due: float, now: float) -> None:
    """Raises ValueError for a moment that no timer is set to: what lies over a year ahead. The past means at once."""
    if not due <= now + LONGEST_DELAY_SECONDS:
        raise ValueError("must lie within a year from now")


def microseconds(moment: float) -> int:
    """Epoch seconds as whole microseconds, never before 1970. Raises ValueError for what is no moment.

    >>> microseconds(1.5), microseconds(-3.0)
    (1500000, 0)
    """
    if not math.isfinite(moment) or moment > LAST_SECOND:
        raise ValueError(f"{moment!r} is no moment that a timer can be set to")
    return max(0, round(moment * _MICROSECONDS))


def delayed(record: Record, due: float) -> Record:
    """The record for the timer that sends `record` at `due` (epoch seconds; the past means at once).

    Raises ValueError for what is no moment. Whoever asks for it checks with `check_due` how far ahead that lies.
    """
    headers = [(name, raw if name != CE_TYPE else TASK_WAITING.encode()) for name, raw in record.headers]
    said = next((raw for name, raw in record.headers if name == CE_TYPE), b"")
    headers += [(DUE, str(microseconds(due)).encode()), (DESTINATION, record.topic.encode()), (TYPE, said)]
    return Record(topic_of(TIMER), record.key, record.value, headers)


def timed(key: bytes, value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> Timed:
    """What `delayed` made, undone: the record as it was given, and its due time. Raises BadTimer."""
    ours: dict[str, bytes] = {}
    others: list[tuple[str, bytes]] = []
    for name, raw in headers:
        if name in (DUE, DESTINATION, TYPE):
            ours[name] = raw or b""
        elif raw is not None:
            others.append((name, raw))
    if missing := next((name for name in (DUE, DESTINATION) if not ours.get(name)), None):
        raise BadTimer(f"the header {missing} is missing")
    if said := ours.get(TYPE):
        others = [(name, raw if name != CE_TYPE else said) for name, raw in others]
    destination = ours[DESTINATION].decode("utf-8", "replace")
    return Timed(_due(ours[DUE]), Record(destination, key, value, others))


def _due(raw: bytes) -> int:
    text = raw[: _MOST_DIGITS + 1].decode("utf-8", "replace")
    if not (text.isascii() and text.isdecimal() and int(text) <= _MOST_MICROSECONDS):
        raise BadTimer(f"the header {DUE} is {text!r}, not microseconds since 1970")
    return int(text)
