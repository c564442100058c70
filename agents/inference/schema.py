"""The shape of an answer as a JSON schema that somebody wrote: checked when read, in linear time when used. Pure."""

from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs

from callstream.streams import strict_json
from callstream.streams.event import Json

MOST_SCHEMA_BYTES = 32 * 1024
MOST_FINDINGS = 5
MOST_FINDING = 200
REFERENCES = ('"$ref"', '"$dynamicRef"', '"$recursiveRef"')
"""Parts that stand in for others may multiply within each other; without them the work grows with the text alone."""


class BadSchema(ValueError):
    """The JSON schema cannot be used; the message says why."""


class Schema:
    """A JSON schema of an object (draft 2020-12 unless it names another). Raises BadSchema.

    >>> Schema({"type": "object", "required": ["text"]}).wrong({})
    '"text" is a required property'
    """

    def __init__(self, given: Json, name: str = "answer") -> None:
        self.given, self.name = given, name
        if given.get("type") != "object":
            raise BadSchema('the schema is of an object: type = "object"')
        try:
            raw = strict_json.dumps(given)
        except ValueError as error:
            raise BadSchema(f"the schema is {error}") from None
        if len(raw) > MOST_SCHEMA_BYTES:
            raise BadSchema(f"the schema has {len(raw):,} bytes; at most {MOST_SCHEMA_BYTES:,} are taken")
        if found := [name for name in REFERENCES if name in raw.decode()]:
            raise BadSchema(f"the schema has {found[0]}: write what it refers to in its place")
        self._validator = _validator(raw)

    @property
    def closed(self) -> bool:
        """Whether nothing but its properties may be there, as endpoints ask of a schema that they enforce."""
        return self.given.get("additionalProperties") is False

    def wrong(self, found: Json) -> str:
        """What is wrong with an object, in a line; empty if nothing is."""
        told: list[str] = []
        for error in self._validator.iter_errors(found):
            where = ".".join(map(str, error.instance_path))
            told.append(f"{where}: {error.message}"[:MOST_FINDING] if where else error.message[:MOST_FINDING])
            if len(told) == MOST_FINDINGS:
                break
        return "; ".join(told)


@lru_cache(maxsize=256)
def _validator(raw: bytes) -> Any:
    try:
        return jsonschema_rs.validator_for(
            strict_json.loads(raw, MOST_SCHEMA_BYTES),
            # The engine that runs in linear time, and nothing is fetched.
            pattern_options=jsonschema_rs.RegexOptions(),
            retriever=_refuse,
        )
    except Exception as error:
        raise BadSchema(f"the schema cannot be used: {str(error).partition(chr(10))[0][:MOST_FINDING]}") from None


def _refuse(uri: str) -> NoReturn:
    raise LookupError(f"{uri} is not looked up: write it into the schema")
