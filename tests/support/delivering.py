"""As much of a worker as steps of delivery take."""

from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery.sinks import Sinks


class Tools:
    """As much of the worker's tools as delivery takes."""

    def __init__(self, database: AsyncEngine) -> None:
        self.database = database
        self.sinks = Sinks()


class NoCell:
    """Delivery keeps nothing about a task."""

    value = None

    async def save(self, value: object) -> None:
        """Raises AssertionError."""
        raise AssertionError("delivery keeps nothing")
