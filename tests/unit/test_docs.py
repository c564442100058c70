"""What the documents say is so: their code runs, and each command, setting, route, file and test they name is there."""

import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from callstream.agents.actor import Actor
from callstream.agents.alarms.board import Board
from callstream.agents.alarms.collector import AlarmCollector
from callstream.agents.alarms.webhooks import AlarmWebhooks
from callstream.agents.delivery.metrics import SinkMetrics
from callstream.agents.fakes import FakeDelivery, FakePorts, stream
from callstream.agents.inference.call import Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import build_model
from callstream.agents.intake import Intake
from callstream.agents.notification import NotifyOptions
from callstream.agents.notification.sender import Sender
from callstream.agents.retry_collector import RetryCollector
from callstream.agents.steps import StepRole
from callstream.agents.tools import Tools
from callstream.settings import Settings
from callstream.settings.gather import NOT_SETTINGS
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import Event, Submission
from callstream.streams.loading import load_chains
from callstream.streams.submission import Order, new_event
from callstream.streams.topics import INTAKE, topic_of
from callstream.streams.wire import decode, encode
from callstream.web.app import build_web
from callstream.web.fake import FakePort
from callstream.web.metrics import Metrics
from callstream.web.options import WebOptions
from callstream.web.tasks import TaskRequest

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "DESIGN.md", "CONTRIBUTING.md", "benchmarks/README.md", "docker/README.md")
PAGES = sorted(
    {*(ROOT / name for name in TOP), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")}
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TEST = re.compile(r"\[`(test_\w+)`\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"\bCALLSTREAM_[A-Z][A-Z0-9_]*[A-Z0-9]")
UNITS = re.compile(r"(?!test_|callstream_)[a-z_]+_(?:hours|seconds|bytes|records|processes|unfinished)")
CALLED = re.compile(r"(?:\$ )?(?:python -m )?callstream ([a-z].*)")
ROUTE = re.compile(r"\b(GET|POST) (/[^\s?`,|]*)")
BEYOND_SETTINGS = {
    "timeout_seconds",
    "first_pause_seconds",
    "longest_pause_seconds",
    "after_seconds",
    "deadline_seconds",
    "expected_seconds",
    "delay_seconds",
    "due_seconds",
    "within_seconds",
}


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load_maker()


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, info: str) -> list[str]:
    """The fenced blocks of a page whose info string is that."""
    return [body for given, body in FENCE.findall(text_of(name)) if given.strip() == info]


def code(name: str) -> Iterator[str]:
    """Everything a page shows as code, line by line with continuations joined, but no Python and no TOML."""
    text = text_of(name)
    for info, body in FENCE.findall(text):
        if info.split()[:1] not in (["python"], ["toml"]):
            yield from body.replace("\\\n", " ").splitlines()
    prose = FENCE.sub("", text)
    yield from (line.strip() for line in prose.replace("\\\n", " ").splitlines() if line.startswith("    "))
    yield from INLINE.findall(prose)


def test_pages_are_found() -> None:
    assert len(PAGES) > 15


@pytest.mark.parametrize("name", [name for name in NAMES if "```python" in text_of(name)])
def test_python_runs_as_it_stands(name: str) -> None:
    # Given the blocks of a page, when they are run one after another, as a reader would, then nothing is raised.
    space: dict[str, Any] = {"__name__": "docs"}
    assert blocks(name, "python") == [], "mark it: ```python run"
    for number, block in enumerate(blocks(name, "python run"), start=1):
        exec(compile(block, f"{name}, block {number}", "exec"), space)


async def run_through(chain: Chain, given: dict[str, Any], model: ScriptedModel) -> Event:
    """A task taken from step to step by the real actor, until its event is on a topic that takes no step."""
    chains = Chains([chain])
    event = new_event(Submission(chain=chain.name, input=given), Order("acme", "t-1"), 1.0)
    record = encode(event, topic_of(INTAKE))
    while (service := record.topic.removeprefix(topic_of(""))) in (INTAKE, *chains.services()):
        ports = FakePorts()
        role: Intake | StepRole = Intake(chains, ports.now)
        if service != INTAKE:
            role = StepRole(service, chains, any(step.remembers for step in chains.steps_of(service)))
            await role.open(cast(Tools, SimpleNamespace(model=model)))
        actor = Actor(role, ports, chains, concurrency=1, max_unfinished=1)
        await actor.run(stream([FakeDelivery(record, (0, 0))]))
        assert await actor.drain(5)
        assert ports.crashes == []
        record = ports.sent[-1]
    return decode(record.value, [*record.headers])


async def test_the_chain_of_the_readme_does_what_it_says() -> None:
    # Given the chain as the README has it
    space: dict[str, Any] = {"__name__": "letters"}
    exec(blocks("README.md", "python run")[0], space)
    # when a letter, and one that speaks of a lawyer, are answered
    letter = {"customer": "Kim", "text": "Where is my mug?"}
    ended = await run_through(space["chain"], letter, ScriptedModel([Reply("It is on its way.")]))
    held = await run_through(
        space["chain"], letter | {"text": "My lawyer asks"}, ScriptedModel([Reply("We are sorry.")])
    )
    # then the one has its answer and the other waits for a person
    assert ended.body.result == {"text": "Dear Kim,\n\nIt is on its way.\n\nYours, the shop"}
    assert held.body.held == "the letter speaks of a lawyer"
    assert held.body.outputs["sign"] == {"text": "Dear Kim,\n\nWe are sorry.\n\nYours, the shop"}


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_there(name: str) -> None:
    known = dict(MAKER.commands())
    for line in code(name):
        called = CALLED.match(line.strip())
        if called is None:
            continue
        words = shlex.split(re.split(r"\s(?:#|&|\||>)", called[1])[0])
        for command in [
            " ".join(words[:3]),
            *(f"{words[0]} {each}" for each in words[1:2] for each in each.split("|")),
            " ".join(words[:1]),
        ]:
            if command in known:
                parameters = known[command].params
                options = {option for one in parameters for option in (*one.opts, *one.secondary_opts)}
                used = {word.partition("=")[0] for word in words if word.startswith("--")}
                assert used <= options | {"--help"}, line
                break
        else:
            pytest.fail(f"there is no such command: {line}")


def keys() -> list[re.Pattern[str]]:
    """Every setting, and everything that has settings below it, as a pattern: names and indexes open."""
    open_parts = {"NAME": r"[A-Za-z0-9_-]+?", "N": r"(?:\d+|N)"}
    paths = {tuple(parts[:end]) for key in MAKER.setting_keys() if (parts := key.split(".")) for end in range(1, 9)}
    return [re.compile(r"\.".join(open_parts.get(part, re.escape(part)) for part in path)) for path in paths]


KEYS = keys()
SECTIONS = {key.split(".")[0] for key in MAKER.setting_keys() if "." in key}
LAST = {key.split(".")[-1] for key in MAKER.setting_keys()}


def is_setting(key: str) -> bool:
    return any(pattern.fullmatch(key) for pattern in KEYS)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_there(name: str) -> None:
    text = text_of(name)
    for variable in VARIABLE.findall(text):
        if variable not in NOT_SETTINGS:
            assert is_setting(variable.removeprefix("CALLSTREAM_").lower().replace("__", ".")), variable
    for span in INLINE.findall(text):
        dotted = re.match(r"[a-z_]+(?:\.[A-Za-z0-9_-]+)+", span)
        if dotted is not None and dotted[0].split(".")[0] in SECTIONS:
            assert is_setting(dotted[0]), span
        if UNITS.fullmatch(span):
            assert span in LAST | BEYOND_SETTINGS, span


@pytest.mark.parametrize("name", [name for name in NAMES if blocks(name, "toml")])
def test_toml_is_settings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(name, "toml"):
        settings = Settings(**tomllib.loads(block))
        assert settings.model_fields_set


def test_an_endpoint_and_its_key_can_be_set_by_variables_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given the variables that the README sets for a real model
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"export (CALLSTREAM_INFERENCE\w+)='?([^'\n]+)'?", text_of("README.md"))
    for variable, value in shown:
        monkeypatch.setenv(variable, value)
    # when they are read, then the pool has its endpoint and its key
    (endpoint,) = Settings().inference.pools["copywriter"].endpoints
    assert endpoint.base_url == "https://open.bigmodel.cn/api/paas/v4"
    assert endpoint.api_key == SecretStr("…")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    here = (ROOT / name).parent
    for target in LINK.findall(FENCE.sub("", text_of(name))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        found = (here / path).resolve() if path else ROOT / name
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if heading:
            assert heading in anchors(found), target


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_tests_that_prove_something_are_there(name: str) -> None:
    for test, target in TEST.findall(text_of(name)):
        path = ((ROOT / name).parent / target).resolve()
        assert f"def {test}(" in path.read_text("utf-8"), f"{test} in {target}"


def test_every_guarantee_has_its_proof() -> None:
    table = text_of("README.md").partition("## Guarantees")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 15
    assert [row for row in rows if not TEST.search(row)] == []


@pytest.fixture(scope="module")
def routes() -> set[tuple[str, str]]:
    chains = Chains([])
    app = build_web(FakePort(chains, lambda: 0.0), WebOptions(), chains)
    found = ((route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None)
    return {(method, path) for method, path in found if method != "HEAD"}


def is_route(method: str, path: str, routes: set[tuple[str, str]]) -> bool:
    patterns = (re.sub(r"\{\w+\}", "[^/]+", known) for allowed, known in routes if allowed == method)
    return any(re.fullmatch(pattern, path) for pattern in patterns)


@pytest.mark.parametrize("name", NAMES)
def test_routes_are_there(name: str, routes: set[tuple[str, str]]) -> None:
    for method, path in ROUTE.findall(text_of(name)):
        assert is_route(method, path, routes), f"{method} {path}"


def test_every_route_is_in_the_readme(routes: set[tuple[str, str]]) -> None:
    named = text_of("README.md").partition("## Over HTTP")[2].partition("\n## ")[0]
    files = {"/static/{name}", "/favicon.ico"}
    assert {path for _, path in routes if f"`{path}`" not in named and f" {path}`" not in named} == files


def curls() -> Iterator[tuple[str, str, str | None]]:
    """Every curl of every page: its line, its path, and its JSON if it sends some."""
    for name in NAMES:
        for line in code(name):
            if line.startswith("curl ") and (url := re.search(r"(?:localhost|127\.0\.0\.1):8420(/[^\s\"'?]*)", line)):
                sent = re.search(r" -d '([^']*)'", line)
                yield line, url[1], sent[1] if sent else None


def test_what_curl_sends_is_taken(routes: set[tuple[str, str]]) -> None:
    files = [
        path
        for path in sorted((ROOT / "examples").glob("*/*.py"))
        if re.search(r"^chain\b.*=", path.read_text(), re.MULTILINE)
    ]
    chains = load_chains([f"{path}:chain" for path in files])
    seen = 0
    for line, path, sent in curls():
        named = re.search(r"-X (\w+)", line)
        method = named[1] if named else "POST" if sent or "--data-binary" in line else "GET"
        assert is_route(method, path, routes), line
        if sent is None:
            continue
        seen += 1
        body = json.loads(sent)
        if path == "/v1/tasks":
            TaskRequest.model_validate(body)
        if "input" in body:
            chains.current(body["chain"]).validate_input(body["input"])
    assert seen > 3


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_there(name: str) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    one = {"name": "a", "base_url": "http://127.0.0.1:1/v1", "model": "m", "limits": {"requests_per_day": 1}}
    options = InferenceOptions.model_validate({"pools": {"writer": {"endpoints": [one]}}})
    build_model(options, registry=registry)
    SinkMetrics(registry)
    registry.register(RetryCollector({}))
    registry.register(AlarmCollector(Board()))
    AlarmWebhooks((), NotifyOptions(), Sender(NotifyOptions()), registry)
    known = {metric.name for metric in registry.collect()}
    named = {each.removesuffix("_total") for each in re.findall(r"`(callstream_\w+)[`{]", text_of(name))}
    assert named <= known


@pytest.mark.parametrize("page", ["settings.md", "topics.md", "commands.md"])
def test_the_reference_is_what_the_code_says(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSTREAM_PARTITIONS", "3")
    written = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    assert MAKER.pages()[page] == written, "out of date: python docs/make_reference.py"


@pytest.mark.parametrize("name", NAMES)
def test_no_page_knows_this_machine(name: str) -> None:
    assert not re.search(r"/root/|/home/\w|/work/|/tmp/", text_of(name))
