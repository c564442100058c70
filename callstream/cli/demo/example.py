"""Which example a demo runs: its folder, its chains, its tasks, and the pools that they ask."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

import callstream
from callstream.cli.errors import CliError
from callstream.streams.event import Strict
from callstream.streams.findings import describe
from callstream.streams.keys import Name

DEFAULT = "product-copy"
FILE = "demo.toml"

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]


class Told(Strict):
    """What an example's `demo.toml` says.

    `chains` are of the file `chain`, `tasks` is a file of tasks (`callstream produce` takes it too), `pools` those that
    the chains ask. Of what is held, a scripted reviewer of `--once` approves all while the tasks are under way where
    `reviewed` is set: they would not end without; else one at the end.
    """

    chain: FileName
    tasks: FileName
    pools: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
    reviewed: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """An example that a demo can run."""

    folder: Path
    told: Told

    @property
    def chains(self) -> str:
        """Its chains, as the settings name them."""
        return f"{self.folder / self.told.chain}:chain"

    @property
    def tasks(self) -> Path:
        """Its file of tasks."""
        return self.folder / self.told.tasks


def find(name: str) -> Example:
    """The example of that name: here, or in the checkout that callstream is installed from. Raises CliError."""
    roots = [root / "examples" for root in (Path.cwd(), Path(callstream.__file__).resolve().parent.parent)]
    known = {file.parent.name: file.parent for root in reversed(roots) for file in sorted(root.glob(f"*/{FILE}"))}
    if not known:
        raise CliError("the demo needs the folder examples, which is not installed: run it in a clone of callstream")
    if name not in known:
        raise CliError(f"no example {name!r}; there are: {', '.join(sorted(known))}")
    path = known[name] / FILE
    try:
        return Example(known[name], Told.model_validate(tomllib.loads(path.read_text("utf-8"))))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: no TOML: {error}") from None
    except ValidationError as error:
        raise CliError(f"{path}: {describe(error)}") from None
