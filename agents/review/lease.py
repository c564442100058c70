"""Who has a held task, and until when: by the times of the events, so that the same log gives the same answer."""

from callstream.agents.review.audit import noted, same
from callstream.agents.review.said import Claim, Release, Said
from callstream.streams.event import Json

MOST_LATE = 16


class Taken(ValueError):
    """Somebody else has the task; the message says who, until when."""


def living(review: Json, at: float) -> Json | None:
    """The lease that is in force at that time: {by, since, until}."""
    claim: Json | None = review["claim"]
    return claim if claim is not None and claim["until"] > at else None


def claimed(review: Json, claim: Claim, said: Said) -> Json:
    """The review with a lease of that reviewer, anew or renewed. Raises Taken."""
    found = living(review, said.at)
    if found is not None and not same(found["by"], claim.reviewer):
        raise _taken(found)
    since = said.at if found is None else found["since"]
    lease = {"by": claim.reviewer, "since": since, "until": said.at + claim.seconds}
    after = {**review, "claim": lease, "late": None, "passed_over": _passed_over(review, claim.reviewer)}
    return noted(after, said, "claim" if found is None else "renew", until=lease["until"])


def released(review: Json, release: Release, said: Said) -> Json:
    """The review without the lease of that reviewer. Raises Taken; without any lease it stays as it is."""
    found = living(review, said.at)
    if found is not None and not same(found["by"], release.reviewer):
        raise _taken(found)
    if found is None:
        raise ValueError("nobody has claimed it, or not any more")
    return noted({**review, "claim": None}, said, "release")


def require(review: Json, reviewer: str, at: float) -> None:
    """Raises Taken if a reviewer may not decide: another has the task, or has taken it since this one's was over."""
    found = living(review, at)
    if found is not None and not same(found["by"], reviewer):
        raise _taken(found)
    if found is None and any(same(one, reviewer) for one in review.get("passed_over", ())):
        raise Taken("your lease was over, and somebody else has claimed it since: claim it again")


def _passed_over(review: Json, reviewer: str) -> list[str]:
    """Those whose lease was over when somebody else claimed; whoever claims again is none of them any more."""
    known = [*review.get("passed_over", ()), *filter(None, [review.get("late")])]
    return [one for one in known if not same(one, reviewer)][-MOST_LATE:]


def _taken(found: Json) -> Taken:
    return Taken(f"{found['by']} has claimed it")
