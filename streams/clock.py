"""The time of this process: the clocks of the machine, read so that a step of the wall clock moves nothing."""

import logging
import time

from callstream.streams.steady import SLEW, SteadyClock

log = logging.getLogger("callstream.clock")


class Clock:
    """Epoch seconds, by a `SteadyClock`. A step of the wall clock is logged once."""

    def __init__(self) -> None:
        self._steady = SteadyClock(time.time(), _monotonic())

    def __call__(self) -> float:
        """The time now."""
        reading = self._steady.read(time.time(), _monotonic())
        if reading.jump:
            log.warning(
                "this machine's clock was set by %+.1f s: it is followed by %g s a second, or taken over by a restart",
                reading.jump,
                SLEW,
            )
        return reading.now


def _monotonic() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
