"""An answer that fits a JSON schema, the same for the same text and seed: `response_format` of a chat request. Pure.

Of the values allowed (`enum`) it takes one whose words the text has, else any; a string is what the text has behind
`name:` in a line, else the text. What pydantic writes for plain models
is understood: objects, arrays, enums, constants, numbers, strings, booleans, null, `anyOf`, `$ref` into `$defs`.
"""

import re
from collections.abc import Callable, Mapping

from callstream.stub.chance import pick, uniform
from callstream.stub.errors import bad_request
from callstream.stub.prompt import field_lines
from callstream.stub.work import Json

MOST_DEPTH = 16
_WORDS = re.compile(r"[^\W_]+")


def schema_of(response_format: object) -> Json | None:
    """The schema that an answer is to fit; None where none is asked for. Raises ApiError 400."""
    if not isinstance(response_format, Mapping) or response_format.get("type") != "json_schema":
        return None
    asked = response_format.get("json_schema")
    schema = asked.get("schema") if isinstance(asked, Mapping) else None
    if not isinstance(schema, dict):
        raise bad_request("response_format.json_schema.schema must be an object")
    return schema


def shaped(schema: Json, text: str, seed: int, put: Callable[[str], str] = str) -> object:
    """The answer; its strings are of the text, as `put` puts them. Raises ApiError 400 for a schema not understood."""
    return _Filler(schema, text, seed, put).value(schema, "", 0)


class _Filler:
    def __init__(self, schema: Json, text: str, seed: int, put: Callable[[str], str]) -> None:
        self._defs = schema.get("$defs")
        self._text, self._seed, self._put = text, seed, put
        self._lines = field_lines(text)
        self._words = set(_WORDS.findall(text.lower()))

    def value(self, schema: object, place: str, depth: int) -> object:
        if not isinstance(schema, Mapping) or depth > MOST_DEPTH:
            raise bad_request(f"response_format: the schema at {place or 'its top'} is not understood")
        if "$ref" in schema:
            name = str(schema["$ref"]).removeprefix("#/$defs/")
            return self.value(self._defs.get(name) if isinstance(self._defs, Mapping) else None, place, depth + 1)
        if "const" in schema:
            return schema["const"]
        for several in ("enum", "anyOf"):
            options = schema.get(several)
            if isinstance(options, list) and options:
                return self._one_of(options, place) if several == "enum" else self.value(options[0], place, depth + 1)
        return self._of_type(schema, place, depth)

    def _one_of(self, options: list[object], place: str) -> object:
        named = [
            one for one in options if isinstance(one, str) and self._words.intersection(_WORDS.findall(one.lower()))
        ]
        told = named or options
        return told[pick(len(told), self._seed, self._text, place)]

    def _of_type(self, schema: Mapping[str, object], place: str, depth: int) -> object:
        match schema.get("type"):
            case "object":
                members = schema.get("properties")
                named = members if isinstance(members, Mapping) else {}
                return {name: self.value(one, f"{place}/{name}", depth + 1) for name, one in named.items()}
            case "array":
                count = _number(schema.get("minItems"), 0)
                return [self.value(schema.get("items"), f"{place}/{n}", depth + 1) for n in range(min(int(count), 20))]
            case "integer" | "number" as kind:
                low, high = _number(schema.get("minimum"), 0), _number(schema.get("maximum"), 100)
                found = low + (high - low) * uniform(self._seed, self._text, place)
                return round(found) if kind == "integer" else round(found, 3)
            case "boolean":
                return uniform(self._seed, self._text, place) < 0.5
            case "string":
                most = int(_number(schema.get("maxLength"), 200))
                said = self._lines.get(place.rpartition("/")[2].lower(), self._text)
                return " ".join(self._put(said).split())[:most] or "x"
            case "null":
                return None
        raise bad_request(f"response_format: the schema at {place or 'its top'} is not understood")


def _number(found: object, otherwise: float) -> float:
    return found if isinstance(found, int | float) and not isinstance(found, bool) else otherwise
