"""Writes docs/reference from the code: settings, topics and tables, commands. Run it after a change of any of them.

python docs/make_reference.py
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from callstream.cli.commands import app
from callstream.settings.gather import bare
from callstream.settings.model import Settings
from callstream.streams import topics
from callstream.streams.declare import plan, tables_of
from callstream.streams.event import TASK_HELD, Body, End, Event, Submission
from callstream.streams.loading import load_chains
from callstream.streams.topics import changelog_of, topic_of
from callstream.streams.wire import encode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
EXAMPLE = ROOT / "examples" / "product-copy" / "chain.py"
NOTE = "<!-- written by docs/make_reference.py: change the code and run it -->\n"

ON_TOPIC = {
    topics.INTAKE: ("tasks as they were handed in (sequence 0)", "intake, gateway"),
    topics.TIMER: (
        "events for later: retries after a long pause, tasks with `run_at`; headers below",
        "timer, gateway",
    ),
    topics.REVIEW: ("held tasks: `body.held` says why", "review, gateway"),
    topics.VERDICTS: ("what people decided about held tasks", "review"),
    topics.SCHEDULES: ("commands to schedules: set, pause, resume, trigger, remove", "schedule"),
    topics.FINISHED: ("tasks that have ended: `body.end`, `body.result`, `body.failure`", "notify, gateway"),
    topics.PAUSED: ("events whose task, chain or tenant is paused, on their way to table `paused`", "paused"),
    topics.NOTIFY: ("ends of tasks whose callers are to be told once more", "notify"),
    topics.NOTIFIED: (
        "remarks about tasks: a part of an answer, what a review said, a missing version, a callback's delivery",
        "gateway",
    ),
    topics.DEAD: ("what could not be done or read, with the reason and the attempts", "gateway"),
    topics.ALARMS: (
        "alarms that rang and that are over: [alarms](../guide/alarms.md)",
        "notify, gateway",
    ),
    topics.REDRIVES: ("what people decided about dead letters", "gateway"),
}
IN_TABLE = {
    topics.SEEN: "what was decided about each submission: digest, version, start, deadline",
    topics.REVIEWS: "held tasks and their verdicts",
    topics.TIMERS: "records that wait for their time, in the order of when they are due",
    topics.TASKS: "each task as the status API shows it",
    topics.LETTERS: "dead letters, their events, and jobs that redrive many of them",
    topics.LATENCY: "latency windows: 1 min, 10 min, 1 h, a step and model",
    topics.USAGE: "what model calls took and cost, a day, tenant, chain, endpoint, model and currency",
    topics.PROFILES: "what is known about users; a GlobalTable, filled from outside through its changelog",
    topics.SPENDING: "what was spent of each account's limits within their windows, by partition",
    topics.PAUSED: "events whose task, chain or tenant is paused, until that ends",
    topics.PARKED: "events put aside, so that those of other tenants and pools behind them are reached",
    topics.JOINS: "tasks at a join, what their sub-tasks gave, and what is due",
    topics.SCHEDULES: "each schedule: what it hands in, when it is due; every gateway reads its changelog",
    topics.RECEIPTS: "receipts of model calls and what else steps remember; of each service with a step that remembers",
}
IN_HEADER = {
    "ce_specversion": "CloudEvents version",
    "ce_id": "task key, sequence, attempt (and run): the same whenever the same step of the same task is told of",
    "ce_source": "who wrote it; any is read",
    "ce_type": "`callstream.task`, or that with `.held`, `.waiting`, `.undo`, `.notified`, `.dead`, `.finished`, …",
    "ce_subject": "the task's id",
    "ce_time": "when the task was accepted",
    "ce_partitionkey": "the record's key: tenant and id, length-prefixed",
    "ce_sequence": "which step is next: 0 is intake",
    "ce_tenant": "whose task it is",
    "ce_chain": "its chain",
    "ce_chainversion": "the version it started on; 0 before intake",
    "ce_priority": "high, normal or low",
    "ce_attempt": "from 1",
    "ce_run": "how often the task was taken up again after it had failed; left out of its first run",
    "ce_expirytime": "its deadline, if it has one",
    "ce_runat": "when its first step may start, if that was asked for",
    "ce_traceparent": "W3C trace context, if it has one",
    "callstream-due": "on `callstream.timer`: when it is due, microseconds since 1970",
    "callstream-destination": "on `callstream.timer`: the topic that it is for",
    "callstream-type": "on `callstream.timer`: its `ce_type` there",
    "ce_parent": "of a replay: the task that it replays",
    "ce_inherited": "of a replay: how many hops of its trail are that one's",
    "ce_reuses": "of a replay: whose paid answers it takes",
    "ce_sandbox": "`true`: no step is to have an effect outside",
    "content-type": "the body is JSON; `application/cloudevents+json` (structured mode) is read too",
}
IN_BODY = {
    "submission": "chain, input and callback as handed in; after intake the input as the chain's model has it",
    "digest": "SHA-256 of the submission, hex: two submissions are the same if it is",
    "outputs": "each step's output, by the step's name",
    "trail": "what was done: step, service, times, attempts, usage, notes",
    "end": "finished, rejected, failed or cancelled, once it has ended",
    "failure": "kind, message, step, traceback",
    "generation": "grows when answers that were paid for may not be used again: its input was edited, say",
    "burial": "of a dead letter: the record that it came on, and each attempt that failed",
    "held": "why it is held",
    "waiting": "why the timer has it, until when, and what was tried of its step so far",
    "result": "what the caller gets, once it is finished",
    "undoing": "of a task on its way back: the step that is undone next, and the end that it comes to",
    "additions": "members that a newer program wrote and this one does not know; passed on as they are",
}

ABOUT_SETTINGS = """\
A key's variable has two underscores for each dot. `NAME` is a name of your own, `N` an index from 0. How they are
read, and which wins: [running](../guide/running.md). What is in force: `callstream settings`.
"""
ABOUT_TOPICS = """\
Every topic has the same number of partitions, and a task's key has the same partition in all (murmur2, as Kafka's own
clients choose). A step that names a service `translate` adds the topic `callstream.translate`, read by `translate` and
the gateway; a chain with a join has `callstream.join`: tasks that wait there, and the ends of their sub-tasks. The
consumer group of a service is `callstream-NAME`.
"""
ABOUT_COMMANDS = """\
The same by `python -m callstream`. An error is one line on standard error and exit code 1; `--debug` before the command
shows where it came from."""
ABOUT_BODY = """\
A body over 256 KiB is in the blob store: the value is empty and `ce_dataref` names it. Up to 16 other `ce_` headers,
of a newer program or of your own, are passed on as they are; ours are `ce_subtaskof` (whose sub-task or shadow it is),
`ce_join` (where the end of a sub-task is told), `ce_subtasks` (how many it waits for), `ce_shadow` (the step of a copy)
and `ce_missingsince` (since when its version is missing); headers without `ce_` are ignored. The body is a JSON
object; what is empty is left out:
"""
ABOUT_HANDING_IN = """\
## To hand in a task by Kafka

