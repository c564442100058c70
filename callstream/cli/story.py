"""A whole task as a story: what came in, what each step was given and made, what it cost, how it ended. Pure."""

from collections.abc import Callable, Iterator
from typing import Any

from callstream.agents.moderation.personal import find_personal
from callstream.agents.moderation.rules import Action, Personal
from callstream.cli.comparing import Side, lines_of
from callstream.cli.status import cut, duration, gathered, moment
from callstream.streams.event import Json
from callstream.streams.logs import redact

MOST_LINES = 60
"""Of one input or output."""
MOST_CHARACTERS = 2_000
"""Of one line."""
MESSAGES = "messages"
INDENT = "    "

Mask = Callable[[str], str]


def mask_of(regions: tuple[str, ...]) -> Mask:
    """Puts `[e-mail]` and the like in the place of personal data and secrets.

    `regions` are those whose telephone numbers are known without a prefix.

    >>> mask_of(("CN",))("Write to ann@example.org or 13800138000.")
    'Write to [email] or [phone].'
    """
    rule = Personal(id="story", category="personal", action=Action.MASK, regions=regions)

    def mask(text: str) -> str:
        told, past = [], 0
        for kind, start, end in find_personal(text, rule):
            told += [text[past:start], f"[{kind}]"]
            past = end
        return redact("".join([*told, text[past:]]))

    return mask


def story(side: Side, mask: Mask = str) -> list[str]:
    """The lines of the story, the text of each as `mask` puts it."""
    row = side.row
    told = [*_head(row)]
    if side.outputs is None:
        told.append("what its steps were given and made is on the topics no more")
    elif side.given is not None:
        told += ["", "given", *_shown(side.given)]
    for place, hop in enumerate(row["steps"]):
        told += ["", *_hop(hop, place < row.get("inherited", 0), row)]
        if side.outputs is not None and not hop.get("undo"):
            told += _made(side.outputs.get(hop["step"]))
    # What stands to the left is callstream's own words, in which a time may look like a number to call.
    return [mask(line) if line.startswith(INDENT) else line for line in [*told, "", *_end(row, mask)]]


def _head(row: Json) -> Iterator[str]:
    yield f"{row['id']}  {row['chain']} v{row['version']}  tenant {row['tenant']}  {row['priority']}"
    yield f"accepted {moment(row['created'])}"
    if parent := row.get("parent"):
        yield f"came of {parent}{', in a sandbox' if row.get('sandbox') else ''}"
    if (deadline := row.get("deadline")) is not None:
        yield f"deadline {moment(deadline)}"


def _hop(hop: Json, inherited: bool, row: Json) -> Iterator[str]:
    """A step: when after the task's beginning, how long, and what was paid for it."""
    after = duration(max(0.0, hop["started"] - row["created"])) if hop.get("started") is not None else "?"
    undone = "undo of " if hop.get("undo") else ""
    parts = [f"+{after}", f"{undone}{hop['step']} ({hop['service']})"]
    if hop.get("seconds") is not None:
        parts.append(f"took {duration(hop['seconds'])}")
    if (attempts := hop.get("attempts") or 1) > 1:
        parts.append(f"{attempts} attempts")
    if hop.get("model"):
        where = f" at {hop['endpoint']}" if hop.get("endpoint") else ""
        tokens = f"{hop.get('tokens_in') or 0:,} tokens in, {hop.get('tokens_out') or 0:,} out"
        calls = hop.get("calls") or 0
        parts.append(f"{hop['model']}{where}: {calls:,} {'call' if calls == 1 else 'calls'}, {tokens}")
    parts += [f"{amount} {currency}" for currency, amount in (hop.get("cost") or {}).items()]
    yield "  ".join([*parts, *(["its parent's"] if inherited else [])])
    for note in gathered(hop.get("notes") or ()):
        yield from _block(f"note: {note}")


def _made(output: Any) -> Iterator[str]:
    if not isinstance(output, dict) or not output:
        return
    rest = dict(output)
    messages = rest.pop(MESSAGES, None)
    if isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        for message in messages:
            content = message.get("content")
            yield f"{INDENT}{message.get('role', '?')}:"
            for line in _lines(content):
                yield f"{INDENT}{line}"
    elif messages is not None:
        rest[MESSAGES] = messages
    yield from _shown(rest)


def _shown(value: Json) -> Iterator[str]:
    yield from (f"{INDENT}{line}" for line in _cut(lines_of(value)))


def _lines(content: Any) -> Iterator[str]:
    yield from (f"  {line}" for line in _cut(content.splitlines() if isinstance(content, str) else lines_of(content)))


def _block(text: str) -> Iterator[str]:
    yield from (f"{INDENT}{line}" for line in _cut(text.splitlines()))


def _cut(lines: Any) -> Iterator[str]:
    """No more of it than people read."""
    left = MOST_LINES
    for line in lines:
        if left == 0:
            yield "…"
            return
        left -= 1
        yield cut(line, MOST_CHARACTERS)


def _end(row: Json, mask: Mask) -> Iterator[str]:
    """How it stands."""
    after = ""
    if row["steps"] and row["steps"][-1].get("ended") is not None:
        after = f" after {duration(max(0.0, row['steps'][-1]['ended'] - row['created']))}"
    yield f"{row['state']}{after}"
    if row.get("held"):
        yield from _block(f"held: {row['held']}")
    if failure := row.get("failure"):
        yield from _block(f"{failure['kind']} in {failure.get('step') or 'intake'}: {failure['message']}")
    if (following := row.get("next")) is not None:
        yield f"    waits for {following['step']} ({following['service']})"
    for note in (row.get("review") or {}).get("audit") or ():
        why = f": {mask(note['why'])}" if note["why"] else ""
        yield f"  {moment(note['at'])} {note['what']} by {mask(note['by'])}{why}"[:MOST_CHARACTERS]
    if (result := row.get("result")) is not None:
        yield f"{INDENT}result"
        yield from (f"{INDENT}  {line}" for line in _cut(lines_of(result)))
    if callback := row.get("callback"):
        yield from _block(f"told {callback.get('url')}: {callback.get('state')}")
