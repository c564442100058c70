"""What a step that sends a task back tells the writer: members of its output, and how they are heard. Pure.

A step sets `guides` to the name of the writer and `guidance` to the words; what a reviewer says travels beside.
"""

from callstream.streams.event import Event, Json
from callstream.streams.review import note_for

GUIDES, GUIDANCE = "guides", "guidance"
MOST_GUIDANCE = 4000


def guides(writer: str, words: str) -> Json:
    """The members of an output."""
    return {GUIDES: writer, GUIDANCE: words[:MOST_GUIDANCE]}


def guided(request: Json, event: Event, writer: str) -> Json:
    """A chat request with what the writer wrote before and what it is told about it, if it is told anything."""
    asked = note_for(event, writer)
    told = [output.get(GUIDANCE) for output in event.body.outputs.values() if output.get(GUIDES) == writer]
    words = [one for one in told if isinstance(one, str) and one]
    words += [] if asked is None else [f"A reviewer asks you to write it again: {asked[0]}"]
    messages = request.get("messages")
    if not words or not isinstance(messages, list):
        return request
    before = asked[1] if asked is not None else event.body.outputs.get(writer, {}).get("text")
    written = [{"role": "assistant", "content": before}] if isinstance(before, str) and before else []
    return {**request, "messages": [*messages, *written, {"role": "user", "content": "\n\n".join(words)}]}
