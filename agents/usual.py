"""How long a step usually takes: what it declares, or what was seen of it. Pure."""

from collections import deque
from statistics import median

from callstream.streams.chain import Step

LEAST_SEEN = 8
"""Of fewer nobody can say what is usual."""
MOST_SEEN = 64


class Usual:
    """The latest times of each step that runs here, in seconds of work: without what it waited and repeated."""

    def __init__(self) -> None:
        # By identity: a step that compares by its fields has no hash.
        self._seen: dict[int, deque[float]] = {}

    def learn(self, step: Step, seconds: float) -> None:
        """It was done in so many seconds."""
        self._seen.setdefault(id(step), deque(maxlen=MOST_SEEN)).append(seconds)

    def seconds(self, step: Step) -> float:
        """What it takes usually; 0 while that is not known."""
        if step.expected_seconds is not None:
            return step.expected_seconds
        seen = self._seen.get(id(step), ())
        return median(seen) if len(seen) >= LEAST_SEEN else 0.0
