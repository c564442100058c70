"""What a terminal shows anew every few seconds, until Ctrl-C."""

import asyncio
from collections.abc import Awaitable, Callable

from rich.console import RenderableType
from rich.live import Live

from callstream.cli.console import Console


async def keep_showing(draw: Callable[[], Awaitable[RenderableType]], every: float) -> None:
    """Show what `draw` gives, and again after so many seconds."""
    with Live(await draw(), console=Console()) as live:
        while True:
            await asyncio.sleep(every)
            live.update(await draw())
