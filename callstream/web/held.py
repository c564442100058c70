"""Held tasks as reviewers see them: from the row of a task, also one that an older program wrote."""

from callstream.agents.review import living
from callstream.streams.event import NO_DIGEST, Body, Event, Json, Priority, Submission
from callstream.streams.review import opened

HIDDEN = ("sequence", "attempt", "outputs", "traceparent", "review", "input", "text")
"""Members of a task's row that only those see who need them."""


def shown_to_all(row: Json) -> Json:
    """A task's row without what only some need."""
    return {name: value for name, value in row.items() if name not in HIDDEN}


def held_event(row: Json) -> Event:
    """As much of the held event as is needed to say something about it: which task, which hold."""
    submission = Submission(chain=row["chain"], input={})
    digest = row.get("digest") or NO_DIGEST
    return Event(
        tenant=row["tenant"],
        task=row["id"],
        chain=row["chain"],
        version=row["version"],
        sequence=row.get("sequence", len(row["steps"])),
        run=row.get("run", 0),
        body=Body(submission=submission, digest=digest, outputs=row.get("outputs") or {}),
        priority=Priority(row["priority"]),
        time=row["updated"],
        traceparent=row.get("traceparent"),
    )


def review_in(row: Json) -> Json:
    """What is known about the review of a held task."""
    kept: Json | None = row.get("review")
    return kept if kept is not None else opened(held_event(row))


def was_reviewed(row: Json) -> bool:
    """Whether a task waits for a person, or people have said something about it."""
    return row["state"] == "held" or "review" in row


def reviewed(row: Json, now: float) -> Json:
    """A task's row with what a reviewer needs: its input, outputs and judged text, and its review as it stands now."""
    review = dict(review_in(row))
    if review["claim"] is not None and living(review, now) is None:
        # The end of a lease is in the row when the next thing is said; who looks is told before.
        claim = review["claim"]
        over = {"at": claim["until"], "by": claim["by"], "what": "expire", "why": "", "mark": None}
        review |= {"claim": None, "audit": [*review["audit"], over]}
    needed = {name: row.get(name) for name in ("input", "outputs", "text") if row["state"] == "held"}
    return {**shown_to_all(row), **needed, "review": review}


def listed(row: Json, now: float) -> Json:
    """The same for a list: without what was done, and without earlier attempts."""
    found = reviewed(row, now)
    return {
        **found,
        "review": {name: one for name, one in found["review"].items() if name not in ("audit", "attempts")},
    }
