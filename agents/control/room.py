"""The control room of one process: it hears every command from the first on, and tells those who have to obey."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from callstream.agents.control.commands import AnyCommand, BadCommand
from callstream.agents.control.controls import Controls, TooMany

log = logging.getLogger("callstream.control")

Follow = Callable[[Callable[[str, bytes | None], None], Callable[[], None]], Awaitable[None]]
"""Reads the topic of commands for ever; `callstream.streams.broadcast.hear_all` on Kafka."""
HEARD_SECONDS = 5.0


class ControlRoom:
    """The commands in force, as this process has heard them. `on_change` are called, soon and once, after changes."""

    def __init__(self) -> None:
        self.controls = Controls()
        self.on_change: list[Callable[[], None]] = []
        self._caught_up = asyncio.Event()
        self._following: asyncio.Future[None] | None = None
        self._telling = False
        self._changed = asyncio.Event()

    async def open(self, follow: Follow, failed: Callable[[BaseException], None]) -> None:
        """Begin to hear; `failed` is told if that ends by itself, since nobody would obey any more."""
        self._following = asyncio.ensure_future(follow(self.hear, self._caught_up.set))
        self._following.add_done_callback(
            lambda done: None if done.cancelled() else failed(done.exception() or RuntimeError("commands ended"))
        )

    async def close(self) -> None:
        """Hear no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    async def caught_up(self) -> None:
        """Wait until every command has been heard that was given before this process began."""
        await self._caught_up.wait()

    def hear(self, key: str, value: bytes | None) -> None:
        """Take one record in. What is no command is ignored."""
        try:
            self.controls.hear(key, value)
        except (BadCommand, TooMany) as error:
            log.error("a command is ignored: %s", error)
            return
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    async def heard(self, command: AnyCommand) -> None:
        """Wait until this process obeys a command that is on the log, for a short time at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS):
                while not self.controls.has(command):
                    await self._changed.wait()

    def _tell(self) -> None:
        self._telling = False
        self._changed.set()
        self._changed = asyncio.Event()
        for tell in self.on_change:
            tell()
