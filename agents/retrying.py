"""Whether a step is tried again, and after how long: a value, from what failed and what its step declares. Pure."""

import math
from dataclasses import dataclass

from callstream.streams.chain import Attempts
from callstream.streams.errorclass import FINAL, ErrorClass


@dataclass(frozen=True, slots=True)
class Failed:
    """The `attempt`-th try (from 1) that failed. `asked_seconds` is the pause that was asked for, if any.

    `left_seconds` is the time to the task's deadline, `needs_seconds` what another try takes, as far as is known.
    """

    error_class: ErrorClass
    attempt: int
    asked_seconds: float | None = None
    left_seconds: float = math.inf
    needs_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt, after that many seconds."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No other attempt: `refused` or `deadline` (the class is final, or there is no time for one), or `attempts`."""

    reason: str


Decision = Again | GiveUp

REFUSED, DEADLINE, ATTEMPTS = "refused", "deadline", "attempts"


def decide(failed: Failed, attempts: Attempts, has_budget: bool, chance: float) -> Decision:
    """Whether to try again. `chance` is in [0, 1).

    Attempts count together, whatever they failed of; the class of the latest failure says how many there may be and
    how long the pause is. It is drawn from all that lie below a ceiling, which doubles up to a cap (full jitter: what
    failed together does not come back together), and is no shorter than was asked for. Without a budget it is from
    half of the longest pause on. An attempt that could not end before the deadline is not begun; where the ceiling
    lies past that, it is lowered.
    """
    if failed.error_class in FINAL:
        return GiveUp(DEADLINE if failed.error_class is ErrorClass.DEADLINE else REFUSED)
    own = attempts.of(failed.error_class)
    if failed.attempt >= own.most:
        return GiveUp(ATTEMPTS)
    asked = failed.asked_seconds if failed.asked_seconds is not None and failed.asked_seconds > 0 else 0.0
    room = failed.left_seconds - failed.needs_seconds
    if room <= asked:
        return GiveUp(DEADLINE)
    # Past 2**60 every ceiling is the cap; the exponent must stay in a float's range.
    ceiling = own.first_pause_seconds * 2.0 ** min(failed.attempt - 1, 60) if has_budget else math.inf
    ceiling = min(own.longest_pause_seconds, ceiling, room)
    return Again(max(asked, ceiling * (chance if has_budget else 0.5 + chance / 2)))
