"""`callstream status ID`: one task, its steps as a tree."""

import asyncio
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from callstream.cli.client import Api, api_of
from callstream.cli.console import Console
from callstream.cli.follow import SETTLED
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import DERIVED

WAIT_SECONDS = 2.0
COLOURS = {"finished": "green", "rejected": "yellow", "failed": "red", "cancelled": "yellow", "held": "magenta"}
MOST_TEXT = 2000
MOST_PARTIAL = 200
LEAST_SHOWN_SECONDS = 0.1
DAY = 24 * 3600
_ATTEMPT = re.compile(r"attempt (\d+): (.*)", re.DOTALL)


def status(
    task: Annotated[str, typer.Argument(metavar="ID", help="Id of the task.")],
    watch: Annotated[bool, typer.Option("--watch", help="Go on until it has ended or is held.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The row as JSON.")] = False,
    url: Annotated[str | None, typer.Option(help="Base URL of a gateway.")] = None,
) -> None:
    """Show a task and its steps. Each with its time, model, tokens and attempts, then the result or the reason."""
    asyncio.run(_show(api_of(load(), url), task, watch, as_json))


async def _show(api: Api, task: str, watch: bool, as_json: bool) -> None:
    console = Console()
    async with api:
        row = await api.task(task)
        if watch:
            with Live(tree(row), console=console, transient=as_json) as live:
                while row["state"] not in SETTLED:
                    row = await api.task(task, WAIT_SECONDS)
                    live.update(tree(row))
        if as_json:
            typer.echo(strict_json.dumps(row).decode())
        elif not watch:
            console.print(tree(row))


def _waiting(waiting: Json) -> str:
    """Why a task waits, for a model or for its time, in a line."""
    if (pause := waiting.get("paused")) is not None:
        why = f": {pause['reason']}" if pause["reason"] else ""
        return f"paused since {moment(pause['since'])} by {pause['by']}{why} · waits for {waiting['waits_for']}"
    if "until" in waiting:
        return _timed(waiting)
    if "resets" in waiting:
        return f"{waiting['pool']}: {waiting['waits_for']} · it resets {moment(waiting['resets'])}"
    if "sink" in waiting:
        return f"{waiting['sink']} is away · for {duration(waiting['waited_seconds'])}"
    text = f"{waiting['pool']}: {waiting['reason']}"
    if waiting["reason"] != waiting["waits_for"].partition(" of ")[0]:
        text += f", behind what waits for {waiting['waits_for']}"
    if "put_aside" in waiting:
        return text
    text += f" · since {waiting['waited_seconds']:.1f} s · {waiting['calls_before']:,} calls before it"
    if waiting["estimate_seconds"] is not None:
        text += f" · about {waiting['estimate_seconds']:g} s (± {waiting['estimate_within_seconds']:g})"
    return text


def _missing(missing: Json, now: float) -> str:
    """Which version a task waits for, in a line."""
    waited = duration(max(0.0, now - missing["since"]))
    return f"held: version {missing['version']} of {missing['chain']} is not on {missing['service']} · for {waited}"


def _timed(waiting: Json) -> str:
    until = moment(waiting["until"])
    if (failure := waiting.get("failure")) is None:
        return f"{waiting['reason']} for {until}"
    return (
        f"{waiting['reason']} at {until}, after attempt {waiting['attempts']}: {failure['kind']}: {failure['message']}"
    )


def tree(row: Json) -> Tree:
    """A row of table `tasks` as a tree."""
    colour = COLOURS.get(row["state"], "cyan")
    head = (
        f"[bold]{escape(row['id'])}[/] [{colour}]{escape(row['state'])}[/] · {escape(row['chain'])} v{row['version']}"
    )
    root = Tree(f"{head} · {escape(row['priority'])} · {moment(row['created'])}")
    if parent := row.get("parent"):
        root.add(f"{_kin(row['id'])} of {escape(parent)}{', in a sandbox' if row.get('sandbox') else ''}")
    failure = row.get("failure")
    why = f"{failure['kind']}: {failure['message']}" if failure else ""
    for at, step in enumerate(row["steps"]):
        root.add(_step(step, why) + (" · [dim]its parent's[/]" if at < row.get("inherited", 0) else ""))
    if following := row.get("next"):
        root.add(_next(following, row.get("calling")))
    if waiting := row.get("waiting"):
        root.add(escape(_waiting(waiting)))
    if partial := row.get("partial"):
        end = cut(partial["text"][-MOST_PARTIAL:]).strip()
        before = "…" if partial["characters"] > MOST_PARTIAL else ""
        root.add(f"{escape(partial['step'])} has written {partial['characters']:,} characters: {before}{escape(end)}")
    if subtasks := row.get("subtasks"):
        of = "?" if subtasks["of"] is None else f"{subtasks['of']:,}"
        root.add(f"sub-tasks: {subtasks['done']:,} of {of} done, {subtasks['failed']:,} failed")
    if missing := row.get("missing"):
        root.add(escape(_missing(missing, time.time())))
    if cancel := row.get("cancel"):
        without = "" if cancel["rollback"] else ", without rollback"
        root.add(f"[yellow]cancelled[/] by {escape(cancel['by'])}, about to end{without}")
    if row.get("held"):
        root.add(f"[magenta]held[/]: {escape(cut(row['held']))}")
    if failure:
        step = f" in {escape(failure['step'])}" if failure.get("step") else ""
        root.add(f"[red]{escape(failure['kind'])}[/]{step}: {escape(cut(failure['message']))}")
    if row.get("result") is not None:
        branch = root.add("result")
        for name, value in row["result"].items():
            branch.add(f"[bold]{escape(str(name))}[/]: {escape(cut(_text(value)))}")
    if callback := row.get("callback"):
        root.add(f"callback {escape(str(callback.get('state')))}: {escape(cut(str(callback.get('url'))))}")
    return root


