"""How long a step usually takes: what it declares, or what was seen of it. Pure."""

import math
from collections import deque

from callstream.streams.chain import Step

LEAST_SEEN = 8
"""Of fewer nobody can say what is usual."""
MOST_SEEN = 64
SHARE = 0.9
"""Of what was seen, so much was done within what counts as usual. Where the earliest deadline goes first, many a call
is sent at the last moment at which it may be done: by the median, half of these would come too late."""


class Usual:
    """The latest times of each step that runs here, in seconds of work: without what it waited and repeated."""

    def __init__(self) -> None:
        # By identity: a step that compares by its fields has no hash.
        self._seen: dict[int, deque[float]] = {}
        self._usual: dict[int, float] = {}

    def learn(self, step: Step, seconds: float) -> None:
        """It was done in so many seconds."""
        seen = self._seen.setdefault(id(step), deque(maxlen=MOST_SEEN))
        seen.append(seconds)
        if len(seen) >= LEAST_SEEN:
            self._usual[id(step)] = sorted(seen)[math.ceil(SHARE * len(seen)) - 1]

    def seconds(self, step: Step) -> float:
        """What it takes usually; 0 while that is not known."""
        if step.expected_seconds is not None:
            return step.expected_seconds
        return self._usual.get(id(step), 0.0)
