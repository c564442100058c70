"""Roles of the services that no chain names: review and notify."""

from callstream.agents.ports import Policy
from callstream.streams.chain import Act, Attempts, Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Outcome


class ActRole:
    """A service that is one function: no chain decides what it does with an event."""

    def __init__(self, service: str, act: Act, stateful: bool, policy: Policy | None = None) -> None:
        self._service = service
        self._act = act
        self._stateful = stateful
        self._policy = policy or Policy(step=service, attempts=Attempts())

    @property
    def service(self) -> str:
        """Its name."""
        return self._service

    @property
    def stateful(self) -> bool:
        """Whether it keeps a row for each task."""
        return self._stateful

    def policy(self, event: Event) -> Policy:
        """The same for every event."""
        return self._policy

    async def act(self, event: Event, state: Cell) -> Outcome:
        """What the function says."""
        return await self._act(event, state)
