"""What a step may use: handed to `Step.open` once in each worker, so that steps build nothing shared by themselves."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery.sinks import Sinks
from callstream.agents.inference.call import Model
from callstream.streams.event import Json

Result = TypeVar("Result")


class Blobs(Protocol):
    """Bytes too large for an event, named by the SHA-256 of what they hold."""

    async def put(self, data: bytes) -> str:
        """Keep the bytes and give their reference, `blob:` and 64 hex digits. Raises BlobTooLarge."""

    async def get(self, reference: str) -> bytes:
        """The bytes behind a reference. Raises BlobMissing."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The worker's shared parts.

    `model` is the composed stack of inference layers, `database` the catalogue's engine, `workers` an executor of
    processes, `profile(tenant, user)` looks up a user's profile (None when unknown), `sinks` are the stores of the
    settings.
    """

    model: Model
    blobs: Blobs
    database: AsyncEngine
    workers: Executor
    profile: Callable[[str, str], Json | None]
    sinks: Sinks = field(default_factory=Sinks)

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a CPU-heavy function of an importable module in the process pool, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, function, *args)


def no_profile(_tenant: str, _user: str) -> Json | None:
    """Where nothing is known about users."""
    return None