Send to `callstream.intake` a record with `ce_specversion`, `ce_id`, `ce_source`, `ce_type`, `ce_subject`, `ce_tenant`
and `ce_chain`, and a body of `submission` and `digest`: the SHA-256, hex, of the JSON of `{"callback", "chain",
"input"}` with sorted keys, no spaces, and non-ASCII as it is. Key and partition are put right if they are not;
`callstream produce --kafka` does it all. The id has 1 to 128 letters, digits, `.`, `_` or `-`, a letter or digit
first: one with `~`, as sub-tasks, replays and shadow copies have it, is a dead letter; the task of that id goes on."""


def settings_page() -> str:
    """Every setting with its type, default, bounds and variable."""
    parts = [
        f"# Settings\n{NOTE}",
        ABOUT_SETTINGS,
    ]
    schema = Settings.model_json_schema()
    parts += ["## At the top\n", *_table(Settings, schema, schema, "")]
    for name, field in Settings.model_fields.items():
        inner, path = _member(field, name)
        if inner is not None:
            parts += _section(inner, path, field.description or "", schema)
    return "\n".join(parts) + "\n"


def setting_keys() -> Iterator[str]:
    """Every dotted key, with NAME and N where names and indexes stand."""
    yield from (key for key, _ in _walk(Settings, ""))


def topics_page() -> str:
    """Topics, groups, tables and how a record looks."""
    chains = load_chains([f"{EXAMPLE}:chain"])
    plans = plan(chains, 8, 1, 7 * 24 * 3600.0)
    names = {each.name: each for each in plans if not topics.is_changelog(each.name)}
    lines = [f"# Topics and tables\n{NOTE}", "As they are for the chain `product-copy`.\n", "## Topics\n"]
    lines += ["| topic | what stands on it | read by | cleanup |", "| --- | --- | --- | --- |"]
    for name, each in names.items():
        service = name.removeprefix(topic_of(""))
        what, readers = ON_TOPIC.get(service, (f"tasks about to take a step on `{service}`", f"{service}, gateway"))
        lines.append(f"| `{name}` | {what} | {readers} | {'compact' if each.compacted else 'delete'} |")
    lines += [
        "",
        ABOUT_TOPICS,
        "## Tables\n",
        "| table | service | row | changelog |",
        "| --- | --- | --- | --- |",
    ]
    for service, table in tables_of(chains):
        lines.append(f"| `{table}` | {service} | {IN_TABLE[table]} | `{changelog_of(service, table)}` |")
    return "\n".join([*lines, "", *_record()]) + "\n"


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = [
        f"# Commands\n{NOTE}",
        ABOUT_COMMANDS,
    ]
    for words, command in commands():
        lines += ["", f"## `callstream {words}`\n", (command.help or "").strip().split("\f")[0]]
        rows = [row for parameter in command.params for row in _parameter(parameter)]
        if rows:
            lines += ["", "| | | default |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, under the words that call it; typer brings a click of its own, so: Any."""
    yield from _below(typer.main.get_command(app), "")


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield f"{words}{name}", command
            yield from _below(command, f"{words}{name} ")
        else:
            yield f"{words}{name}", command


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    return {"settings.md": settings_page(), "topics.md": topics_page(), "commands.md": commands_page()}


