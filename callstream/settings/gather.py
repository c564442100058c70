"""What was set, and where: the environment over `callstream.toml`, by key, before anything is validated."""

import json
import os
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from callstream.settings.errors import SettingsError
from callstream.settings.lines import lines_of
from callstream.streams.foreseen import DEBUG

PREFIX = "CALLSTREAM_"
CONFIG = "CALLSTREAM_CONFIG"

API_KEY = "CALLSTREAM_API_KEY"
NOT_SETTINGS = (CONFIG, DEBUG, API_KEY, "CALLSTREAM_REQUIRE_ALL")
TESTS_ONLY = "CALLSTREAM_TEST_"
DEFAULT_FILE = "callstream.toml"
MOST_BYTES = 1024 * 1024
NEVER_IN_A_FILE = "api_key"

Path_ = tuple[str | int, ...]
Values = dict[Any, Any]


@dataclass(frozen=True)
class Gathered:
    """What was set, as nested values, and the origin of each path: `env NAME` or `FILE:LINE`."""

    values: dict[str, Any]
    origins: dict[Path_, str] = field(default_factory=dict)

    def origin(self, path: Path_) -> str | None:
        """Where that key or the nearest one above it was set, or else what is inside it; None for a default."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        inside = [origin for known, origin in self.origins.items() if path and known[: len(path)] == path]
        return ", ".join(list(dict.fromkeys(inside))[:3]) or None


def gather(model: type[BaseModel], environment: Mapping[str, str], folder: Path) -> Gathered:
    """Everything that is set, unvalidated.

    Raises SettingsError for a file that cannot be read or holds a key, and for values that cannot be parsed.
    """
    origins: dict[Path_, str] = {}
    values: Values = {}
    path, text = _file(environment, folder)
    if path is not None:
        shown = path.name if path.parent == folder else str(path)
        values = _parsed(text, shown)
        for key, line in lines_of(text).items():
            origins[key] = f"{shown}:{line}"
        _fill(values, (), shown, origins)
    problems = [
        f"{'.'.join(map(str, key))} ({origins[key]}): a key is never kept with the settings. Set "
        f"{environment_name(key)}, or put it into a file of its own and name that with {NEVER_IN_A_FILE}_file; "
        "then replace it by a new one wherever this file was shared"
        for key in _kept_keys(model, values, ())
    ]
    for name in sorted(environment):
        if not _is_setting(name):
            continue
        key = _path(model, name)
        if environment[name] == "" and not _is_key(model, key):
            continue
        value = None
        try:
            value = _read(annotation_at(model, key), environment[name])
            _place(values, key, value)
        except ValueError as error:
            problems.append(f"{'.'.join(map(str, key))} (env {name}): {error}")
        origins = {known: origin for known, origin in origins.items() if known[: len(key)] != key}
        origins[key] = f"env {name}"
        _fill(value, key, name, origins)
    if problems:
        raise SettingsError(problems)
    return Gathered(_listed(values), origins)


def annotation_at(model: Any, path: Path_) -> Any:
    """The type that the models give the value at a path, or None where they have no such key."""
    found = bare(model)
    for part in path:
        origin, arguments = get_origin(found), get_args(found)
        if isinstance(found, type) and issubclass(found, BaseModel):
            known = found.model_fields.get(str(part))
            found = known.annotation if known else None
        elif origin is dict:
            found = arguments[1]
        elif origin in (tuple, list) and isinstance(part, int):
            found = arguments[0]
        else:
            return None
        found = bare(found)
    return found


def bare(annotation: Any) -> Any:
    """A type without its metadata and its `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            others = [kind for kind in get_args(annotation) if kind is not type(None)]
            if len(others) != 1:
                return annotation
            annotation = others[0]
        else:
            return annotation


def environment_name(path: Path_) -> str:
    """The environment variable that sets a key."""
    return PREFIX + "__".join(str(part).replace("-", "_").upper() for part in path)


def _is_setting(name: str) -> bool:
    return name.startswith(PREFIX) and name not in NOT_SETTINGS and not name.startswith(TESTS_ONLY)


def _file(environment: Mapping[str, str], folder: Path) -> tuple[Path | None, str]:
    named = environment.get(CONFIG, "")
    path = folder / (named or DEFAULT_FILE)
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        if not named:
            return None, ""
        raise SettingsError([f"{CONFIG}={named}: there is no such file"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    if len(raw) > MOST_BYTES:
        raise SettingsError([f"{path}: more than {MOST_BYTES:,} bytes"])
    try:
        return path, raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: not UTF-8 at byte {error.start}"]) from None


def _parsed(text: str, shown: str) -> Values:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError([f"{shown}: not TOML: {error or 'nested too deep'}"]) from None


def _fill(value: Any, path: Path_, shown: str, origins: dict[Path_, str]) -> None:
    """An origin for each leaf that the line finder did not see, such as inside an inline table."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        inner = (*path, key)
        if inner not in origins:
            above = next((origins[inner[:end]] for end in range(len(path), 0, -1) if inner[:end] in origins), shown)
            origins[inner] = above
        _fill(member, inner, shown, origins)


def _kept_keys(model: type[BaseModel], value: Any, path: Path_) -> Iterator[Path_]:
    """Where a file holds the key of a model endpoint."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        inner = (*path, key)
        if _is_key(model, inner):
            yield inner
        yield from _kept_keys(model, member, inner)


def _is_key(model: type[BaseModel], path: Path_) -> bool:
    """Whether that is the key of a model endpoint. A variable that leaves it empty would have all calls refused."""
    return path[-1] == NEVER_IN_A_FILE and annotation_at(model, path) is SecretStr


def _path(model: type[BaseModel], name: str) -> Path_:
    """`CALLSTREAM_A__B__0__C` as a path; names in a dict have dashes where the variable has underscores."""
    path: Path_ = ()
    for part in name.removeprefix(PREFIX).lower().split("__"):
        above = get_origin(annotation_at(model, path))
        if above in (tuple, list) and part.isdecimal() and len(part) <= 4:
            path = (*path, int(part))
        else:
            path = (*path, part.replace("_", "-") if above is dict else part)
    return path


def _read(annotation: Any, text: str) -> Any:
    """A variable's text: JSON for what has parts (a list of texts may also be comma-separated), else the text."""
    is_list = get_origin(annotation) in (tuple, list)
    has_parts = is_list or get_origin(annotation) is dict
    if not has_parts and not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return text
    if is_list and bare(get_args(annotation)[0]) in (str, Path) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "not readable"
        raise ValueError(f"takes JSON, and this is none: {reason}") from None


def _place(values: Values, path: Path_, value: Any) -> None:
    """Put a value at a path. A list on the way becomes a dict by index, and `_listed` makes it one again."""
    here = values
    for part in path[:-1]:
        inner = here.get(part)
        if isinstance(inner, list):
            inner = dict(enumerate(inner))
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise ValueError(f"{part!r} has no members")
        here[part] = inner
        here = inner
    below = here.get(path[-1])
    here[path[-1]] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value


def _listed(value: Any, name: str = "") -> Any:
    if isinstance(value, list):
        return [_listed(member, f"{name}.{index}") for index, member in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(key, int) for key in value):
        if sorted(value) != list(range(len(value))):
            told = f"a list is set by its indexes {sorted(value)}: they must go 0, 1, 2 without a gap"
            raise SettingsError([f"{name.removeprefix('.')}: {told}"])
        return [_listed(value[index], f"{name}.{index}") for index in sorted(value)]
    return {key: _listed(member, f"{name}.{key}") for key, member in value.items()}


def here() -> tuple[Mapping[str, str], Path]:
    """This process's environment and working folder."""
    return os.environ, Path.cwd()
