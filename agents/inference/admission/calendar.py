"""Days and months of the calendar, UTC, and what was spent of a quota within the one that is now. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from callstream.agents.inference.admission.spent import Window

Calendar = Literal["day", "month"]
DAY = 86_400
SAME_SECONDS = 3_600.0
"""Two ends that are no further apart are one, as a machine that looks twice at two clocks has it."""


def end_of(calendar: Calendar, moment: float) -> float:
    """When the day or month of a moment is over; both in epoch seconds.

    >>> end_of("day", 1_700_000_000.0), end_of("month", 1_700_000_000.0)
    (1700006400.0, 1701388800.0)
    """
    if calendar == "day":
        return (moment // DAY + 1) * DAY
    day = datetime.fromtimestamp(moment, UTC)
    year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp()


class Period(Window):
    """What was spent since the day or month began: all of it counts until that ends, and nothing of it after.

    `ends` gives when the period of a moment is over; both are seconds of a monotonic clock.
    """

    __slots__ = ("_ends",)

    def __init__(self, ends: Callable[[float], float], longer: float) -> None:
        super().__init__(0.0, 1.0, longer)
        self._ends = ends

    def _end(self, now: float) -> float:
        end = self._ends(now)
        latest = next(reversed(self._slices), None)
        return latest if latest is not None and abs(latest - end) < SAME_SECONDS else end
