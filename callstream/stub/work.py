"""A request understood, with the answer it is going to get. Pure.

The answer is made before the call is admitted: it depends on nothing but the request and the seed, and so its exact
tokens can be held against the limit of a minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Json = dict[str, object]


@dataclass(frozen=True)
class Work:
    """What a call asks for. `identity` is its task where no header names one; `directives` are its `stub-…` lines."""

    identity: str
    model: str
    answer: Json
    tokens: int
    text: str | None = None
    stream: bool = False
    include_usage: bool = False
    directives: Mapping[str, str] = field(default_factory=dict)

    def without_usage(self) -> Json:
        """The answer with no `usage`."""
        return {name: value for name, value in self.answer.items() if name != "usage"}