def _section(model: type[BaseModel], key: str, about: str, schema: Mapping[str, Any]) -> list[str]:
    table = _table(model, schema["$defs"][model.__name__], schema, key)
    lines = [f"\n## `{key}`\n", f"{about[:1].upper()}{about[1:]}.\n" if about else "", *table] if table else []
    for name, field in model.model_fields.items():
        inner, path = _member(field, f"{key}.{name}")
        if inner is not None:
            lines += _section(inner, path, (field.description or "").rstrip("."), schema)
    return lines


def _table(model: type[BaseModel], own: Mapping[str, Any], schema: Mapping[str, Any], key: str) -> list[str]:
    lines = ["| setting | | default | allowed |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        path = f"{key}.{name}" if key else name
        if _member(field, path)[0] is not None:
            continue
        about = (field.description or "").replace("|", "\\|")
        default = _default(path, field)
        lines.append(f"| `{path}` | {about} | {default} | {_allowed(own['properties'][name], schema)} |")
    return lines if len(lines) > 2 else []


def _member(field: FieldInfo, path: str) -> tuple[type[BaseModel] | None, str]:
    """The model below a field, if it has one, and the path of its members."""
    inner = bare(field.annotation)
    origin, arguments = get_origin(inner), get_args(inner)
    if origin is dict:
        inner, path = bare(arguments[1]), f"{path}.NAME"
    elif origin in (tuple, list):
        inner, path = bare(arguments[0]), f"{path}.N"
    return (inner, path) if isinstance(inner, type) and issubclass(inner, BaseModel) else (None, path)


def _walk(model: type[BaseModel], key: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        path = f"{key}.{name}" if key else name
        yield path, field
        inner, below = _member(field, path)
        if inner is not None:
            yield from _walk(inner, below)
        elif below != path or get_origin(bare(field.annotation)) is dict:
            yield below, field


def _default(path: str, field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    if field.default_factory is not None and (told := (field.default_factory.__doc__ or "")).count("`"):
        return told.partition(":")[2].strip().rstrip(".").replace("\n", " ")
    value: Any = _defaults()
    for part in path.split("."):
        value = getattr(value, part, None)
        if value is None:
            value = field.get_default(call_default_factory=True)
            break
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "–" if value in (None, (), {}, "") else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return (
        getattr(value, "name", str(value)).lower()
        if hasattr(value, "name") and not isinstance(value, Path)
        else str(value)
    )


def _allowed(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """Type and bounds, from the JSON schema."""
    if "$ref" in schema:
        return _allowed(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        return " or ".join(_allowed(each, whole) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    kind = {"integer": "whole number", "number": "number", "boolean": "true, false", "array": "list", "object": "table"}
    said = [kind.get(schema.get("type", ""), "path" if schema.get("format") == "path" else "text")]
    low, high = schema.get("minimum"), schema.get("maximum")
    said += [f"≥ {low:,}"] if low is not None else []
    said += [f"> {schema['exclusiveMinimum']:,}"] if "exclusiveMinimum" in schema else []
    said += [f"≤ {high:,}"] if high is not None else []
    said += [f"at most {schema['maxItems']:,}"] if "maxItems" in schema else []
    said += [f"at most {schema['maxProperties']:,}"] if "maxProperties" in schema else []
    return ", ".join(said)


def _defaults() -> Settings:
    """The settings where nothing is set."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("CALLSTREAM_")}
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        for name in ours:
            del os.environ[name]
        try:
            return Settings()
        finally:
            os.environ.update(ours)


def _record() -> list[str]:
    """Headers and body of a record."""
    body = Body(submission=Submission(chain="product-copy", input={}), digest="0" * 64, end=End.FINISHED)
    trace = f"00-{'0' * 31}1-{'0' * 15}1-01"
    event = Event("acme", "mug-1", "product-copy", 1, 3, body, deadline=60.0, traceparent=trace, type=TASK_HELD)
    event = replace(event, parent="mug-0", inherited=2, reuses="mug-0", sandbox=True)
    headers = {name: value.decode() for name, value in encode(event, "").headers}
    lines = ["## A record\n", "CloudEvents 1.0, Kafka binding, binary mode. Headers:\n"]
    lines += ["| header | example | what |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | `{value}` | {IN_HEADER[name]} |" for name, value in headers.items()]
    lines += [
        "",
        ABOUT_BODY,
        "| member | what |",
        "| --- | --- |",
        *(f"| `{name}` | {IN_BODY[name]} |" for name in Body.model_fields),
        "",
        ABOUT_HANDING_IN,
    ]
    return lines


def _parameter(parameter: Any) -> list[str]:
    if parameter.param_type_name == "option":
        names = ", ".join(parameter.opts)
        about = parameter.help or ""
        given = parameter.default
    else:
        names, about, given = (
            (parameter.metavar or parameter.name or "").strip("[]."),
            getattr(parameter, "help", None) or "",
            None,
        )
    default = "" if given is None or given is False or callable(given) or given in ((), []) else f"`{given}`"
    return [f"| `{names}` | {about} | {default} |"]


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
