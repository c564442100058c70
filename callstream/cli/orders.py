"""Files of tasks: JSON lines as in `examples/product-copy/products.jsonl`, each checked before any is sent."""

import itertools
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from callstream.cli.errors import CliError
from callstream.streams import strict_json
from callstream.streams.event import Json, Priority, Strict
from callstream.streams.findings import describe
from callstream.streams.keys import GivenId, Name
from callstream.streams.strict_json import BadJson

MOST_LINE_BYTES = 1024 * 1024
MOST_LINES = 1_000_000
PICTURE = "photo"


class Line(Strict):
    """One task of a file. `expect` is how it should end, and what else is checked about it."""

    chain: Name
    input: Json
    id: GivenId | None = None
    priority: Priority = Priority.NORMAL
    deadline: float | str | None = None
    run_at: str | None = None
    delay_seconds: float | None = None
    callback: str | None = None
    expect: Annotated[Mapping[str, Any], Field(max_length=32)] = {}


@dataclass(frozen=True)
class Order:
    """One task to be sent: its line, the picture that goes before it, and what makes a repeat recognisable."""

    line: Line
    number: int
    picture: Path | None = None
    idempotency_key: str | None = None

    @property
    def expected(self) -> str:
        """The state that it should come to; finished where the line says nothing."""
        return str(self.line.expect.get("end", "finished"))

    def body(self, reference: str | None = None) -> Json:
        """What POST /v1/tasks takes; `reference` stands for the picture."""
        given = self.line.model_dump(mode="json", exclude={"expect"}, exclude_none=True)
        if reference is not None:
            given["input"] = {**given["input"], PICTURE: reference}
        return given


def read_orders(path: Path) -> list[Order]:
    """Every task of a file. Raises CliError naming the line that is wrong."""
    try:
        with path.open("rb") as file:
            lines = list(itertools.islice(file, MOST_LINES + 1))
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(lines) > MOST_LINES:
        raise CliError(f"{path}: more than {MOST_LINES:,} lines")
    orders = [_order(path, number, raw) for number, raw in enumerate(lines, 1) if raw.strip()]
    if not orders:
        raise CliError(f"{path}: no tasks in it")
    return orders


def of_chain(orders: Iterable[Order], chain: str) -> list[Order]:
    """Those of one chain. Raises CliError when there are none."""
    orders = list(orders)
    found = [order for order in orders if order.line.chain == chain]
    if not found:
        known = ", ".join(sorted({order.line.chain for order in orders})) or "none"
        raise CliError(f"no task of chain {chain!r} in the file; chains in it: {known}")
    return found


def multiplied(orders: Sequence[Order], count: int, run: str) -> Iterator[Order]:
    """`count` tasks, going round the given ones; ids end in the run and the number, so that each is a new task."""
    for number, order in enumerate(itertools.islice(itertools.cycle(orders), count), 1):
        name = f"{(order.line.id or order.line.chain)[:80]}-{run}-{number}"
        yield replace(order, number=number, line=order.line.model_copy(update={"id": name}), idempotency_key=None)


def named(orders: Sequence[Order], run: str) -> Iterator[Order]:
    """The tasks as they are; one without an id gets an idempotency key, so that a repeated request is recognised."""
    for order in orders:
        yield order if order.line.id else replace(order, idempotency_key=f"{run}-{order.number}")


def starting(orders: Iterable[Order], run_at: str) -> Iterator[Order]:
    """The tasks, none of which starts before that moment (RFC 3339), whatever their lines say of it."""
    for order in orders:
        yield replace(order, line=order.line.model_copy(update={"run_at": run_at, "delay_seconds": None}))


def find_file(chains: Iterable[str], chain: str) -> Path:
    """The tasks that ship with a chain: the `*.jsonl` beside its file (`chains` are references as in the settings)."""
    folders = sorted({Path(where).parent for where, _, _ in (entry.rpartition(":") for entry in chains)})
    for file in (file for folder in folders for file in sorted(folder.glob("*.jsonl"))):
        if any(order.line.chain == chain for order in read_orders(file)):
            return file
    places = ", ".join(map(str, folders)) or "any folder: no chains are set"
    raise CliError(f"no file (*.jsonl) with tasks of chain {chain!r} in {places}: name a FILE")


def media_type(path: Path) -> str:
    """What kind of picture a file's name says it is."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _order(path: Path, number: int, raw: bytes) -> Order:
    try:
        given = strict_json.loads(raw, MOST_LINE_BYTES)
        line = Line.model_validate(given)
    except BadJson as error:
        raise CliError(f"{path}:{number}: {error}") from None
    except ValidationError as error:
        raise CliError(f"{path}:{number}: {describe(error, given)}") from None
    picture = line.input.get(PICTURE)
    if not isinstance(picture, str) or picture.startswith("blob:"):
        return Order(line, number)
    file = path.parent / picture
    if not file.is_file():
        raise CliError(f"{path}:{number}: the picture {file} does not exist")
    return Order(line, number, picture=file)
