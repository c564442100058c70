"""Settings in words: what is wrong with them, and what is in force and why."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from callstream.settings.gather import Gathered, Path_, annotation_at, environment_name
from callstream.streams.logs import MASK, redact

SECRET_NAME = re.compile(r"(?i)key(?!_file$)|secret|password|passwd|token(?!s_)|credential|authorization")
SHOWN_CHARS = 80


@dataclass(frozen=True)
class Setting:
    """One setting in force: its dotted key, its value (secrets masked), where it came from, how to set it."""

    key: str
    value: str
    origin: str
    variable: str


def problems(model: type[BaseModel], error: ValidationError, gathered: Gathered) -> list[str]:
    """Each validation error as one sentence."""
    details = error.errors(include_url=False)[:50]
    paths = [detail["loc"] for detail in details]
    return [
        _problem(model, detail, gathered)
        for detail in details
        # Pydantic counts the members that are right: a list whose only one is wrong is not empty for that.
        if detail["type"] != "too_short" or not any(path[:-1][: len(detail["loc"])] == detail["loc"] for path in paths)
    ]


def settings_in_force(settings: BaseModel, gathered: Gathered) -> tuple[Setting, ...]:
    """Every leaf of the settings, in the order of the models."""
    return tuple(
        Setting(dotted(path), _value(value), gathered.origins.get(path, "default"), environment_name(path))
        for path, value in _leaves(settings, ())
    )


def dotted(path: Path_) -> str:
    """A path as people write it: web.api_keys.0.tenant."""
    return ".".join(str(part) for part in path)


def _problem(model: type[BaseModel], detail: ErrorDetails, gathered: Gathered) -> str:
    path: Path_ = tuple(part for part in detail["loc"] if part != "[key]")
    origin = gathered.origin(path)
    where = f" ({origin})" if origin else ""
    if detail["type"] == "extra_forbidden":
        close, allowed = _instead(model, path)
        given = _given(model, (*path[:-1], close) if close and SECRET_NAME.search(close) else path, detail)
        return f"{dotted(path)}{given}{where}: there is no such setting{allowed}"
    if detail["type"] == "missing":
        return f"{dotted(path)}{where}: must be set"
    message = detail["msg"].removeprefix("Value error, ")
    table = annotation_at(model, path)
    if detail["type"] == "model_type" and isinstance(table, type) and issubclass(table, BaseModel):
        message = f"must be a table with some of {', '.join(table.model_fields)}"
    if detail["loc"][-1:] == ("[key]",):
        message = re.sub(r"^(Input|String) should", f"the name {str(path[-1])[:SHOWN_CHARS]!r} should", message)
        detail = {**detail, "input": _set_at(gathered.values, path)}
    return f"{dotted(path) or 'together'}{_given(model, path, detail)}{where}: {message[:1].lower()}{message[1:]}"


def _instead(model: type[BaseModel], path: Path_) -> tuple[str, str]:
    """The name that was probably meant, or none, and what may stand there in words."""
    above = annotation_at(model, path[:-1])
    if not (isinstance(above, type) and issubclass(above, BaseModel)):
        return "", ""
    names = list(above.model_fields)
    close = next(iter(difflib.get_close_matches(str(path[-1]), names, 1)), "")
    meant = f"; did you mean {dotted((*path[:-1], close))}?" if close else ";"
    return close, f"{meant} Allowed: {', '.join(names)}"


def _set_at(values: Any, path: Path_) -> Any:
    """What was set at a path of which a name is wrong."""
    for part in path:
        values = values[part]
    return values


def _given(model: type[BaseModel], path: Path_, detail: ErrorDetails) -> str:
    """` = value`, or nothing for a value that has parts: those may hold secrets, and the parts are named anyway."""
    value = detail["input"]
    if isinstance(value, dict | list | tuple | BaseModel):
        return ""
    return f" = {MASK if _is_secret(model, path) else _short(value)}"


def _is_secret(model: type[BaseModel], path: Path_) -> bool:
    return annotation_at(model, path) is SecretStr or any(
        SECRET_NAME.search(str(part)) and not str(part).endswith(("_tokens", "_chars")) for part in path
    )


def _leaves(value: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), (*path, name))
    elif isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(member, (*path, str(key)))
    elif isinstance(value, tuple | list) and any(isinstance(member, BaseModel) for member in value):
        for index, member in enumerate(value):
            yield from _leaves(member, (*path, index))
    else:
        yield path, value


def _value(value: Any) -> str:
    if isinstance(value, SecretStr):
        return MASK
    if value is None:
        return "-"
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, tuple | list | dict):
        return redact(json.dumps(value, default=str, ensure_ascii=False))[:500]
    if isinstance(value, bool):
        return str(value).lower()
    return redact(str(value))[:500]


def _short(value: object) -> str:
    text = redact(value if isinstance(value, str) else str(value))
    text = text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"
    return repr(text) if isinstance(value, str) else text
