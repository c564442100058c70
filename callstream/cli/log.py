"""`callstream log ID`: a whole task as a readable story."""

import asyncio
from typing import Annotated

import typer

from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.client import Api, api_of
from callstream.cli.comparing import Side
from callstream.cli.errors import CliError
from callstream.cli.recorded import row_of, side_of
from callstream.cli.review import plain
from callstream.cli.story import mask_of, story
from callstream.settings import load
from callstream.streams.blobs import BlobStore
from callstream.streams.replay.recorded import Topics


def log(
    task: Annotated[str, typer.Argument(metavar="ID", help="Id of the task.")],
    unmasked: Annotated[bool, typer.Option("--unmasked", help="With personal data and what looks like a key.")] = False,
    region: Annotated[
        list[str] | None, typer.Option(help="Whose telephone numbers are masked without a prefix, too (CN, DE).")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
    broker: Annotated[str | None, typer.Option(help="HOST:PORT of the broker.")] = None,
) -> None:
    """Tell a task as a story. Input, prompts, answers, tokens, remarks, end; personal data are masked."""
    try:
        mask = str if unmasked else mask_of(tuple(region or ("CN",)))
    except ValueError:
        raise CliError(f"--region {', '.join(region or ())}: a region of ISO 3166 such as CN or DE is meant") from None
    settings = load()
    side = asyncio.run(_side(api_of(settings, url), bootstrap_of(settings, broker), BlobStore(settings.blobs), task))
    for line in story(side, mask):
        typer.echo(plain(line))


async def _side(api: Api, bootstrap: str, blobs: BlobStore, task: str) -> Side:
    async with api:
        row = await row_of(api, task)
    async with Topics(bootstrap) as topics:
        return await side_of(topics, blobs, row)
