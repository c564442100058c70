"""When a worker that has work does none, it must end: Kafka clients are known to get stuck for good.

A pure decision; the app asks the broker for the lag and tells the clock.
"""


class Stalled(Exception):
    """The worker had work and did none, or stood still; the message says for how long."""


class Watchdog:
    """Looks at lag and progress, and says when too long has passed without any. Times are monotonic seconds."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._progress = -1
        self._since = now

    def look(self, lag: int | None, progress: int, now: float) -> str | None:
        """Why the worker has to end, or None. `lag` is None when the broker does not say: then it counts as work."""
        if progress != self._progress or lag == 0:
            self._progress = progress
            self._since = now
            return None
        if now - self._since < self._seconds:
            return None
        behind = "the broker does not answer" if lag is None else f"{lag:,} records wait"
        return f"{behind} and nothing has finished for {now - self._since:.0f} s"


def stood_still(seconds: float) -> str:
    """Why a worker ends whose loop did not run for so long, and what to do."""
    return (
        f"this process stood still for {seconds:.1f} s, longer than engine.session_timeout_seconds lets it own "
        "partitions. Start it again; on a machine that is often so busy, raise the setting, or run fewer workers"
    )
