"""The Retry-After header, which anything may stand in. Pure."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

MOST_SECONDS = 3600.0
MOST_CHARACTERS = 64

_SECONDS = re.compile(r"[0-9]{1,40}(\.[0-9]{1,20})?\Z", re.ASCII)


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds from `now` (epoch seconds) that the endpoint asks to wait, 0 to `MOST_SECONDS`; None for nonsense.

    Both forms of RFC 9110 are read, and a fraction of seconds, which some servers send.

    >>> retry_after("7", 0), retry_after("99999999", 0), retry_after("-1", 0), retry_after("tomorrow", 0)
    (7.0, 3600.0, None, None)
    """
    text = (header or "").strip()
    if not text or len(text) > MOST_CHARACTERS:
        return None
    if _SECONDS.match(text):
        return min(float(text), MOST_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
        # RFC 9110 dates are GMT; "-0000" leaves the zone out.
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, min(seconds, MOST_SECONDS))
