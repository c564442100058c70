"""How long a call takes: log-normal, and the same again for the same seed, task and attempt. Pure."""

import math
from statistics import NormalDist

from callstream.stub.chance import uniform

FURTHEST_SIGMAS = 5.0
"""The tail is cut here, so that no single draw outlasts a test."""

_normal = NormalDist()


def latency_seconds(median_seconds: float, sigma: float, seed: int, task: str, attempt: int) -> float:
    """Seconds of this attempt of this task; half of all attempts take less than `median_seconds`."""
    deviation = _normal.inv_cdf(uniform(seed, "latency", task, attempt))
    bounded = max(-FURTHEST_SIGMAS, min(FURTHEST_SIGMAS, deviation))
    return median_seconds * math.exp(sigma * bounded)
