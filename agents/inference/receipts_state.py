"""Receipts of model calls as they stand in a task's row: folds from one row to the next. Pure.

A row keeps them under `calls`, by call id, beside whatever else a step remembers there. A receipt is *started* before
a request is sent, *answered* when its answer has come, *failed* when the step was told that none will. Started and
never followed up means: the request may have been sent and paid by a run that did not live to tell.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from callstream.agents.inference.call import Reply
from callstream.streams.event import Json, Line, Strict, Usage
from callstream.streams.spend import MOST_SPENDS, Spend, SpendKind, Spends, summed

CALLS, DROPPED = "calls", "dropped"
MOST_RECEIPTS = 16
MOST_NOTES = 32
MOST_DROPPED = 4
"""Rounds of which the row tells what receipts cost that it has no room for any more."""
MOST_TEXT_BYTES = 512 * 1024
"""Of all texts in a row together, so that a row stays below the largest record of a changelog."""


class State(StrEnum):
    """How far a call has come."""

    STARTED = "started"
    ANSWERED = "answered"
    FAILED = "failed"


class Receipt(Strict):
    """The record of one model call. `started` is epoch seconds, `flight` says which worker process started it last.

    `requests` is how many may be under way at once: two for a call that was asked a second time because it took long.
    `repeats` counts those of starts that were not followed up: requests that may have been paid without an answer.
    `spends` is what earlier flights cost and, once it is over, this one; `so_far` what this one cost until now, and
    `reserved` what each request that is under way may cost. All of it is told once, by that `round` of the task.
    `draft` is what had come of an answer that is not whole, `asked` the digest of the request that it answers, and
    `parts` how often more of it was kept.
    """

    state: State
    started: float
    flight: Annotated[str, StringConstraints(max_length=64)]
    endpoint: Annotated[str, StringConstraints(max_length=48)] = ""
    requests: Annotated[int, Field(ge=1, le=2)] = 1
    repeats: Annotated[int, Field(ge=0)] = 0
    text: str = ""
    finish_reason: Annotated[str, StringConstraints(max_length=64)] = ""
    usage: Usage | None = None
    notes: Annotated[tuple[Line, ...], Field(max_length=MOST_NOTES)] = ()
    round: Annotated[str, StringConstraints(max_length=48)] = ""
    spends: Annotated[Spends, Field(max_length=MOST_SPENDS)] = ()
    so_far: Annotated[Spends, Field(max_length=MOST_SPENDS)] = ()
    reserved: Spend | None = None
    draft: str = ""
    asked: Annotated[str, StringConstraints(max_length=64)] = ""
    parts: Annotated[int, Field(ge=0)] = 0

    def cost(self, open_as: SpendKind = SpendKind.CANCELLED) -> Spends:
        """All that it has cost or may have cost; requests of which nothing is known are of the kind `open_as`."""
        if self.state is not State.STARTED:
            return self.spends
        lost = () if self.reserved is None else (self.reserved.times(self.requests).as_kind(open_as),)
        return summed((*self.spends, *self.so_far, *lost))


def receipt_of(row: Json | None, call_id: str) -> Receipt | None:
    """The receipt of that call, if the row has one. Raises pydantic.ValidationError for one that is not ours."""
    kept = _calls(row).get(call_id)
    return None if kept is None else Receipt.model_validate(kept)


def start(row: Json | None, call_id: str, receipt: Receipt) -> Json:
    """The row after a request is about to be sent; `receipt` says when, in which flight, to which endpoint.

    Starts of the same flight (a retry, a fold done twice) count once. An answered receipt stays as it is.
    """
    found = receipt_of(row, call_id)
    if found is not None:
        if found.state is State.ANSWERED:
            return _with(row, call_id, found)
        if _is_same_flight(found, receipt):
            most = max(found.requests, receipt.requests)
            return _with(row, call_id, found.model_copy(update={"requests": most, "so_far": receipt.so_far}))
        repeats = found.repeats + (found.requests if found.state is State.STARTED else 0)
        # What an earlier round paid it has told.
        before = found.cost(SpendKind.LOST) if found.round == receipt.round else ()
        kept = {"draft": found.draft, "asked": found.asked, "parts": found.parts}
        receipt = receipt.model_copy(update={"repeats": repeats, "spends": before, **kept})
    return _with(row, call_id, receipt)


def answer(row: Json | None, call_id: str, reply: Reply, round_: str = "") -> Json:
    """The row after the answer has come. A row that has lost the start takes the answer all the same."""
    found = receipt_of(row, call_id) or Receipt(state=State.STARTED, started=0.0, flight="", round=round_)
    # Two who waited for the same request both write its answer down.
    over = {} if found.state is State.ANSWERED else _over(found, reply.spends)
    answered = {
        **over,
        "state": State.ANSWERED,
        "text": reply.text,
        "draft": "",
        "asked": "",
        "finish_reason": reply.finish_reason,
        "usage": reply.usage,
        "notes": reply.notes,
    }
    return _with(row, call_id, found.model_copy(update=answered))


def fail(row: Json | None, call_id: str, spends: Spends | None = ()) -> Json | None:
    """The row after the step was told of a failure; None where no request was started, so nothing is to be kept.

    `spends` is what the call cost; of None what was reserved for what was under way is taken.
    """
    found = receipt_of(row, call_id)
    if found is None or found.state is not State.STARTED:
        return None
    over = {"spends": found.cost(), "so_far": (), "reserved": None} if spends is None else _over(found, spends)
    return _with(row, call_id, found.model_copy(update={**over, "state": State.FAILED}))


def _over(found: Receipt, spends: Spends) -> Json:
    return {"spends": summed((*found.spends, *spends)), "so_far": (), "reserved": None}


def draft(row: Json | None, call_id: str, flight: str, part: tuple[str, str]) -> Json | None:
    """The row with one more part: what has come of an answer until now, and the digest of its request.

    None if the call is another flight's, or if another receipt would have no room beside it: that may be an answer.
    """
    found = receipt_of(row, call_id)
    if found is None or found.state is not State.STARTED or found.flight != flight:
        return None
    after = _with(row, call_id, found.model_copy(update={"draft": part[0], "asked": part[1], "parts": parts(row) + 1}))
    return after if len(_calls(after)) == len(_calls(row)) else None


def parts(row: Json | None) -> int:
    """How many parts of answers were kept for a task."""
    return max((kept.get("parts", 0) for kept in _calls(row).values()), default=0)


def spent_by(row: Json | None, round_: str) -> Spends:
    """What all calls of one round of the task have cost, or may have cost."""
    found = [Receipt.model_validate(kept) for kept in _calls(row).values()]
    told = (spend for one in found if one.round == round_ for spend in one.cost())
    return summed((*map(Spend.model_validate, _dropped(row).get(round_, ())), *told))


def taken(row: Json | None, prefix: str) -> Usage | None:
    """What the calls whose ids begin so took or may have taken, those without an answer too; None for none."""
    found = [Receipt.model_validate(kept) for call_id, kept in _calls(row).items() if call_id.startswith(prefix)]
    if not found:
        return None
    answered = [one.usage for one in found if one.usage is not None]
    open_requests = sum(one.requests + one.repeats for one in found if one.state is State.STARTED)
    return Usage(
        model=answered[-1].model if answered else "",
        endpoint=answered[-1].endpoint if answered else found[-1].endpoint,
        calls=open_requests + sum(one.calls for one in answered),
        repeated=sum(one.repeated for one in answered),
        tokens_in=sum(one.tokens_in for one in answered),
        tokens_out=sum(one.tokens_out for one in answered),
    )


def reply_in(receipt: Receipt) -> Reply | None:
    """The answer that a receipt holds."""
    if receipt.state is not State.ANSWERED:
        return None
    return Reply(receipt.text, receipt.finish_reason, receipt.usage or Usage(), receipt.notes)


def inherited(row: Json | None, donor: str, donor_key: bytes, key: bytes) -> Json | None:
    """A first row for the task of that key, with the answers of the task `donor` as its own; None if there are none.

    They cost the task nothing, so they count no calls and no tokens.
    """
    calls: Json = {}
    prefix = f"{donor_key.decode()}/"
    for call_id in _calls(row):
        kept = receipt_of(row, call_id)
        if kept is None or kept.state is not State.ANSWERED or not call_id.startswith(prefix):
            continue
        usage = kept.usage or Usage()
        free = Usage(model=usage.model, endpoint=usage.endpoint)
        told = (f"the answer that task {donor} paid for", *kept.notes)[:MOST_NOTES]
        given = kept.model_copy(update={"usage": free, "notes": told, "repeats": 0, "spends": ()})
        calls[f"{key.decode()}/{call_id.removeprefix(prefix)}"] = given.model_dump(mode="json", exclude_defaults=True)
    return {CALLS: calls} if calls else None


def _is_same_flight(found: Receipt, receipt: Receipt) -> bool:
    return found.state is State.STARTED and found.flight == receipt.flight


def _calls(row: Json | None) -> dict[str, Any]:
    kept = (row or {}).get(CALLS)
    return kept if isinstance(kept, dict) else {}


def _dropped(row: Json | None) -> dict[str, Any]:
    kept = (row or {}).get(DROPPED)
    return kept if isinstance(kept, dict) else {}


def _with(row: Json | None, call_id: str, receipt: Receipt) -> Json:
    others = {kept_id: kept for kept_id, kept in _calls(row).items() if kept_id != call_id}
    calls = {**others, call_id: receipt.model_dump(mode="json", exclude_defaults=True)}
    kept = _bounded(calls)
    told = _dropped(row)
    for gone in calls.keys() - kept.keys():
        one = Receipt.model_validate(calls[gone])
        told = _added(told, one.round, one.cost())
    return {**(row or {}), CALLS: kept} | ({DROPPED: told} if told else {})


def _added(told: dict[str, Any], round_: str, spends: Spends) -> dict[str, Any]:
    """What receipts without room cost, with one more of that round."""
    if not spends:
        return told
    whole = summed((*map(Spend.model_validate, told.get(round_, ())), *spends))
    others = {name: kept for name, kept in told.items() if name != round_}
    others[round_] = [one.model_dump(mode="json", exclude_defaults=True) for one in whole]
    return dict(list(others.items())[-MOST_DROPPED:])


def _bounded(calls: dict[str, Any]) -> dict[str, Any]:
    """Without the oldest receipts beyond the bounds; the newest always stays."""
    sizes = {
        call_id: len(kept.get("text", "").encode()) + len(kept.get("draft", "").encode())
        for call_id, kept in calls.items()
    }
    kept_ids: list[str] = []
    room = MOST_TEXT_BYTES
    for call_id in reversed(calls):
        room -= sizes[call_id]
        if kept_ids and (len(kept_ids) == MOST_RECEIPTS or room < 0):
            break
        kept_ids.append(call_id)
    return {call_id: calls[call_id] for call_id in reversed(kept_ids)}
