"""The step that completes a task with what is known about its user."""

from typing import ClassVar

from callstream.agents.tools import Tools
from callstream.streams.chain import Cell, Step
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome


class Profile(Step):
    """Output: `user` and `profile`, the user's row of the table `profiles` or an empty object.

    `field` is the member of the input that names the user; a task without one goes on without a profile.
    """

    service: ClassVar[str] = "prepare"
    harmless: ClassVar[bool] = True

    def __init__(self, name: str = "profile", field: str = "user") -> None:
        self.name = name
        self.field = field
        self._tools: Tools | None = None

    async def open(self, tools: Tools) -> None:
        """Keep the look-up."""
        self._tools = tools

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Look the user up; an unknown one is only noted."""
        if self._tools is None:
            raise RuntimeError(f"step {self.name} acts before it was opened")
        user = event.input.get(self.field)
        if not user:
            return Forward({"user": None, "profile": {}}, notes=("no user",))
        profile = self._tools.profile(event.tenant, user)
        notes = () if profile is not None else ("no profile",)
        return Forward({"user": user, "profile": profile or {}}, notes=notes)
