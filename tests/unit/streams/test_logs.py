"""Logs: one bounded line an event, with its task, without secrets, and the same line not a thousand times."""

import ast
import asyncio
import io
import json
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiokafka
import pytest

from callstream.streams.logs import RECONNECTING, LogOptions, bind, bound, dict_config, redact, setup

LOG = logging.getLogger("callstream.test")


class Lines:
    """What was logged, as the lines of a stream."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.StringIO()
        setup(LogOptions(**{"format": "json", **options}), self.stream)

    def texts(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.texts()]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


LOST = ("Unable connect to node with id %s: %s", "Failed fetch messages from %s: %s")


def test_a_lost_connection_of_the_client_is_a_warning_and_told_a_few_times() -> None:
    lines = Lines(repeats=3)
    for node in range(20):
        for said in LOST:
            logging.getLogger("aiokafka.consumer.fetcher").error(said, node, "refused")
    logging.getLogger("aiokafka.consumer.fetcher").error("Unexpected error in fetcher routine")
    logging.getLogger("callstream.test").error(LOST[0], 1, "refused")
    told = [(line["level"], line["message"][:24]) for line in lines.objects()]
    assert told[:6] == [
        ("warning", said[:24]) for _ in range(3) for said in ("Unable connect to node w", "Failed fetch messages fr")
    ]
    assert told[6:] == [("error", "Unexpected error in fetc"), ("error", "Unable connect to node w")]


def test_a_lost_connection_is_not_told_where_only_errors_are() -> None:
    lines = Lines(level="error")
    logging.getLogger("aiokafka.client").error(LOST[0], 1, "refused")
    assert lines.texts() == []


def test_aiokafka_still_says_what_is_taken_for_a_lost_connection() -> None:
    folder = Path(aiokafka.__file__).parent
    sources = (file.read_text() for file in folder.rglob("*.py"))
    said = {node.value for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert said >= RECONNECTING


def test_a_line_says_when_who_what_and_about_which_task() -> None:
    lines = Lines()
    with bind(task="mug-1", trace="ab" * 16), bind(service="infer"):
        LOG.info("called %s", "model", extra={"tokens": 12})
    LOG.info("outside")
    first, second = lines.objects()
    assert first["time"].endswith("+00:00")
    assert {k: first[k] for k in first if k != "time"} == {
        "level": "info",
        "logger": "callstream.test",
        "message": "called model",
        "task": "mug-1",
        "trace": "ab" * 16,
        "service": "infer",
        "tokens": 12,
    }
    assert "task" not in second


async def test_fields_follow_a_task_and_leave_no_trace_in_others() -> None:
    seen: dict[str, Any] = {}

    async def work(name: str) -> None:
        with bind(task=name):
            await asyncio.sleep(0)
            seen[name] = dict(bound())

    await asyncio.gather(work("a"), work("b"))
    assert seen == {"a": {"task": "a"}, "b": {"task": "b"}}
    assert bound() == {}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("{'authorization': 'Bearer abcdef'}", "abcdef"),
        ("api_key=supersecret&x=1", "supersecret"),
        ('"api-key": "supersecret"', "supersecret"),
        ("postgresql://user:hunter22@db/x", "hunter22"),
        ("key sk-abcdefghijk used", "abcdefghijk"),
        ("whsec_MfKQ9r8GKYqrTwjU", "MfKQ9r8GKYqrTwjU"),
        ("aws_secret_access_key=abcSECRET10", "abcSECRET10"),
        ("CLIENT-TOKEN: 'abcdefgh'", "abcdefgh"),
        ("postgresql+asyncpg://u:p@ssabc15@h/db", "ssabc15"),
        ("Cookie: session=abcdef; theme=dark12", "dark12"),
        ("xoxb-123456789-abcdef", "123456789"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
        ("token eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSM", "eyJzdWIiOiIxMjM0"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabcd\n-----END RSA PRIVATE KEY-----", "MIIEow"),
    ],
)
def test_secrets_are_masked(text: str, secret: str) -> None:
    lines = Lines()
    assert secret not in redact(text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        LOG.exception("failed: %s", text, extra={"note": text})
    assert secret not in lines.stream.getvalue()


def test_ordinary_text_is_left_alone() -> None:
    for text in (
        "token counts: 12 in, 30 out; see http://127.0.0.1:8000/v1/tasks",
        "max_tokens: 3000, a secretary, cookies are tasty, write to kim@example.com",
        "http://127.0.0.1:8000/v1/tasks/a@b",
    ):
        assert redact(text) == text


@pytest.mark.parametrize("format_", ["json", "console"])
def test_no_line_is_longer_than_the_limit(format_: str) -> None:
    lines = Lines(format=format_, line_bytes=1024)
    with bind(**{f"field{n}": "猫" * 1000 for n in range(100)}):
        LOG.error("猫" * 10_000)
    try:
        raise ValueError("\x00" * 100_000)
    except ValueError:
        LOG.exception("boom")
    for line in lines.stream.getvalue().split("\n"):
        assert len(line.encode()) <= 1024
    if format_ == "json":
        assert [line["level"] for line in lines.objects()] == ["error", "error"]


def test_a_message_cannot_forge_a_line() -> None:
    json_lines = Lines()
    LOG.info('x\n{"level":"error"}')
    assert len(json_lines.texts()) == 1
    console = Lines(format="console")
    LOG.info("x\n12:00:00.000 ERROR forged")
    assert console.texts()[1].startswith("    ")


def test_bad_arguments_and_odd_text_do_not_end_the_caller() -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError

    lines = Lines()
    LOG.info("%d of %s", "x")
    LOG.info("half \ud800")
    LOG.info("rude", extra={"value": Rude(), "nan": float("nan")})
    assert len(lines.texts()) == 3


def test_the_same_line_is_not_repeated_but_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = Lines(repeats=2, repeat_seconds=10)
    for _ in range(50):
        LOG.warning("broker gone")
    with bind(task="other"):
        LOG.warning("broker gone")
    now[0] += 11
    LOG.warning("broker gone")
    found = lines.objects()
    assert [line.get("suppressed") for line in found] == [None, None, None, 48]


def test_talkative_loggers_are_quiet_at_info_and_errors_pass() -> None:
    lines = Lines(level="info")
    logging.getLogger("aiokafka.consumer.fetcher").info("noise")
    logging.getLogger("mode.Worker").info("noise")
    logging.getLogger("aiokafka.conn").error("kept")
    assert [line["message"] for line in lines.objects()] == ["kept"]


def test_the_console_line_reads_well() -> None:
    lines = Lines(format="console")
    with bind(task="mug-1"):
        LOG.warning("held", extra={"reason": "a word"})
    assert lines.texts()[0][13:] == 'WARNING callstream.test: held task=mug-1 reason="a word"'


def test_the_set_up_is_what_faust_takes() -> None:
    logging.config.dictConfig(dict_config(LogOptions(), io.StringIO()))
    assert len(logging.getLogger().handlers) == 1
