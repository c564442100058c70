"""From an event to the rows that are written for it: pure, and the same for every time the event arrives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from callstream.streams import strict_json
from callstream.streams.event import Event, Hop, Json, Strict
from callstream.streams.money import text_of, total

MOST_COUNTED = 2**53
"""Token counts come from model servers; what no database column takes is cut to this."""


class CatalogueRow(Strict):
    """A product as the catalogue is to have it. `product` is its key within the tenant."""

    product: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    text: Annotated[str, StringConstraints(max_length=200_000)]
    title: Annotated[str, StringConstraints(max_length=2000)] = ""
    language: Annotated[str, StringConstraints(max_length=35)] = ""
    attributes: Json = Field(default_factory=dict)

    @field_validator("product", "text", "title", "language")
    @classmethod
    def _storable(cls, text: str) -> str:
        if "\0" in text:
            raise ValueError("holds a NUL character, which PostgreSQL cannot store")
        return text


@dataclass(frozen=True, slots=True)
class Write:
    """What one event writes, in one transaction: a row of the catalogue and rows of both logs, by column.

    `keeps`: the row that it replaces is kept, so that this one can be taken back.
    """

    catalogue: dict[str, Any]
    inference: tuple[dict[str, Any], ...]
    chain: tuple[dict[str, Any], ...]
    keeps: bool = False


def accepted_at(event: Event) -> float:
    """When a task was accepted, epoch seconds: of two writes under one key, the later accepted one stays."""
    return event.body.trail[0].started if event.body.trail else event.time


def write_of(event: Event, step: str, row: CatalogueRow, prompt: str, times: tuple[float, float]) -> Write:
    """The rows of an event that the step `step` writes; `prompt` names the step that wrote the prompt.

    `times` are when the step started and when it writes, epoch seconds.
    """
    started, now = times
    catalogue = {
        "tenant": event.tenant,
        **row.model_dump(exclude={"attributes"}),
        "attributes": _clean(row.attributes),
        "task": event.task,
        "step": step,
        "sequence": event.sequence,
        "event": event.id,
        "accepted": accepted_at(event),
        "written": now,
    }
    hops = [hop.model_dump(include={"step", "service", "attempts", "started", "ended"}) for hop in event.body.trail]
    notes = [list(hop.notes) for hop in event.body.trail]
    own = {"step": step, "service": "deliver", "attempts": event.attempt, "started": started, "ended": now}
    place = {"tenant": event.tenant, "task": event.task, "chain": event.chain, "version": event.version}
    chain = [
        {**place, "position": position, **hop, "notes": _clean(noted)}
        for position, (hop, noted) in enumerate(zip((*hops, own), (*notes, []), strict=True))
    ]
    return Write(catalogue, tuple(_inference(event, prompt)), tuple(chain))


def _inference(event: Event, prompt: str) -> list[dict[str, Any]]:
    prompted: Mapping[str, Any] = event.body.outputs.get(prompt, {})
    rows = []
    for position, hop in enumerate(event.body.trail):
        if hop.usage is None or position < event.inherited:
            # A parent's calls are in its own rows: summed over tasks, each is counted once.
            continue
        usage = hop.usage
        rows.append(
            {
                "tenant": event.tenant,
                "task": event.task,
                "position": position,
                "step": hop.step,
                "model": _clean(usage.model),
                "endpoint": _clean(usage.endpoint),
                "calls": min(usage.calls, MOST_COUNTED),
                "repeated": min(usage.repeated, MOST_COUNTED),
                "tokens_in": min(usage.tokens_in, MOST_COUNTED),
                "tokens_out": min(usage.tokens_out, MOST_COUNTED),
                "attempts": hop.attempts,
                "started": hop.started,
                "ended": hop.ended,
                "template": _clean(str(prompted.get("template", "")))[:200],
                "template_version": _clean(str(prompted.get("version", "")))[:50],
                "messages": _clean(prompted.get("messages")),
                "output": _clean(_answer(event.body.outputs.get(hop.step, {}))),
                **_cost(hop),
            }
        )
    return rows


def _answer(output: Json) -> str:
    """The text that a step got; of an answer with a shape, the object."""
    text = output.get("text")
    return text if isinstance(text, str) else strict_json.dumps(output).decode() if output else ""


def _cost(hop: Hop) -> dict[str, str | None]:
    """What all requests of a step cost, in the currency of the latest."""
    if not hop.spends:
        return {"cost": None, "currency": None}
    currency = hop.spends[-1].currency
    return {"cost": text_of(total(one.cost for one in hop.spends if one.currency == currency)), "currency": currency}


def _clean(value: Any) -> Any:
    """Without NUL characters, which PostgreSQL refuses: a log is no reason to lose a task."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_clean(name): _clean(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_clean(member) for member in value]
    return value
