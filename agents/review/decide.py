"""What a verdict that may be given does to the row of a held task: it decides, or the task waits on. Pure."""

from typing import Any

from callstream.agents.review.audit import noted, same
from callstream.agents.review.said import Choice, Due, Said, Verdict, as_json
from callstream.streams.edits import edited
from callstream.streams.event import MAX_HOPS, Event, Json, Priority
from callstream.streams.review import OnDue

MOST_TEXTS = 16
MOST_TEXT = 20_000
LEFT_FOR_THE_END = 8
"""Hops that a task needs beside those of the steps it takes again."""
DUE_TOLERANCE_SECONDS = 0.001
_HIGHER = {Priority.LOW: Priority.NORMAL, Priority.NORMAL: Priority.HIGH, Priority.HIGH: Priority.HIGH}


def decided(review: Json, verdict: Verdict, said: Said, held: Event, back: int | None) -> dict[str, Any]:
    """The members of the row that a verdict changes. Raises ValueError for one that cannot be carried out."""
    choice = verdict.verdict
    match choice:
        case Choice.ESCALATE:
            after = noted(_escalated(review, verdict.group), said, choice, verdict.reason)
            return {"refused": None, "review": {**after, "claim": None}}
        case Choice.REGENERATE:
            number = _number_back(review, held, back)
            after = noted(_sent_back(review, verdict, said, held), said, choice, verdict.reason)
            return _end(after, verdict, said.at) | {"back": number}
        case Choice.REJECT:
            return _end(noted(review, said, choice, verdict.reason), verdict, said.at)
    edits = edited(review["edits"], verdict.edits)
    texts = {"edits": verdict.edits} if verdict.edits else {}
    if not review["four_eyes"]:
        return _end(noted(review, said, choice, verdict.reason), verdict, said.at)
    if verdict.edits or not review["approvals"]:
        # Whoever approved another text has not approved this one.
        after = noted(
            {**review, "edits": edits, "approvals": [verdict.reviewer]}, said, choice, verdict.reason, **texts
        )
        return {"refused": None, "review": {**after, "claim": None}}
    if any(same(one, verdict.reviewer) for one in review["approvals"]):
        raise ValueError(f"{verdict.reviewer} has approved it already: another person has to")
    after = noted(review, said, choice, verdict.reason)
    return _end(after, _with_edits(verdict, edits), said.at)


def due(review: Json, given: Due, said: Said) -> dict[str, Any]:
    """The members of the row that its time being over changes; none, if that is another hold's or was over before."""
    until = review["due"]
    if until is None or abs(until - given.at) > DUE_TOLERANCE_SECONDS or review.get("over"):
        return {}
    then = OnDue(review["on_due"])
    after = noted({**review, "over": True}, said, "due", str(then))
    if then is OnDue.NONE:
        return {"review": after}
    if then is OnDue.ESCALATE:
        return {"review": _escalated(after, review["escalate_to"])}
    choice = Choice.APPROVE if then is OnDue.RELEASE else Choice.REJECT
    verdict = Verdict(verdict=choice, reviewer="callstream", reason="nobody decided in time")
    if choice is Choice.APPROVE:
        verdict = _with_edits(verdict, review["edits"])
    return _end(after, verdict, said.at)


def _end(review: Json, verdict: Verdict, at: float) -> dict[str, Any]:
    ended = {**review, "claim": None}
    return {"state": "decided", "verdict": as_json(verdict), "decided": at, "refused": None, "review": ended}


def _escalated(review: Json, group: str | None) -> Json:
    group = group or review["escalate_to"] or review["group"]
    return {**review, "priority": str(_HIGHER[Priority(review["priority"])]), "group": group}


def _number_back(review: Json, held: Event, back: int | None) -> int:
    step, done = review["regenerate"], len(review["attempts"])
    if step is None or back is None:
        raise ValueError("the step that holds it declares no step that it may go back to")
    if done >= review["rounds"]:
        raise ValueError(f"it was sent back {done} times, as often as it may be: approve, edit or reject it")
    # Each step and its review leave a hop.
    if len(held.body.trail) + 2 * (back - held.sequence + 1) + LEFT_FOR_THE_END > MAX_HOPS:
        raise ValueError("its trail has no room for another round: approve, edit or reject it")
    return back


def _sent_back(review: Json, verdict: Verdict, said: Said, held: Event) -> Json:
    output = held.body.outputs.get(review["regenerate"], {})
    texts = {name: value[:MOST_TEXT] for name, value in output.items() if isinstance(value, str)}
    attempt = {"at": said.at, "by": verdict.reviewer, "note": verdict.reason, "step": review["regenerate"]}
    kept = dict(list(texts.items())[:MOST_TEXTS])
    return {**review, "attempts": [*review["attempts"], {**attempt, "texts": kept}]}


def _with_edits(verdict: Verdict, edits: dict[str, dict[str, str]]) -> Verdict:
    """The verdict that carries out what was edited before it was approved."""
    return verdict.model_copy(update={"verdict": Choice.EDIT, "edits": edits}) if edits else verdict
