"""`callstream match …`: an index of items by their meaning, made and asked through a chain that embeds texts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from callstream.cli.client import Api, ask
from callstream.cli.errors import CliError
from callstream.cli.follow import Sent, Tally, summary, until_settled
from callstream.cli.orders import Line, Order
from callstream.cli.pace import for_each
from callstream.cli.sending import HttpSender
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson

app = typer.Typer(help="Nearest items by meaning: make an index, look into it.", no_args_is_help=True)
TEXTS_AT_ONCE = 8
TASKS_AT_ONCE = 16
MOST_SHOWN = 200
MOST_LINE_BYTES = 16 * 1024
MOST_FILE_BYTES = 256 * 1024 * 1024
PATIENCE_SECONDS = 600.0
Url = Annotated[str | None, typer.Option(help="Base URL of a gateway.")]
Chain = Annotated[str, typer.Option(help="The chain that embeds texts (`embedding_chain`).")]
Run = Annotated[str, typer.Option(help="Another name has everything embedded anew, and paid anew.")]


@app.command()
def index(
    items: Annotated[Path, typer.Argument(help="Items, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="The index to write, an .npz file.")],
    member: Annotated[str, typer.Option(help="The member of an item whose text is compared.")] = "text",
    chain: Chain = "embed",
    run: Run = "1",
    url: Url = None,
) -> None:
    """Make an index of items. Run again after an interruption it pays for what is missing alone."""
    from callstream.agents.matching import BadIndex, build, write

    found = read_items(items, member)
    texts = [str(item[member]) for item in found]
    try:
        vectors, model = ask(url, lambda api: embedded(api, chain, run, texts))
        write(build(found, vectors, model), out)
    except BadIndex as error:
        raise CliError(f"{items}: {error}") from None
    except OSError as error:
        raise CliError(f"{out}: cannot be written: {error.strerror or error}") from None
    typer.echo(f"{out}: {len(found):,} items, vectors of {len(vectors[0]):,} numbers by {model or 'a model unnamed'}")


@app.command()
def find(
    index: Annotated[Path, typer.Argument(help="An index, an .npz file.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    most: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 5,
    chain: Chain = "embed",
    run: Run = "1",
    url: Url = None,
) -> None:
    """Show the items that lie nearest to a text, with their cosines."""
    from callstream.agents.matching import BadIndex, read

    if not text.strip():
        raise CliError("the text is empty")
    try:
        known = read(index)
        [vector], model = ask(url, lambda api: embedded(api, chain, run, [text]))
        if model != known.model:
            raise BadIndex(f"{index} was made with the model {known.model!r}, and {model!r} has answered")
        for place, score in known.nearest(vector, most, -1.0):
            typer.echo(f"{score:6.3f}  {strict_json.dumps(known.items[place]).decode()[:MOST_SHOWN]}")
    except BadIndex as error:
        raise CliError(str(error)) from None


def read_items(path: Path, member: str) -> list[Json]:
    """The items of a file. Raises CliError naming the line that is none."""
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise CliError(f"{path}: larger than {MOST_FILE_BYTES:,} bytes")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror or error}") from None
    found = [_item(f"{path}:{number}", raw, member) for number, raw in enumerate(lines, start=1) if raw.strip()]
    if not found:
        raise CliError(f"{path}: no items in it")
    return found


def _item(where: str, raw: bytes, member: str) -> Json:
    try:
        item = strict_json.loads(raw, MOST_LINE_BYTES)
    except BadJson as error:
        raise CliError(f"{where}: {error}") from None
    if not isinstance(item, dict):
        raise CliError(f"{where}: not a JSON object")
    text = item.get(member)
    if not isinstance(text, str) or not text.strip():
        raise CliError(f"{where}: {member!r} must be a text; --member names another")
    return item


async def embedded(api: Api, chain: str, run: str, texts: Sequence[str]) -> tuple[list[list[float]], str]:
    """The vectors of texts, and the model that made them, by tasks whose ids say what they embed. Raises CliError."""
    sender, vectors, models = HttpSender(api), list[list[float]](), dict[str, str]()
    parts = [texts[place : place + TEXTS_AT_ONCE] for place in range(0, len(texts), TEXTS_AT_ONCE)]
    orders = [_order(chain, run, number, some) for number, some in enumerate(parts, start=1)]
    sent: list[Sent] = []

    async def send(order: Order) -> None:
        sent.append(Sent(order, await sender.send(order)))

    async def follow(one: Sent) -> None:
        await until_settled(api, one, PATIENCE_SECONDS)

    await for_each(orders, send, TASKS_AT_ONCE)
    await for_each(list(sent), follow, TASKS_AT_ONCE)
    for one in sorted(sent, key=lambda one: one.order.number):
        if one.state != "finished" or one.row is None:
            raise CliError("\n".join(summary(Tally([one]))))
        vectors += one.row["result"]["embeddings"]
        models[str(one.row["result"]["model"])] = one.task
    if len(models) > 1:
        told = ", ".join(f"{model!r} ({task})" for model, task in models.items())
        raise CliError(f"several models have answered: {told}; name another --run to have all embedded by one")
    return vectors, next(iter(models))


def _order(chain: str, run: str, number: int, texts: Sequence[str]) -> Order:
    named = hashlib.sha256(strict_json.dumps([chain, run, list(texts)])).hexdigest()[:32]
    return Order(Line(chain=chain, id=f"embed-{named}", input={"texts": list(texts)}), number)
