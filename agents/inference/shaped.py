"""Answers of a shape, a pydantic model or a JSON schema: how one is asked for, and what is told of another. Pure."""

import re

from pydantic import BaseModel, ValidationError

from callstream.agents.inference.schema import BadSchema, Schema
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.findings import describe

MOST_ANSWER_BYTES = 256 * 1024
MOST_WHY = 1000
Shape = type[BaseModel] | Schema
_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL | re.IGNORECASE)


class UnusableReply(ValueError):
    """The model answered, and not what was asked for. It is asked again, if its step allows."""


def shape_in(output: Json) -> Schema | None:
    """The shape that a prompt asks for: `answer` in the output of its step, with name and schema. Raises BadSchema."""
    asked = output.get("answer")
    if asked is None:
        return None
    if not isinstance(asked, dict) or not isinstance(asked.get("schema"), dict):
        raise BadSchema('"answer" is no object with a schema')
    return Schema(asked["schema"], str(asked.get("name") or "answer"))


def response_format(shape: Shape) -> Json:
    """The member `response_format` of a chat request (OpenAI's structured outputs)."""
    if isinstance(shape, Schema):
        # An endpoint refuses to enforce a schema that lets other members in.
        name, schema, strict = shape.name, shape.given, shape.closed
    else:
        name, schema, strict = shape.__name__, shape.model_json_schema(), True
    name = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": strict}}


def shaped(text: str, shape: Shape) -> Json:
    """The answer's object as the shape has it, in JSON types; a fence around it is taken off. Raises UnusableReply."""
    fenced = _FENCED.match(text)
    try:
        found = strict_json.loads((fenced[1] if fenced else text).encode(), MOST_ANSWER_BYTES)
        if not isinstance(found, dict):
            raise UnusableReply(f"the answer is JSON of type {type(found).__name__}, not an object")
        if isinstance(shape, Schema):
            if wrong := shape.wrong(found):
                raise UnusableReply(f"the answer does not fit: {wrong}"[:MOST_WHY])
            return found
        valid: Json = shape.model_validate(found).model_dump(mode="json")
        return valid
    except strict_json.BadJson as error:
        raise UnusableReply(f"the answer is no JSON: {error}"[:MOST_WHY]) from None
    except ValidationError as error:
        raise UnusableReply(f"the answer does not fit: {describe(error)}"[:MOST_WHY]) from None


def corrected(request: Json, text: str, why: str) -> Json:
    """The request once more, with the answer that could not be used and why."""
    messages = request.get("messages")
    ask = f"That cannot be used: {why}\nAnswer again, with the JSON object alone."
    answered = [{"role": "assistant", "content": text}, {"role": "user", "content": ask}]
    return {**request, "messages": [*messages, *answered]} if isinstance(messages, list) else request
