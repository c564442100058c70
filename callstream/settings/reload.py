"""Settings read again while a worker runs: what concerns models changes at once, all else needs a restart."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from callstream.agents.inference.options import InferenceOptions
from callstream.settings.errors import SettingsError
from callstream.settings.explain import dotted
from callstream.settings.gather import Path_
from callstream.settings.model import Settings, load

CHANGEABLE = "inference"
MOST_NAMED = 50
PROBLEM_CHARS = 2000

Changed = Callable[[InferenceOptions], None]
Secrets = dict[Path_, dict[str, str]]


class Reloaded(BaseModel):
    """What came of reading the settings again: names of settings, never their values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changed: tuple[str, ...] = Field(default=(), description="Settings that are in force now and were others before.")
    needs_restart: tuple[str, ...] = Field(default=(), description="Settings that differ from those in force.")
    problems: tuple[str, ...] = Field(default=(), description="Why nothing was changed; empty where all went well.")

    def __str__(self) -> str:
        """One line."""
        if self.problems:
            return f"nothing was changed: {'; '.join(self.problems)}"
        parts = [f"changed: {_listed(self.changed)}" if self.changed else "nothing was changed"]
        parts += [f"needs a restart: {_listed(self.needs_restart)}"] if self.needs_restart else []
        return "; ".join(parts)


class Reloader:
    """Reads the settings of a running process again.

    `settings` are those in force. `on_change` are called, in their order, with the new options of models whenever they
    differ, or what their key files hold does. One that raises has changed nothing: the others are then called again
    with the former options, which stay in force.
    """

    def __init__(
        self, settings: Settings, on_change: Iterable[Changed] = (), read: Callable[[], Settings] = load
    ) -> None:
        """Raises UnusableSecret, as the model's client does."""
        self.settings = settings
        self.on_change = list(on_change)
        self._read = read
        self._secrets = _secrets(settings.inference)

    async def reload(self) -> Reloaded:
        """Read all again and change what may change, or nothing at all. One at a time; never raises."""
        try:
            # Not in the loop: a file may be as long as a mebibyte.
            settings, secrets = await asyncio.to_thread(self._read_all)
            return self._take(settings, secrets)
        except SettingsError as error:
            return _refused(error.problems)
        except Exception as error:
            return _refused([str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"])

    def _read_all(self) -> tuple[Settings, Secrets]:
        settings = self._read()
        return settings, _secrets(settings.inference)

    def _take(self, settings: Settings, secrets: Secrets) -> Reloaded:
        names = [*differing(self.settings, settings)]
        changed = [name for name in names if name[0] == CHANGEABLE]
        changed += [(*place, "api_key_file") for place, held in secrets.items() if self._is_new_key(place, held)]
        if changed:
            self._tell(settings.inference)
        self.settings = self.settings.model_copy(update={CHANGEABLE: settings.inference})
        self._secrets = secrets
        return Reloaded(
            changed=tuple(dict.fromkeys(map(dotted, changed))),
            needs_restart=tuple(dotted(name) for name in names if name[0] != CHANGEABLE),
        )

    def _is_new_key(self, place: Path_, held: dict[str, str]) -> bool:
        """Whether another key is held by what may be the same file."""
        return place in self._secrets and self._secrets[place] != held

    def _tell(self, options: InferenceOptions) -> None:
        for told, change in enumerate(self.on_change):
            try:
                change(options)
            except Exception:
                for earlier in self.on_change[:told]:
                    earlier(self.settings.inference)
                raise


def differing(before: Any, after: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The paths at which two settings differ; of what only one of them has, the topmost."""
    if before == after:
        return
    mine, other = _members(before), _members(after)
    if mine is None or other is None or type(before) is not type(after):
        yield path
        return
    for name in dict.fromkeys([*mine, *other]):
        if name in mine and name in other:
            yield from differing(mine[name], other[name], (*path, name))
        else:
            yield (*path, name)


def _members(value: Any) -> dict[Any, Any] | None:
    """What a value consists of, by name or index; None for one without parts that have names."""
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, tuple) and any(isinstance(member, BaseModel) for member in value):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else None


def _secrets(options: InferenceOptions) -> Secrets:
    """What the key files hold now, by endpoint. Looks at every other secret too. Raises UnusableSecret."""
    found: Secrets = {}
    for pool, its in options.pools.items():
        for number, endpoint in enumerate(its.endpoints):
            held = endpoint.secret_headers()
            if endpoint.api_key_file is not None:
                found[CHANGEABLE, "pools", pool, "endpoints", number] = held
    return found


def _refused(problems: Iterable[str]) -> Reloaded:
    told = [" ".join(problem.split())[:PROBLEM_CHARS] for problem in problems]
    return Reloaded(problems=tuple(told[:MOST_NAMED]))


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
