"""`callstream tail`: tasks as they end, from the gateway's stream."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from callstream.cli.client import Api, ApiError, api_of
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.follow import SETTLED
from callstream.cli.status import COLOURS, duration
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json

Show = Callable[[Json], bool]

COME_BACK_SECONDS = 1.0
MOST_SILENT_TRIES = 30


def tail(
    chain: Annotated[list[str] | None, typer.Option(help="Only of this chain; may be given again.")] = None,
    every_change: Annotated[bool, typer.Option("--all", help="Every change, not only ends and holds.")] = False,
    count: Annotated[int | None, typer.Option(help="End after so many lines.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON row a line.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Follow tasks as they end, until Ctrl-C."""
    console = Console(soft_wrap=True)
    lines = 0

    def show(row: Json) -> bool:
        nonlocal lines
        if every_change or row["state"] in SETTLED:
            lines += 1
            if as_json:
                typer.echo(strict_json.dumps(row).decode())
            else:
                console.print(line(row), highlight=False)
        return count is None or lines < count

    asyncio.run(Tail(api_of(load(), url), chain or ()).run(show))


class Tail:
    """A stream of updates that comes back with its last cursor when the gateway closes it."""

    def __init__(self, api: Api, chains: Sequence[str]) -> None:
        self._api = api
        self._chains = tuple(chains)
        self._cursor: str | None = None

    async def run(self, show: Show) -> None:
        """Hand every updated row to `show` until it returns False. Raises CliError for what coming again won't mend."""
        tries = 0
        async with self._api:
            self._chains = self._chains or tuple(sorted({chain["name"] for chain in await self._api.chains()}))
            while True:
                try:
                    async for message in self._api.messages(self._asks()):
                        tries = 0
                        if not self._take(message, show):
                            return
                except ApiError as error:
                    tries += 1
                    if error.status not in (0, 503) or tries >= MOST_SILENT_TRIES:
                        raise
                await asyncio.sleep(COME_BACK_SECONDS)

    def _asks(self) -> list[Json]:
        after = {} if self._cursor is None else {"after": self._cursor}
        return [{"subscribe": {"chain": chain}, **after} for chain in self._chains]

    def _take(self, message: Json, show: Show) -> bool:
        if error := message.get("error"):
            raise CliError(f"{error.get('title')}: {error.get('detail')}")
        update = message.get("update")
        self._cursor = (update or message).get("cursor", self._cursor)
        return show(update["row"]) if update else True


def line(row: Json) -> str:
    """One task in one line: when, state, id, chain, how long it took, why."""
    colour = COLOURS.get(row["state"], "cyan")
    moment = datetime.fromtimestamp(row["updated"]).strftime("%H:%M:%S")
    why = (row.get("failure") or {}).get("message") or row.get("held") or ""
    took = duration(max(0.0, row["updated"] - row["created"]))
    text = f"{moment} [{colour}]{escape(row['state']):<8}[/] {escape(row['id'])} {escape(row['chain'])} {took}"
    return text + (f" [dim]{escape(' '.join(why.split())[:200])}[/]" if why else "")
