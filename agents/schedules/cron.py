"""Cron expressions of five fields in a time zone: at which moments they fire. Moments are epoch seconds, whole ones.

The rules are Debian's cron's, as cronsim has them. Where clocks go forward, a time that does not exist fires at the
first minute that does; where they go back, a time that comes twice fires the first time. An expression whose minute or
hour begins with `*` fires by elapsed time: in an hour that comes twice it fires in both, in one that is missing not.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_LEAP_DAY = datetime(2028, 2, 29, tzinfo=UTC)


class BadCron(ValueError):
    """The expression is none, or never fires; the message says which field."""


class UnknownZone(ValueError):
    """No time zone has that name."""


def zone_of(name: str) -> tzinfo:
    """The time zone of that name (IANA). Raises UnknownZone."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise UnknownZone(f"no time zone is called {name[:64]!r}; take a name such as Europe/Berlin or UTC") from None


@lru_cache(maxsize=4_096)
def check(expression: str) -> None:
    """Raises BadCron for what is no expression of five fields, and for one that never fires."""
    fields = expression.split()
    if len(fields) != len(FIELDS):
        raise BadCron(f"{expression!r} has {len(fields)} fields; a cron expression has 5: {', '.join(FIELDS)}")
    for place, name in enumerate(FIELDS):
        alone = ["*"] * len(FIELDS)
        alone[place] = fields[place]
        try:
            CronSim(" ".join(alone), _LEAP_DAY)
        except CronSimError:
            raise BadCron(f"{fields[place]!r} is no {name} of a cron expression") from None
    try:
        found = next(CronSim(expression, _LEAP_DAY), None)
    except CronSimError:
        found = None
    if found is None:
        raise BadCron(f"{expression!r} never fires: no month of the next 50 years has such a day")


def occurrences(expression: str, zone: str, after: float) -> Iterator[float]:
    """The moments after that one, in order. Raises BadCron, UnknownZone, OverflowError past the year 9999."""
    last = after
    for found in CronSim(expression, datetime.fromtimestamp(after, zone_of(zone))):
        moment = found.timestamp()
        # Begun in an hour that comes for the second time, it gives what fired in the first.
        if moment > last:
            last = moment
            yield moment


def latest(expression: str, zone: str, since: float, until: float, most: int) -> list[float]:
    """The moments from `since` to `until`, both included, in order: of more than `most` the last ones."""
    begin, taken = since - 1, deque[float](maxlen=most)
    found = list(islice(_upto(expression, zone, begin, until), most + 1))
    if len(found) <= most:
        return found
    # Only where to begin is looked for backwards, so that all that fires is what `occurrences` says.
    end = datetime.fromtimestamp(until, zone_of(zone)) + timedelta(seconds=1)
    backwards = (moment.timestamp() for moment in CronSim(expression, end, reverse=True))
    begin = max(begin, min(islice(backwards, most + 1), default=begin) - 1)
    taken.extend(_upto(expression, zone, begin, until))
    return list(taken)


def _upto(expression: str, zone: str, begin: float, until: float) -> Iterator[float]:
    for moment in occurrences(expression, zone, begin):
        if moment > until:
            return
        yield moment
