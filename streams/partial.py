"""A part of an answer that is still being written, as those who show a task are told of it. Pure.

It travels as a remark of the type `callstream.task.partial`, whose `attempt` counts the parts of its task. A part has
the end of what was written until then, so that the latest says all that is shown.
"""

from callstream.streams.event import TASK_PARTIAL, Event, Json

PARTIAL = "partial"
"""The output that a remark has, and the member of a task's row."""
MOST_SHOWN = 8_192
"""Characters of a part: no model writes as much within the second that a part is told after."""
MOST_PARTS = 999_999


def remark(event: Event, number: int, step: str, text: str) -> Event:
    """The `number`-th part that is told of a task: `text` is all that a step's model has written until now."""
    start = max(0, len(text) - MOST_SHOWN)
    told: Json = {"step": step, "start": start, "characters": len(text), "text": text[start:]}
    return event.saying(TASK_PARTIAL, PARTIAL, told, waiting=None).changed(attempt=min(number, MOST_PARTS))


def told_in(event: Event) -> Json | None:
    """What a remark tells; None for one that tells nothing usable."""
    told = event.body.outputs.get(PARTIAL)
    if told is None or not isinstance(told.get("text"), str) or len(told["text"]) > MOST_SHOWN:
        return None
    numbers = told.get("start"), told.get("characters")
    if not isinstance(told.get("step"), str) or not all(type(number) is int and number >= 0 for number in numbers):
        return None
    known = {name: told[name] for name in ("step", "start", "characters", "text")}
    return {**known, "run": event.run, "sequence": event.sequence, "part": event.attempt}
