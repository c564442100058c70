"""What the demo prints: the tasks on their way, the copy beside the attributes, what was stopped, the SQL rows."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Row

from callstream.cli.demo.figures import attributes
from callstream.cli.follow import SETTLED, Sent
from callstream.cli.status import COLOURS, cut, duration

MOST_ROWS = 40
MOST_RESULT = 600


def progress(sents: Sequence[Sent], total: int) -> Table:
    """Every task with the step it is at."""
    settled = sum(sent.state in SETTLED for sent in sents)
    table = Table(box=box.SIMPLE_HEAD, title=f"{settled} of {total} tasks settled", title_justify="left")
    for name, least, most in (
        ("task", 13, 24),
        ("product", 18, 18),
        ("steps", 19, 30),
        ("state", 8, 8),
        ("time", 6, 14),
    ):
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=least, max_width=most)
    for sent in sents[:MOST_ROWS]:
        table.add_row(*_progress_row(sent))
    if len(sents) > MOST_ROWS:
        table.caption = f"and {len(sents) - MOST_ROWS} more"
    return table


def ended(sents: Sequence[Sent]) -> Table:
    """What finished tasks came to: the copy beside what was recognised on the photo, or else their results."""
    if any(attributes(sent) for sent in sents):
        return copies(sents)
    table = Table(box=box.SIMPLE_HEAD, title="Finished", title_justify="left", row_styles=("", "dim"))
    table.add_column("task", no_wrap=True)
    table.add_column("result", ratio=5)
    for sent in sents:
        if sent.state == "finished" and sent.row:
            told = json.dumps(sent.row["result"], ensure_ascii=False)
            table.add_row(escape(sent.task), escape(cut(told, MOST_RESULT)))
    return table


def copies(sents: Iterable[Sent]) -> Table:
    """The finished copy beside what was recognised on the photo."""
    table = Table(box=box.SIMPLE_HEAD, title="Finished copy", title_justify="left", row_styles=("", "dim"))
    table.add_column("product", no_wrap=True)
    table.add_column("attributes", ratio=2)
    table.add_column("copy", ratio=5)
    for sent in sents:
        if sent.state == "finished" and sent.row:
            found = ", ".join(f"{name} {value}" for name, value in attributes(sent).items())
            table.add_row(escape(sent.task), escape(found), escape(str(sent.row["result"].get("copy", ""))))
    return table


def stopped(sents: Iterable[Sent]) -> Table:
    """What moderation stopped and why, and what failed."""
    table = Table(box=box.SIMPLE_HEAD, title="Stopped", title_justify="left")
    table.add_column("product", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why", ratio=1)
    for sent in sents:
        if sent.state != "finished":
            row = sent.row or {}
            why = row.get("held") or (row.get("failure") or {}).get("message") or "it did not settle in time"
            table.add_row(escape(sent.task), _state(sent.state), escape(str(why)))
    return table


def rows(found: Sequence[Row[Any]], count: int, place: str) -> Table:
    """Rows of the catalogue as SQL has them."""
    title = f"Table catalogue in {escape(place)}: {count} rows"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("product", "language", "task", "step", "written", "text"):
        table.add_column(name, no_wrap=name != "text", overflow="ellipsis", max_width=60)
    for row in found:
        written = time.strftime("%H:%M:%S", time.localtime(row.written))
        table.add_row(
            *(escape(str(v)) for v in (row.product, row.language, row.task, row.step, written, row.text[:60]))
        )
    return table


def links(base: str, task: str, model: str | None) -> list[str]:
    """URLs to open, with what they show."""
    found = [
        f"{base}/tables — the tables, page by page",
        f"{base}/v1/tasks/{task} — one task with its steps",
        f"{base}/reviews — what waits for a person",
        f"{base}/metrics — metrics",
    ]
    return [*found, f"{model}/stub/report — what the model server has seen"] if model else found


def _progress_row(sent: Sent) -> tuple[str, ...]:
    row = sent.row or {}
    steps, following = row.get("steps", ()), row.get("next")
    at = f"{following['step']} …" if following else steps[-1]["step"] if steps else ""
    took = duration(max(0.0, row["updated"] - row["created"])) if "updated" in row else ""
    return (
        escape(sent.task),
        escape(str(sent.order.line.input.get("title", ""))[:36]),
        f"[dim]{'●' * len(steps)}[/] {escape(at)}",
        _state(sent.state if row else "sent"),
        took,
    )


def _state(state: str) -> str:
    return f"[{COLOURS.get(state, 'cyan')}]{escape(state)}[/]"
