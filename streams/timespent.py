"""Where the time of a task went, step by step, from its trail. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from callstream.streams.event import Hop

MOST_TOLD = 8
LEAST_TOLD_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one step: before it began or while it waited, at work, and in tries that failed with their pauses."""

    step: str
    waited: float
    worked: float
    retried: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.waited + self.worked + self.retried


def step_times(trail: Sequence[Hop], created: float) -> Iterator[StepTime]:
    """What each hop took. `created` is when the task was handed in, epoch seconds.

    Clocks of machines differ: what would be negative is 0.
    """
    before = created
    for hop in trail:
        took = max(0.0, hop.ended - hop.started)
        waited, retried = min(hop.waited, took), min(hop.retried, took)
        worked = max(0.0, took - waited - retried)
        yield StepTime(hop.step, max(0.0, hop.started - before) + waited, worked, retried)
        before = hop.ended


def told(times: Iterable[StepTime]) -> str:
    """The steps that took most, in a line for people; empty if none took any time worth telling.

    >>> told([StepTime("prompt", 0.0, 0.01, 0.0), StepTime("copy", 8.2, 1.1, 0.0)])
    'its time went into copy (waited 8.2 s, worked 1.1 s)'
    """
    long = [one for one in times if any(_parts(one))]
    most = sorted(sorted(long, key=lambda one: -one.total)[:MOST_TOLD], key=long.index)
    said = "; ".join(f"{one.step} ({', '.join(_parts(one))})" for one in most)
    return f"its time went into {said}" if said else ""


def _parts(one: StepTime) -> Iterator[str]:
    for name in ("waited", "worked", "retried"):
        if (seconds := getattr(one, name)) >= LEAST_TOLD_SECONDS:
            yield f"{name} {seconds:.1f} s"
