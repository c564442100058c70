"""Errors of settings: each names the key, where it was set, its value (secrets masked) and what is allowed."""

from collections.abc import Iterable

from callstream.streams.foreseen import Foreseen


class SettingsError(Foreseen, ValueError):
    """What is wrong with the settings, one sentence a problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("settings: " + "\n          ".join(self.problems))
