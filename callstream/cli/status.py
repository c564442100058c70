"""`callstream status ID`: one task, its steps as a tree."""

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from callstream.cli.client import Api, api_of
from callstream.cli.follow import SETTLED
from callstream.settings import load
from callstream.streams import strict_json
from callstream.streams.event import Json

WAIT_SECONDS = 2.0
COLOURS = {"finished": "green", "rejected": "yellow", "failed": "red", "cancelled": "yellow", "held": "magenta"}
MOST_TEXT = 2000
LEAST_SHOWN_SECONDS = 0.1


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
        root.add(f"replay of {escape(parent)}{', in a sandbox' if row.get('sandbox') else ''}")
    for at, step in enumerate(row["steps"]):
        root.add(_step(step) + (" · [dim]its parent's[/]" if at < row.get("inherited", 0) else ""))
    if following := row.get("next"):
        root.add(f"[dim]waits for {escape(following['step'])} ({escape(following['service'])})[/]")
    if waiting := row.get("waiting"):
        root.add(escape(_waiting(waiting)))
    if subtasks := row.get("subtasks"):
        of = "?" if subtasks["of"] is None else f"{subtasks['of']:,}"
        root.add(f"sub-tasks: {subtasks['done']:,} of {of} done, {subtasks['failed']:,} failed")
    if parent := row.get("parent"):
        root.add(f"[dim]made by {escape(parent)}[/]")
    if missing := row.get("missing"):
        root.add(escape(_missing(missing, time.time())))
    if cancel := row.get("cancel"):
        without = "" if cancel["rollback"] else ", without rollback"
        root.add(f"[yellow]cancelled[/] by {escape(cancel['by'])}, about to end{without}")
    if row.get("held"):
        root.add(f"[magenta]held[/]: {escape(_cut(row['held']))}")
    if failure := row.get("failure"):
        step = f" in {escape(failure['step'])}" if failure.get("step") else ""
        root.add(f"[red]{escape(failure['kind'])}[/]{step}: {escape(_cut(failure['message']))}")
    if row.get("result") is not None:
        branch = root.add("result")
        for name, value in row["result"].items():
            branch.add(f"[bold]{escape(str(name))}[/]: {escape(_cut(_text(value)))}")
    if callback := row.get("callback"):
        root.add(f"callback {escape(str(callback.get('state')))}: {escape(_cut(str(callback.get('url'))))}")
    return root


def _step(step: Json) -> str:
    parts = [f"[bold]{escape(step['step'])}[/] ({escape(step['service'])})"]
    if step.get("seconds") is not None:
        parts.append(duration(step["seconds"]))
    if step.get("model"):
        parts.append(f"{escape(step['model'])} {step.get('tokens_in') or 0:,} → {step.get('tokens_out') or 0:,} tokens")
    apart = {name: step.get(name) or 0 for name in ("waited", "retried")}
    parts += [f"{name} {duration(seconds)}" for name, seconds in apart.items() if seconds >= LEAST_SHOWN_SECONDS]
    if (attempts := step.get("attempts") or 1) > 1:
        parts.append(f"[yellow]{attempts} attempts[/]")
    parts += [f"[dim]{escape(_cut(str(note), 120))}[/]" for note in step.get("notes") or ()]
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time that people read: 3 ms, 1.2 s, 2 min 5 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def moment(seconds: float) -> str:
    """Epoch seconds in local time, to the second."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else strict_json.dumps(value).decode()


def _cut(text: str, limit: int = MOST_TEXT) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
