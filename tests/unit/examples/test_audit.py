"""The audit reads callstream's records and knows nothing else of it."""

import ast
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from callstream.streams.event import End, Failure, Hop, Usage
from callstream.streams.wire import Record, encode
from tests.support.events import an_event
from tests.unit.examples.conftest import EXAMPLES

SCRIPT = EXAMPLES / "audit" / "audit.py"
SPENT = Hop(step="copy", service="infer", started=1, ended=2, usage=Usage(model="m", tokens_in=400, tokens_out=12))


def audited(record: Record) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = SimpleNamespace(topic=record.topic, partition=2, offset=17, headers=record.headers, value=record.value)
    return dict(module.line_of(found))


def test_it_imports_nothing_of_callstream() -> None:
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == {
        *("aiokafka", "argparse", "asyncio", "json", "signal", "sys", "typing")
    }


def test_an_end_is_told_with_its_tokens_and_its_failure() -> None:
    failure = Failure(kind="bug", message="secret")
    ended = an_event(trail=(SPENT,), end=End.FAILED, failure=failure, type="callstream.task.failed")
    assert audited(encode(ended, "callstream.finished")) == {
        "topic": "callstream.finished",
        "partition": 2,
        "offset": 17,
        "id": "4:acme:mug-1/1/1",
        "type": "callstream.task.failed",
        "tenant": "acme",
        "subject": "mug-1",
        "chain": "shop",
        "tokens": 412,
        "failure": "bug",
    }


@pytest.mark.parametrize(
    ("value", "more", "told"),
    [(b"", [("ce_dataref", b"blob:1")], "blob:1"), (b"no json", [], "unread"), (b"[]", [], "unread")],
)
def test_what_it_cannot_read_has_its_line_too(value: bytes, more: list[tuple[str, bytes]], told: str) -> None:
    record = encode(an_event(), "callstream.intake")
    line = audited(Record(record.topic, record.key, value, [*record.headers, *more]))
    assert (line["subject"], line["body"]) == ("mug-1", told)