def _next(following: Json, calling: Json | None) -> str:
    """The step that is next, in a line: that it is waited for, or which endpoint is asked."""
    step = f"{escape(following['step'])} ({escape(following['service'])})"
    if calling is None:
        return f"[dim]waits for {step}[/]"
    where = escape(f"{calling['endpoint']} of pool {calling['pool']}")
    return f"{step} calls {where} since {moment(calling['since'])}, for {duration(calling['seconds'])}"


def _kin(task: str) -> str:
    """What a task is that another one led to, as its id says."""
    last = task.rpartition(DERIVED)[2]
    if last.endswith(".shadow"):
        return "shadow copy"
    return "sub-task" if "." in last else "replay"


def _step(step: Json, why: str) -> str:
    """A step in a line, without `why` the task failed, which has one of its own."""
    undo = "[yellow]undo[/] " if step.get("undo") else ""
    parts = [f"{undo}[bold]{escape(step['step'])}[/] ({escape(step['service'])})"]
    if step.get("seconds") is not None:
        parts.append(duration(step["seconds"]))
    if step.get("model"):
        parts.append(f"{escape(step['model'])} {step.get('tokens_in') or 0:,} → {step.get('tokens_out') or 0:,} tokens")
    parts += [f"{cost} {currency}" for currency, cost in (step.get("cost") or {}).items() if cost != "0"]
    apart = {name: step.get(name) or 0 for name in ("waited", "retried")}
    parts += [f"{name} {duration(seconds)}" for name, seconds in apart.items() if seconds >= LEAST_SHOWN_SECONDS]
    if (attempts := step.get("attempts") or 1) > 1:
        parts.append(f"[yellow]{attempts} attempts[/]")
    parts += [f"[dim]{escape(cut(note, 120))}[/]" for note in gathered(step.get("notes") or (), why)]
    return " · ".join(parts)


def gathered(notes: Iterable[Any], known: str = "") -> list[str]:
    """A step's remarks, of attempts that failed of the same one for all of them, and none of what is `known`.

    >>> gathered(["attempt 1: busy: full", "attempt 2: busy: full", "busy: full", "by hand"])
    ['attempts 1-2: busy: full', 'by hand']
    """
    told: list[str] = []
    first = said = ""
    for note in map(str, notes):
        if known and known in (note, note.partition(": ")[2]):
            continue
        if (attempt := _ATTEMPT.match(note)) and attempt[2] == said and told:
            told[-1] = f"attempts {first}-{attempt[1]}: {said}"
        elif attempt:
            first, said = attempt[1], attempt[2]
            told.append(note)
        elif note != said:
            told.append(note)
            said = ""
    return told


def duration(seconds: float) -> str:
    """A time that people read: 3 ms, 1.2 s, 2 min 5 s, 1 h 1 min, 2 d 3 h."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for limit, large, small, names in ((3600, 60, 1, ("min", "s")), (DAY, 3600, 60, ("h", "min"))):
        if whole < limit:
            return f"{whole // large} {names[0]} {whole % large // small} {names[1]}"
    return f"{whole // DAY} d {whole % DAY // 3600} h"


def moment(seconds: float) -> str:
    """Epoch seconds in local time, to the second, with what that is ahead of UTC."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else strict_json.dumps(value).decode()


def cut(text: str, limit: int = MOST_TEXT) -> str:
    """The text, or as much of it as so many characters hold, with a mark that there is more."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
