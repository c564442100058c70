"""`callstream dead …`: dead letters, looked at and decided about."""

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from callstream.cli.client import ApiError, ask, who
from callstream.cli.console import Console
from callstream.cli.errors import CliError
from callstream.cli.status import duration, moment
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson

app = typer.Typer(help="Dead letters: list, show, edit, patch, redrive, discard.", no_args_is_help=True)
jobs = typer.Typer(help="Jobs over many letters.", no_args_is_help=True)
app.add_typer(jobs, name="jobs")

POLL_SECONDS = 0.5
MOST_INPUT_BYTES = 4 * 1024 * 1024
MOST_TEXT = 200

Task = Annotated[str, typer.Argument(metavar="ID", help="Id of the task.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
Url = Annotated[str | None, typer.Option(help="Base URL of a gateway.")]
Tenant = Annotated[str | None, typer.Option(help="The task's tenant; the key's own by default.")]
Kind = Annotated[str | None, typer.Option("--letter", help="task, callback, refused or unreadable.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the gateway gives it.")]
Where = Annotated[str, typer.Option(help="Condition in CEL: kind == 'refused' && age < 3600.0")]
Tasks = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of tasks; or give --where.")]
Every = Annotated[bool, typer.Option("--all", help="Every waiting letter.")]
Rate = Annotated[float | None, typer.Option(help="Of several letters: at most so many a second.")]
Wait = Annotated[bool, typer.Option("--wait", help="Of several letters: until the job has ended.")]
By = Annotated[str, typer.Option(help="Who decides, for the audit; by default you, as user@host.")]


@app.command("list")
def list_letters(
    where: Where = "",
    state: Annotated[str, typer.Option(help="waiting, redriven, discarded or all.")] = "waiting",
    group: Annotated[bool, typer.Option("--group", help="Causes with how many letters have them.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=200)] = 50,
    cursor: Annotated[str, typer.Option(help="Go on where an earlier list ended.")] = "",
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List dead letters, or group them by cause."""
    asked = {"where": where, "state": state, "cursor": cursor, "limit": str(limit)}
    asked |= {"group": "cause"} if group else {}
    told = _ask("GET", "?" + urlencode({name: value for name, value in asked.items() if value}), url)
    if as_json:
        typer.echo(strict_json.dumps(told).decode())
        return
    Console().print(
        groups_table(told) if group else letters_text(told, time.time()), soft_wrap=not group, highlight=False
    )
    if told.get("next"):
        typer.echo(f"more: --cursor {told['next']}")
    if told["silent_gateways"]:
        typer.echo(f"{told['silent_gateways']} gateways did not answer: their letters are missing", err=True)


@app.command()
def show(task: Task, tenant: Tenant = None, letter: Kind = None, as_json: AsJson = False, url: Url = None) -> None:
    """Show one letter: why, each attempt, its input, where it may begin again, and who did what."""
    told = _ask("GET", _path(task, "", tenant, letter), url)
    if as_json:
        typer.echo(strict_json.dumps(told).decode())
    else:
        Console().print(letter_text(told, _task_row(task, url)), highlight=False)


@app.command()
def edit(
    task: Task,
    file: Annotated[Path, typer.Argument(help="The whole new input, as JSON.", exists=True, dir_okay=False)],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    by: By = "",
    tenant: Tenant = None,
    url: Url = None,
) -> None:
    """Give a waiting letter another input, which its chain's model must take."""
    _say(_ask("PUT", _path(task, "/input", tenant, None, reason=reason, by=by or who()), url, _read(file)))


@app.command()
def redrive(
    tasks: Tasks = None,
    where: Where = "",
    every: Every = False,
    from_step: Annotated[str | None, typer.Option(help="Begin at this step; by default where it failed.")] = None,
    ask_again: Annotated[bool, typer.Option("--ask-again", help="Ask models in spite of paid answers.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    rate: Rate = None,
    wait: Wait = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    by: By = "",
    tenant: Tenant = None,
    letter: Kind = None,
    url: Url = None,
) -> None:
    """Take a task up again, or those of every letter that a condition holds for."""
    which = _which(tasks, where, every, tenant)
    body: Json = {"from_step": from_step, "ask_again": ask_again, "reason": reason, "by": by or who()}
    if (task := _single(tasks)) is not None:
        told = _ask("POST", _path(task, "/dry-run" if dry_run else "/redrive", tenant, letter), url, body)
        typer.echo(strict_json.dumps(told).decode()) if dry_run else _say(told)
        return
    if dry_run:
        raise CliError("--dry-run takes the ID of one task")
    _run_job("/redrive", body | which | {"rate": rate}, wait, url)


@app.command()
def discard(
    reason: Annotated[str, typer.Option(help="Why nothing is to be done about it.")],
    tasks: Tasks = None,
    where: Where = "",
    every: Every = False,
    rate: Rate = None,
    wait: Wait = False,
    by: By = "",
    tenant: Tenant = None,
    letter: Kind = None,
    url: Url = None,
) -> None:
    """Decide that nothing more will be done about a letter, some, or every one that a condition holds for."""
    which = _which(tasks, where, every, tenant)
    body = {"reason": reason, "by": by or who()}
    if (task := _single(tasks)) is not None:
        _say(_ask("POST", _path(task, "/discard", tenant, letter), url, body))
        return
    _run_job("/discard", body | which | {"rate": rate}, wait, url)


@app.command()
def patch(
    file: Annotated[Path, typer.Argument(help="A JSON merge patch of inputs (RFC 7386).", exists=True, dir_okay=False)],
    tasks: Tasks = None,
    where: Where = "",
    every: Every = False,
    rate: Rate = None,
    wait: Wait = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    by: By = "",
    tenant: Tenant = None,
    url: Url = None,
) -> None:
    """Edit the inputs of some waiting letters, or of every one that a condition holds for.

    An input that its chain's model would not take afterwards is left as it is, and told.
    """
    which = _which(tasks, where, every, tenant)
    body = {"reason": reason, "by": by or who(), "patch": _read(file), "rate": rate}
    _run_job("/edit", body | which, wait, url)


@jobs.command("list")
def list_jobs(url: Url = None) -> None:
    """List jobs, the latest first."""
    for job in _ask("GET", "/jobs", url)["jobs"]:
        typer.echo(job_line(job))


@jobs.command("show")
def show_job(job: JobId, as_json: AsJson = False, url: Url = None) -> None:
    """Show how far a job has come."""
    told = _job(job, url)
    typer.echo(strict_json.dumps(told).decode() if as_json else job_line(told))


@jobs.command()
def pause(job: JobId, by: By = "", url: Url = None) -> None:
    """Let a job send nothing more until it is resumed."""
    _move(job, "pause", by, url)


@jobs.command()
def resume(job: JobId, by: By = "", url: Url = None) -> None:
    """Let a paused job go on."""
    _move(job, "resume", by, url)


@jobs.command()
def cancel(job: JobId, by: By = "", url: Url = None) -> None:
    """End a job for good; what it has redriven stays redriven."""
    _move(job, "cancel", by, url)


def letters_text(told: Json, now: float) -> str:
    """Letters: of each its task, where that stood and since when, and below the reason."""
    lines = []
    for row in told["letters"]:
        whose = f" of {escape(row['tenant'])}" if row["tenant"] else ""
        state = row["state"] + (", edited" if row["edited"] else "")
        tried = f"{row['attempts']} attempt" + "s" * (row["attempts"] != 1)
        where = f"{escape(row['chain'] or '-')}, step {escape(row['step'] or '-')}"
        lines.append(
            f"[bold]{escape(row['task'])}[/]{whose}: {where}, {tried}, {duration(max(0.0, now - row['died']))} ago"
        )
        why = " ".join(row["message"].split())
        lines.append(
            f"  {state}  [red]{escape(row['kind'])}[/]: {escape(why[:MOST_TEXT])}" + "…" * (len(why) > MOST_TEXT)
        )
    return "\n".join(lines) or "no letter"


def groups_table(told: Json) -> Table:
    """Causes, the most frequent first."""
    table = Table(box=box.SIMPLE_HEAD, caption=None if told["complete"] else "not all letters were looked at")
    table.add_column("letters", justify="right")
    table.add_column("cause", overflow="fold")
    table.add_column("for example", overflow="fold")
    for group in told["groups"]:
        table.add_row(f"{group['letters']:,}", escape(group["cause"]), escape(group["example"]["task"]))
    return table


def letter_text(told: Json, now: Json | None = None) -> str:
    """One letter for people; `now` is the row of its task."""
    lines = [
        f"[bold]{escape(told['task'])}[/] of {escape(told['tenant'] or '-')}: {escape(told['state'])}"
        + (", edited" if told["edited"] else ""),
        f"{escape(told['chain'] or '-')} v{told['version']}, step {escape(told['step'] or '-')}, run {told['run']}",
        f"[red]{escape(told['kind'])}[/]: {escape(told['message'])}",
    ]
    if origin := told["from"]:
        lines.append(f"from {escape(origin['topic'])}/{origin['partition']}@{origin['offset']}")
    for one in told["tried"]:
        at = f" at {one['endpoint']}" if one["endpoint"] else ""
        which = f"{moment(one['ended'])} run {one['run']} attempt {one['attempt']}"
        lines.append(escape(f"  {which}: {one['kind']}{at}: {one['message'][:120]}"))
    if "input" in told:
        lines.append(f"input: {escape(strict_json.dumps(told['input']).decode()[:2000])}")
    if told.get("cannot_redrive"):
        lines.append(f"cannot be redriven: {escape(told['cannot_redrive'])}")
    elif told.get("can_begin_at"):
        lines.append(f"can begin at: {escape(', '.join(told['can_begin_at']))}")
    lines += [escape(_audit_line(entry)) for entry in told["audit"]]
    if now is not None:
        lines.append(f"the task is {escape(now['state'])}, run {now['run']}")
    return "\n".join(lines)


def _audit_line(entry: Json) -> str:
    why = entry.get("reason") or ""
    if refused := entry.get("refused"):
        why = f"refused: {refused}"
    run = f", run {entry['run']}" if "run" in entry else ""
    return f"  {moment(entry['at'])} {entry['action']} by {entry['by']}{run}" + (f": {why}" if why else "")


def job_line(job: Json) -> str:
    """A job in one line, and one for each of the first letters that it left."""
    matched = "?" if job["matched"] is None else f"{job['matched']:,}"
    where = "all" if job["where"] in ("", "true") else job["where"]
    refused = f" ({job['refused']})" if job["refused"] else ""
    which = f"of {job['tasks']:,} tasks" if job["tasks"] else f"where {where}"
    done = {"discard": "discarded", "edit": "edited"}.get(job["does"], "redriven")
    left = f", {job['left']:,} left" if job["left"] else ""
    lines = [f"{job['job']} {job['state']}: {job['sent']:,} of {matched} {done}{left}, {which}{refused}"]
    lines += [f"  {one['task']}: {one['why']}" for one in job["refusals"]]
    return "\n".join(lines)


def _which(tasks: list[str] | None, where: str, every: bool, tenant: str | None) -> Json:
    """Which letters a job is about. Raises CliError."""
    if bool(tasks) + bool(where) + every != 1:
        raise CliError("give one of: IDs of tasks, --where CONDITION, --all")
    if tasks:
        return {"tasks": tasks, **({"tenant": tenant} if tenant is not None else {})}
    return {"where": where or "true"}


def _single(tasks: list[str] | None) -> str | None:
    return tasks[0] if tasks and len(tasks) == 1 else None


def _read(file: Path) -> Json:
    try:
        return dict(strict_json.loads(file.read_bytes(), MOST_INPUT_BYTES))
    except (BadJson, TypeError, ValueError) as error:
        raise CliError(f"{file}: no JSON object: {error}") from None


def begun(job: str, tasks: Sequence[str]) -> str:
    """What is said of a job that nobody waits for; `tasks` are the ids that it was given."""
    show = f"callstream dead jobs show {job}"
    if not tasks:
        return f"job {job}: {show}"
    return f"job {job} of {len(tasks):,} ids: only the job tells how many of them have a letter that waits: {show}"


def _run_job(path: str, body: Json, wait: bool, url: str | None) -> None:
    told = _ask("POST", path, url, body)
    typer.echo(begun(told["job"], () if wait else body.get("tasks") or ()))
    while wait:
        job = _job(told["job"], url)
        typer.echo(job_line(job))
        if job["state"] in ("done", "cancelled"):
            return
        time.sleep(POLL_SECONDS)


def _task_row(task: str, url: str | None) -> Json | None:
    """The row of a letter's task, if it has one that the caller may see."""
    try:
        return ask(url, lambda api: api.task(task))
    except ApiError as error:
        if error.status not in (400, 403, 404):
            raise
        return None


def _move(job: str, move: str, by: str, url: str | None) -> None:
    _ask("POST", f"/jobs/{quote(job, safe='')}/{move}", url, {"by": by or who()})
    typer.echo(job_line(_job(job, url)))


def _job(job: str, url: str | None) -> Json:
    return _ask("GET", f"/jobs/{quote(job, safe='')}", url)


def _path(task: str, what: str, tenant: str | None, letter: str | None, **more: str) -> str:
    told = {"tenant": tenant, "letter": letter, **more}
    asked = {name: value for name, value in told.items() if value}
    return f"/{quote(task, safe='')}{what}" + (f"?{urlencode(asked)}" if asked else "")


def _say(told: Json) -> None:
    done = told.get("done")
    if done is None:
        typer.echo(f"{told['task']}: accepted, not yet carried out; see `callstream dead show {told['task']}`")
    else:
        run = f", run {done['run']}" if "run" in done else ""
        typer.echo(f"{told['task']}: {done['action']} by {done['by']}{run}")


def _ask(method: str, path: str, url: str | None, body: Json | None = None) -> Json:
    request: dict[str, Any] = {}
    if method != "GET":
        # One command is one decision, however often it is sent.
        request = {"json": body, "headers": {"Idempotency-Key": secrets.token_hex(16)}}
    return ask(url, lambda api: api.dead(method, path, **request))
