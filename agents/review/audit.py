"""Who did what to a held task, and when: the latest of it, in the task's row. Pure."""

import unicodedata

from callstream.agents.review.said import Said
from callstream.streams.event import Json

MOST_NOTED = 64
EXPIRE, REFUSE = "expire", "refuse"
TIMER = "callstream"
"""Who decides where nobody did in time."""


def noted(review: Json, said: Said, what: str, why: str = "", **more: Json | str | float | None) -> Json:
    """The review with one more entry: `what` was done by whoever said it, and `why`."""
    entry = {"at": said.at, "by": said.who or TIMER, "what": what, "why": why[:2000], "mark": said.mark, **more}
    return _with(review, entry)


def expired(review: Json, at: float) -> Json:
    """The review without a lease that was over by then; whose it was is noted."""
    claim = review["claim"]
    if claim is None or claim["until"] > at:
        return review
    entry = {"at": claim["until"], "by": claim["by"], "what": EXPIRE, "why": "", "mark": None}
    return _with({**review, "claim": None, "late": claim["by"]}, entry)


def knows(review: Json, said: Said) -> bool:
    """Whether it was taken in already."""
    return any(entry["mark"] == said.mark for entry in review["audit"])


def same(one: str, other: str) -> bool:
    """Whether two names are the same person's: case, width and spaces do not count.

    >>> same("Ann  Lee", "ann lee "), same("Ann", "Anna")
    (True, False)
    """
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _with(review: Json, entry: Json) -> Json:
    return {**review, "audit": [*review["audit"], entry][-MOST_NOTED:], "told": review["told"] + 1}
