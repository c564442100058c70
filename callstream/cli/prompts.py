"""`callstream prompts`: templates checked, and tried on a product."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from callstream.agents.prepare.language import LANGUAGE_PATTERN
from callstream.agents.prepare.prompt import FACTS, KNOWN, written
from callstream.agents.prepare.prompts import Prompts, RuleFailed, Wanted
from callstream.agents.prepare.sandbox import CannotRender
from callstream.agents.prepare.template import Prompt
from callstream.cli.errors import CliError
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import task_key
from callstream.streams.strict_json import BadJson

MOST_BYTES = 1024 * 1024
TENANT = "try"

app = typer.Typer(help="Check prompt templates, and try them on a product.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="The folder of the templates.")]
Given = Annotated[list[str] | None, typer.Option("--set", help="A variable of the chain, as name=value; repeatable.")]


@app.command()
def check(
    folder: Folder,
    given: Given = None,
) -> None:
    """Read the templates and the rules of a folder as a worker does, and list them. Exit code 1 if one is wrong."""
    prompts = Prompts.load(folder)
    prompts.require({*KNOWN, *_variables(given)})
    for prompt in prompts:
        typer.echo(_line(prompt))
    for number, rule in enumerate(prompts.rules, start=1):
        typer.echo(f"rule {number}: {rule.template} when {rule.when.text}")


@app.command("try")
def try_product(
    folder: Folder,
    product: Annotated[Path, typer.Argument(help="What is known of a product, a JSON object; - is standard input.")],
    task: Annotated[str, typer.Option(help="The id of the task: shares go by it.")] = "task-1",
    given: Given = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the step's output has it.")] = False,
) -> None:
    """Show the messages that a product's template makes. Rules see the product as `input`."""
    prompts, variables, known = Prompts.load(folder), _variables(given), _product(product)
    prompts.require({*KNOWN, *variables})
    facts = {name: str(known[name]) for name in FACTS if known.get(name)}
    language = str(known.setdefault("language", "en"))
    if not re.fullmatch(LANGUAGE_PATTERN, language):
        raise CliError(f"{product}: language is {language[:20]!r}; a code of two small letters is wanted, such as en")
    wanted = Wanted(facts.get("category"), language, _seen(task, known), task_key(TENANT, task))
    try:
        output, how = written(prompts, wanted, {**variables, **facts}, known)
    except (RuleFailed, CannotRender) as error:
        raise CliError(str(error)) from None
    if as_json:
        typer.echo(strict_json.dumps(output).decode())
        return
    typer.echo(how)
    for name in ("parameters", "answer"):
        if output.get(name):
            typer.echo(f"{name}: {strict_json.dumps(output[name]).decode()}")
    for message in output["messages"]:
        typer.echo(f"--- {message['role']}\n{message['content']}")


def _line(prompt: Prompt) -> str:
    front = prompt.front
    if front.instead_of is not None:
        made_for = f"{front.share:g} % of the tasks of {front.instead_of}"
    elif front.only_by_rule:
        made_for = "by rule only"
    else:
        made_for = f"{', '.join(front.categories) or 'any category'}; {', '.join(front.languages) or 'any language'}"
    roles = ", ".join(section.role for section in prompt.sections)
    shape = "; answers of a shape" if front.answer is not None else ""
    return f"{prompt.name} version {front.version}: {made_for}; {roles}{shape}"


def _seen(task: str, known: Json) -> Json:
    """What rules see, as of a task that has taken no step yet."""
    given = {"chain": "try", "version": 1, "tenant": TENANT, "task": task, "priority": "normal", "step": "prompt"}
    return {**given, "input": known, "outputs": {}, "usage": {}}


def _variables(given: list[str] | None) -> dict[str, str]:
    variables = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise CliError(f"--set {one[:80]!r}: write name=value")
        variables[name] = value
    return variables


def _product(file: Path) -> Json:
    try:
        raw = sys.stdin.buffer.read(MOST_BYTES + 1) if str(file) == "-" else file.read_bytes()
        known = strict_json.loads(raw, MOST_BYTES)
    except (OSError, BadJson) as error:
        raise CliError(f"{file}: {error}") from None
    if not isinstance(known, dict):
        raise CliError(f"{file}: JSON of type {type(known).__name__}; an object is wanted")
    return known
