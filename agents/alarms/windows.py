"""How often something was seen within a sliding window. Pure: `now` is an argument, and memory has a bound."""

from collections import OrderedDict

SLICES = 60
"""Of a window: what was seen leaves it up to a sixtieth late."""
MOST_SUBJECTS = 500
OTHERS = "others"
"""Where those subjects are counted together for which there is no room."""
MOST_IDS = 100_000


class Window:
    """Counts of the latest `seconds`. What is told of the past may come in any order."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._slices: dict[int, int] = {}

    def add(self, at: float, count: int, now: float) -> None:
        """So many at a moment (epoch seconds); what is later than `now`, by a clock that differs, was now."""
        number = self._number(min(at, now))
        if number > self._number(now) - SLICES:
            self._slices[number] = self._slices.get(number, 0) + count

    def total(self, now: float) -> int:
        """How many there were."""
        latest = self._number(now)
        self._slices = {number: count for number, count in self._slices.items() if number > latest - SLICES}
        return sum(self._slices.values())

    def _number(self, moment: float) -> int:
        return int(moment / self._seconds * SLICES)


class Windows:
    """A window for each subject, of `MOST_SUBJECTS` at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._windows: dict[str, Window] = {}

    def add(self, subject: str, at: float, count: int, now: float) -> None:
        """Count for a subject."""
        if subject not in self._windows and len(self._windows) >= MOST_SUBJECTS:
            subject = OTHERS
        self._windows.setdefault(subject, Window(self._seconds)).add(at, count, now)

    def a_minute(self, now: float) -> dict[str, float]:
        """How many a minute there were of each subject, averaged over the window. Those without any are forgotten."""
        totals = {subject: window.total(now) for subject, window in self._windows.items()}
        for subject in [subject for subject, total in totals.items() if not total]:
            del self._windows[subject]
        return {subject: total * 60.0 / self._seconds for subject, total in totals.items() if total}


class Known:
    """Ids that were seen within the latest `seconds`; the latest `MOST_IDS` of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ids: OrderedDict[str, float] = OrderedDict()

    def is_new(self, name: str, now: float) -> bool:
        """Whether it was not seen before; from now on it was."""
        while self._ids and (len(self._ids) > MOST_IDS or next(iter(self._ids.values())) < now - self._seconds):
            self._ids.popitem(last=False)
        if name in self._ids:
            return False
        self._ids[name] = now
        return True
