"""What a failure means for another attempt. Pure.

A failure's `kind` says what happened and is shown to people; there are many, and steps of users bring their own. Its
class says what to do about it; there are seven. A policy, a metric and a filter go by the class.
"""

from collections.abc import Mapping
from enum import StrEnum


class ErrorClass(StrEnum):
    """The fixed set of classes."""

    TRANSIENT = "transient"
    """It may pass: nobody there, a broken connection, a database that restarts."""
    OVERLOADED = "overloaded"
    """It is there and has too much to do."""
    BROKEN_REPLY = "broken-reply"
    """It answered, and the answer is of no use."""
    REFUSED = "refused"
    """It will never be done: another attempt gives the same."""
    TIMEOUT = "timeout"
    """No answer in the time that was allowed."""
    BUG = "bug"
    """An exception left the step."""
    DEADLINE = "deadline"
    """The task's time is over."""


FINAL = frozenset({ErrorClass.REFUSED, ErrorClass.DEADLINE})
"""Never tried again, whatever a step declares."""

_KINDS: Mapping[ErrorClass, str] = {
    ErrorClass.TRANSIENT: """
        unavailable unreachable stopping database sink blob-store recogniser-died callback-unreachable
    """,
    ErrorClass.OVERLOADED: "callback-busy retry-budget",
    ErrorClass.BROKEN_REPLY: "unusable-reply",
    ErrorClass.REFUSED: """
        refused-by-policy context-too-long reply-too-long unknown-pool unknown-chain invalid-input conflict rejected
        cancelled route hop-limit fan-out join blob-missing timer no-prompt no-template missing-variable empty-text
        output-too-large photo-missing bad-image moderate-text catalogue-row callback-refused callback-address
        callback-secret prompt-rule prompt-too-long template text-too-long texts vectors sink-row
    """,
    ErrorClass.TIMEOUT: "recognition-timeout",
    ErrorClass.BUG: "",
    ErrorClass.DEADLINE: "",
}
_CLASSES = {kind: one for one, kinds in _KINDS.items() for kind in (str(one), *kinds.split())}


def class_of(kind: str, unknown: ErrorClass = ErrorClass.TRANSIENT) -> ErrorClass:
    """The class of a failure of that kind. Each class is a kind too; a kind of somebody's own is `unknown`.

    >>> [str(class_of(kind)) for kind in ("unreachable", "context-too-long", "bug", "shelf-empty")]
    ['transient', 'refused', 'bug', 'transient']
    """
    return _CLASSES.get(kind, unknown)
