"""`callstream review …`: held tasks, claimed and decided through the API of a gateway."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.agents.review import Choice
from callstream.cli.client import ask, who
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.status import moment
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.web.marking import marked

app = typer.Typer(help="Held tasks: list, show, claim, release, decide.", no_args_is_help=True)
Task = Annotated[str, typer.Argument(help="Id of the task.")]
Url = Annotated[str | None, typer.Option(help="Base URL of a gateway.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the gateway gives it.")]
As = Annotated[str | None, typer.Option("--as", help="Who reviews; by default user@host.")]
MOST_EDIT_BYTES = 1024 * 1024


@app.command(name="list")
def list_all(
    group: Annotated[str | None, typer.Option(help="Those of this group.")] = None,
    chain: Annotated[str | None, typer.Option(help="Those of this chain.")] = None,
    claimed: Annotated[
        bool | None, typer.Option("--claimed/--unclaimed", help="Those that somebody has, or not.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 50,
    after: Annotated[str | None, typer.Option(help="Behind the place that an earlier list named.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List what waits for a person, the most urgent first."""
    wanted = {"group": group, "chain": chain, "limit": limit, "after": after}
    query = {name: value for name, value in wanted.items() if value is not None}
    if claimed is not None:
        query["claimed"] = str(claimed).lower()
    found = ask(url, lambda api: api.review("GET", "?" + urlencode(query)))
    if as_json:
        typer.echo(strict_json.dumps(found).decode())
        return
    Console().print(table(found["reviews"]))
    if found["next"] is not None:
        typer.echo(f"more: --after {found['next']}")
    if found["silent_gateways"]:
        typer.echo(f"{found['silent_gateways']} gateways do not answer: their reviews are not listed", err=True)


@app.command()
def show(task: Task, as_json: AsJson = False, url: Url = None) -> None:
    """Show one held task: its text, findings and earlier attempts, and who did what."""
    told = ask(url, lambda api: api.review("GET", f"/{task}"))
    typer.echo(strict_json.dumps(told).decode() if as_json else review_text(told))


@app.command()
def claim(task: Task, reviewer: As = None, url: Url = None) -> None:
    """Have a held task for a while, so that nobody else decides; once more, for longer."""
    told = ask(url, lambda api: api.review("POST", f"/{task}/claim", json={"reviewer": reviewer or who()}))
    lease = told["claim"]
    typer.echo(_pending(task) if lease is None else f"{task}: yours until {moment(lease['until'])}")


@app.command()
def release(task: Task, reviewer: As = None, url: Url = None) -> None:
    """Give a claimed task back."""
    told = ask(url, lambda api: api.review("POST", f"/{task}/release", json={"reviewer": reviewer or who()}))
    typer.echo(f"{task}: released" if told["in_effect"] else _pending(task))


@app.command()
def decide(
    task: Task,
    verdict: Annotated[Choice, typer.Argument(help="What is decided.")],
    reason: Annotated[str, typer.Option(help="Why; of regenerate, what the model is told.")] = "",
    edit: Annotated[list[str] | None, typer.Option(help="STEP.FIELD=TEXT, or =@FILE; any number.")] = None,
    group: Annotated[str | None, typer.Option(help="Of escalate: who is to look at it.")] = None,
    reviewer: As = None,
    url: Url = None,
) -> None:
    """Approve, edit, reject, regenerate or escalate a held task."""
    body: Json = {"verdict": str(verdict), "reviewer": reviewer or who(), "reason": reason}
    if edit:
        body["edits"] = edits_in(edit)
    if group is not None:
        body["group"] = group
    told = ask(url, lambda api: api.review("POST", f"/{task}", json=body))
    if not told["in_effect"]:
        typer.echo(_pending(task))
    else:
        typer.echo(f"{task}: {told['verdict']}" + ("" if told["review"] == "decided" else ", and it waits on"))


def table(rows: list[Json]) -> Table:
    """Held tasks, one a line."""
    shown = Table(box=box.SIMPLE_HEAD, caption=None if rows else "nothing waits for a person")
    for column in ("task", "priority", "due", "group", "claimed by", "chain", "why"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        review = row["review"]
        due = "-" if review["due"] is None else moment(review["due"])
        by = review["claim"]["by"] if review["claim"] is not None else "-"
        told = (row["id"], review["priority"], due, review["group"] or "-", by, row["chain"], row["held"] or "")
        shown.add_row(*(escape(plain(one)) for one in told))
    return shown


def review_text(row: Json) -> str:
    """One held task in lines."""
    review = row["review"]
    lines = [f"{row['id']} of {row['chain']} v{row['version']}: {row['state']}"]
    if row["held"]:
        lines.append(f"held: {plain(row['held'])}")
    due = "" if review["due"] is None else f", due {moment(review['due'])} (then {review['on_due']})"
    lines.append(f"priority {review['priority']}, group {review['group'] or '-'}{due}")
    if (claim := review["claim"]) is not None:
        lines.append(f"claimed by {plain(claim['by'])} until {moment(claim['until'])}")
    if review["four_eyes"]:
        lines.append(f"two have to approve; have: {plain(', '.join(review['approvals'])) or 'none'}")
    if row.get("text"):
        lines += ["text:", *(f"  {line}" for line in plain(row["text"]).splitlines())]
    for step, output in (row.get("outputs") or {}).items():
        for finding in output.get("findings") or ():
            where = f"{finding.get('start')}-{finding.get('end')}"
            lines.append(f"{step} found {plain(str(finding.get('text')))} at {where}: {finding.get('rule')}")
    for number, attempt in enumerate(review["attempts"], start=1):
        lines.append(f"attempt {number}, sent back by {plain(attempt['by'])}: {plain(attempt['note'])}")
    for note in review["audit"]:
        why = f": {plain(note['why'])}" if note["why"] else ""
        lines.append(f"  {moment(note['at'])} {note['what']} by {plain(note['by'])}{why}")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text as a terminal may have it: what hides or turns text is named."""
    return "".join(f"<{one.text}>" if one.kind == "control" else one.text for one in marked(text))


def edits_in(given: list[str]) -> Json:
    """Edited texts by step and field. Raises CliError."""
    found: dict[str, dict[str, str]] = {}
    for one in given:
        place, equals, text = one.partition("=")
        step, dot, field = place.partition(".")
        if not (equals and dot and step and field):
            raise CliError(f"--edit {one[:80]!r}: takes STEP.FIELD=TEXT, such as copy.text='A good mug.'")
        found.setdefault(step, {})[field] = _read(text[1:]) if text.startswith("@") else text
    return found


def _read(name: str) -> str:
    try:
        raw = Path(name).read_bytes()
    except OSError as error:
        raise CliError(f"{name}: cannot be read: {error.strerror or error}") from None
    if len(raw) > MOST_EDIT_BYTES:
        raise CliError(f"{name}: has {len(raw):,} bytes; at most {MOST_EDIT_BYTES:,} are taken")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CliError(f"{name}: not UTF-8 at byte {error.start}") from None


def _pending(task: str) -> str:
    return f"{task}: accepted, but service review has not taken it in yet; see `callstream lag`"
