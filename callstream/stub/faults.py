"""What can go wrong with a call, and the choice of it from seeded chance. Pure."""

import re
from collections.abc import Mapping
from enum import StrEnum

from callstream.stub.chance import uniform


class FaultKind(StrEnum):
    """The ways a call can fail."""

    UNAVAILABLE = "503"
    """Refused at once, not paid."""
    LIMITED = "429"
    """Refused at once with Retry-After, not paid."""
    CONTEXT = "context"
    """400 with code `context_length_exceeded`, not paid."""
    POLICY = "policy"
    """400 with code `content_policy_violation`, not paid."""
    HANG = "hang"
    """Takes a slot and the tokens of the limit, never answers, not paid."""
    RESET = "reset"
    """Paid, but the connection is reset in the middle of the body."""
    GARBAGE = "garbage"
    """Paid, 200, but the body is not JSON."""
    DRIP = "drip"
    """Paid, right, but the body comes a few bytes at a time."""
    NO_USAGE = "no-usage"
    """Paid, right, but without `usage`."""


AT_THE_DOOR = frozenset({FaultKind.UNAVAILABLE, FaultKind.LIMITED, FaultKind.CONTEXT, FaultKind.POLICY})
"""Faults that refuse a call before it takes a slot or counts against a limit."""

_DIRECTIVE = re.compile(r"^\s*([a-z0-9-]+)\s*(?:\*\s*(\d{1,6}))?\s*$")


class UnknownFaultError(ValueError):
    """A `stub-fail` line that names no kind."""


def choose(probabilities: Mapping[FaultKind, float], seed: int, task: str, attempt: int) -> FaultKind | None:
    """The fault of this attempt, drawn by the probabilities (their sum is at most 1); None for a good call."""
    if not probabilities:
        return None
    drawn = uniform(seed, "fault", task, attempt)
    for kind, probability in probabilities.items():
        drawn -= probability
        if drawn < 0:
            return kind
    return None


def directed(directive: str, attempt: int) -> FaultKind | None:
    """The fault a `stub-fail: KIND` or `stub-fail: KIND*N` line asks for; with N only the first N attempts fail.

    Raises UnknownFaultError if KIND is none.
    """
    match = _DIRECTIVE.match(directive)
    kinds = {str(kind): kind for kind in FaultKind}
    if match is None or match[1] not in kinds:
        raise UnknownFaultError(
            f"stub-fail: {directive.strip()[:40]!r} is not known; use one of {', '.join(kinds)}, if need be with *N"
        )
    if match[2] is not None and attempt >= int(match[2]):
        return None
    return kinds[match[1]]
