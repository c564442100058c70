"""The row of a held task, folded from the held event and from what was said about it. Pure, and each event counts once.

A row is either `early` (what overtook its task), `held`, `decided` or `cancelled`; a decided row keeps its verdict, and
whatever arrives again is given the same answer. What is said names its hold by the held event's run and sequence, so
that a verdict for an earlier hold decides no later one. `review` is there once something was said.
"""

from dataclasses import dataclass, replace
from typing import Any

from callstream.agents.control.ancestry import ANCESTRY, above
from callstream.agents.control.commands import Subject
from callstream.agents.review import decide, lease
from callstream.agents.review.audit import REFUSE, expired, knows, noted
from callstream.agents.review.said import Claim, Due, Release, Said, Verdict, said_in
from callstream.streams import strict_json
from callstream.streams.event import Event, Json
from callstream.streams.review import opened
from callstream.streams.wire import STRUCTURED_TYPE, as_json, decode

CANCELLED, EARLY, HELD, DECIDED = "cancelled", "early", "held", "decided"
MOST_EARLY = 16


class Unfit(ValueError):
    """The edits fit nothing, or the policy is against them; the message says where."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What the desk has found out for a fold: what the policy has against the edits, and the number of the step that a
    task would go back to (None: it has none)."""

    against: str | None = None
    back: int | None = None


def hold_of(row: Json) -> tuple[int, int]:
    """Which hold a row is about: of which run of the task, and behind which step."""
    return row.get("run", 0), row["sequence"]


def held_row(event: Event, row: Json | None) -> Json:
    """The row of a held task; one of the same or a later hold stays as it is, unless all it has came early."""
    hold = (event.run, event.sequence)
    if row is not None and (hold_of(row) > hold or (hold_of(row) == hold and row["state"] != EARLY)):
        return row
    before = _past(row)
    plain = {
        "state": HELD,
        "run": event.run,
        "sequence": event.sequence,
        "tenant": event.tenant,
        "task": event.task,
        "chain": event.chain,
        "reason": event.body.held or "",
        "since": event.time,
        "held": as_json(event),
    }
    return {**plain, "review": opened(event, before)} if before else plain


def early_in(event: Event, row: Json | None) -> list[Said]:
    """What was said of a held task before it came, in its order."""
    if row is None or row["state"] != EARLY or hold_of(row) != (event.run, event.sequence):
        return []
    if "verdict" in row:
        older = event.with_body(outputs={"verdict": row["verdict"]})
        return [said_in(replace(older, time=row["decided"]))]
    return [Said(**one) for one in row["said"]]


def takes(event: Event, row: Json | None) -> bool:
    """Whether what an event says is about the hold that waits in the row."""
    return row is not None and row["state"] == HELD and hold_of(row) == (event.run, event.sequence)


def early_row(event: Event, row: Json | None) -> Json | None:
    """The row with what was said of a hold that has not come; as it is, where that is over or another one waits."""
    hold, said = (event.run, event.sequence), said_in(event)
    if row is None or (hold_of(row) < hold and row["state"] != HELD):
        return _early(event, [said], row)
    if hold_of(row) != hold or row["state"] != EARLY:
        return row
    known = early_in(event, row)
    if said.mark in {one.mark for one in known}:
        return row
    return _early(event, [*known, said][:MOST_EARLY], row)


def said_row(row: Json, said: Said, looked: Looked) -> Json:
    """The row of a hold that waits, after something was said about it."""
    review = review_of(row)
    if row["state"] != HELD or knows(review, said):
        return row
    review = expired(review, said.at)
    try:
        command = said.command()
        match command:
            case Claim():
                after: Json = {"review": lease.claimed(review, command, said)}
            case Release():
                after = {"review": lease.released(review, command, said)}
            case Due():
                after = decide.due(review, command, said)
            case Verdict():
                lease.require(review, command.reviewer, said.at)
                if (wrong := refusal(held_event(row), command) or looked.against) is not None:
                    raise Unfit(wrong)
                after = decide.decided(review, command, said, held_event(row), looked.back)
    except ValueError as error:
        return {**row, **_refused(review, said, error)}
    return {**row, **after}


def refusal(held: Event, verdict: Verdict) -> str | None:
    """Why a verdict cannot be carried out on that task: an edit of what is not there, or is no text. None if it can."""
    for step, fields in verdict.edits.items():
        output = held.body.outputs.get(step)
        if output is None:
            known = ", ".join(sorted(held.body.outputs)) or "none"
            return f"edits.{step}: no step of that name has an output; known: {known}"
        for name in fields:
            if not isinstance(output.get(name), str):
                texts = ", ".join(sorted(key for key, value in output.items() if isinstance(value, str))) or "none"
                return f"edits.{step}.{name}: not a text of that output; its texts: {texts}"
    return None


def review_of(row: Json) -> Json:
    """What was said about the hold of a row, and its terms; of one of which nothing was said, as it began."""
    kept: Json | None = row.get("review")
    return kept if kept is not None else opened(held_event(row))


def shown(row: Json) -> Json:
    """What those who show the task are told of its review."""
    return {**review_of(row), "state": row["state"]}


def held_event(row: Json) -> Event:
    """The held event that a row keeps."""
    raw = strict_json.dumps(row["held"])
    return decode(raw, [("content-type", STRUCTURED_TYPE.encode())])


def held_subject(row: Json) -> Subject:
    """The task of a row as commands see it."""
    higher = above(row["tenant"], row["held"].get(ANCESTRY, ""))
    return Subject(row["tenant"], row["task"], row["chain"], row["since"], "held", higher)


def _refused(review: Json, said: Said, error: ValueError) -> dict[str, Any]:
    why, code = str(error), "claimed" if isinstance(error, lease.Taken) else "edits" if isinstance(error, Unfit) else ""
    after = noted(review, said, REFUSE, why, of=said.kind, code=code)
    return {"review": after, **({"refused": {"why": why, "at": said.at}} if said.kind == "verdict" else {})}


def _early(event: Event, said: list[Said], row: Json | None) -> Json:
    kept = [{"kind": one.kind, "given": one.given, "at": one.at, "mark": one.mark} for one in said]
    before = _past(row)
    early = {"state": EARLY, "run": event.run, "sequence": event.sequence, "said": kept}
    return {**early, "before": before} if before else early


def _past(row: Json | None) -> Json | None:
    """What is kept of earlier holds of a task."""
    if row is None:
        return None
    if row["state"] == EARLY:
        return row.get("before")
    review: Json | None = row.get("review")
    return None if review is None else {name: review[name] for name in ("audit", "attempts", "told")}
