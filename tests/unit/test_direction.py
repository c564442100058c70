"""The direction of imports, who may use which library, and which modules are pure: read from the syntax trees alone."""

import ast
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ORDER = ("streams", "tables", "agents", "callstream.web", "callstream")

# Who may use a library; a name covers what lies under it. A new entry is a decision: its commit says why.
ONLY = {
    "faust": """
        streams.engine streams.in_a_row streams.monitor streams.transport tables.durable tables.profiles tables.recovery
        agents.hosting callstream.app
    """,
    "aiokafka": """
        streams.broadcast streams.broker streams.cluster streams.compacted streams.declare streams.engine streams.lag
        streams.records streams.replay streams.tail streams.transport callstream.cli
    """,
    "aiohttp.Client*": """
        agents.inference agents.delivery agents.notification callstream.cli
        callstream.web.peers callstream.web.proxy callstream.web.relay
    """,
    "jaeger_client": "streams.tracing",
    "rocksdict": "",
}

# What these decide depends on their arguments alone: no I/O, no clock, no chance.
PURE = """
    streams.keys streams.strict_json streams.event streams.findings streams.outcome streams.chain streams.wire
    streams.ledger
    streams.money streams.spend tables.usage agents.inference.price agents.inference.bill
    streams.errorclass streams.letters streams.retry_budget streams.routes streams.steady streams.submission
    streams.edits streams.review streams.timespent streams.timing streams.topics streams.ownership streams.watchdog
    streams.broker.maven streams.broker.properties
    agents.alarms.incident agents.alarms.judge agents.alarms.sightings agents.alarms.windows
    streams.expressions tables.copies tables.latency tables.letters tables.tasks tables.timers
    agents.letters.commands agents.letters.merge agents.letters.parts agents.letters.redrive
    agents.control.ancestry agents.control.commands agents.control.controls
    streams.replay.lineage streams.replay.selection streams.replay.where
    agents.delivery.rows agents.delivery.sink agents.delivery.topic_sink agents.delivery.versions
    agents.joining.fold agents.joining.step agents.joining.subtasks agents.rollback
    agents.bodiless agents.guidance agents.inference.data agents.inference.schema agents.inference.shaped
    agents.moderation.judge agents.moderation.parts
    agents.review.audit agents.review.decide agents.review.fold agents.review.lease
    agents.review.outcome agents.review.remark agents.review.said agents.settle agents.shadow agents.versions
    agents.inference.answer agents.inference.call agents.inference.choice agents.inference.going_on
    agents.inference.admission.allowance agents.inference.admission.breaker agents.inference.admission.decide
    agents.inference.admission.fairness agents.inference.admission.line agents.inference.admission.pace
    agents.inference.admission.ratelimit
    agents.inference.admission.budgets agents.inference.admission.calendar agents.inference.admission.stopped
    agents.inference.admission.report agents.inference.admission.tokens agents.inference.admission.window
    agents.inference.fallback
    agents.inference.failures agents.inference.receipt agents.inference.receipts_state agents.inference.retry_after
    agents.moderation.matcher agents.moderation.normalise agents.notification.payload
    agents.prepare.attributes agents.prepare.colours agents.prepare.facts agents.prepare.language
    agents.prepare.profile agents.prepare.prompts agents.prepare.sandbox agents.prepare.template agents.prepare.terms
    agents.prepare.text agents.retrying agents.usual
    callstream.settings.explain callstream.settings.lines callstream.web.admission callstream.web.held
    callstream.web.rows
    callstream.stub.chance callstream.stub.chat callstream.stub.counters callstream.stub.errors callstream.stub.faults
    callstream.stub.latency callstream.stub.limits callstream.stub.moderation callstream.stub.prompt
    callstream.stub.reading callstream.stub.shaped callstream.stub.tokens callstream.stub.translation
    callstream.stub.vectors
    callstream.stub.witness callstream.stub.work callstream.stub.writer
"""
IMPURE = """
    aiohttp aiokafka asyncio concurrent faust logging multiprocessing obstore os random requests secrets shutil socket
    sqlalchemy subprocess tempfile threading time urllib.request uuid.uuid1 uuid.uuid4 builtins.input builtins.open
    builtins.print datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today
"""


def modules() -> dict[str, Path]:
    """Every module once, under the name the layout gives it (`streams.ledger`, `callstream.web.api`)."""
    found = [path for folder in ("streams", "tables", "agents") for path in (ROOT / folder).rglob("*.py")]
    found += [
        path for path in (ROOT / "callstream").rglob("*.py") if path.resolve().is_relative_to(ROOT / "callstream")
    ]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in found}


def uses(path: Path) -> tuple[set[str], set[str]]:
    """The names a module imports, and what it reaches through them or calls (`datetime.datetime.now`), each in full."""
    nodes, local = list(ast.walk(ast.parse(path.read_bytes()))), dict[str, str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            local |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            local |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    chains = {ast.unparse(node).partition(".") for node in nodes if isinstance(node, ast.Attribute | ast.Name)}
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    reached = {f"{local[head]}.{rest}" for head, _, rest in chains if head in local}
    return set(local.values()), reached | {f"builtins.{name}" for name in calls - set(local)}


def within(name: str, prefixes: str) -> bool:
    return any(fnmatch(name, prefix) or fnmatch(name, f"{prefix}.*") for prefix in prefixes.split())


MODULES = modules()
USES = {name: uses(path) for name, path in MODULES.items()}
PATHS = {name if within(name, "callstream") else f"callstream.{name}": name for name in MODULES}


def neighbours(name: str) -> set[str]:
    """The modules of ours that a module imports; the version is anyone's to name."""
    names = USES[name][0] - {"callstream.__version__"}
    return {PATHS.get(full) or PATHS.get(full.rpartition(".")[0], name) for full in names} - {name}


def level(name: str) -> int:
    return next(place for place, prefix in enumerate(ORDER) if within(name, prefix))


def test_imports_go_one_way_only() -> None:
    against = [(name, other) for name in MODULES for other in neighbours(name) if level(other) > level(name)]
    assert not against, "imports against web → agents → tables → streams"


def test_no_module_imports_itself_through_others() -> None:
    assert list(TopologicalSorter({name: neighbours(name) for name in MODULES}).static_order())


def test_a_library_is_used_where_it_is_allowed_only() -> None:
    astray = [
        (name, library)
        for name in MODULES
        for library, allowed in ONLY.items()
        if any(within(used, library) for used in USES[name][0] | USES[name][1]) and not within(name, allowed)
    ]
    assert not astray, "ONLY, above, says who may"


def test_pure_modules_touch_no_world() -> None:
    touched = [
        (name, used)
        for name in MODULES
        if within(name, PURE)
        for used in sorted(USES[name][0] | USES[name][1])
        if within(used, IMPURE)
    ]
    assert not touched, "a pure module takes `now` and `rng` as arguments and leaves I/O to its shell"


def test_the_lists_know_the_modules() -> None:
    assert set(MODULES) >= {"streams.keys", "callstream"}
    assert within("agents.inference.client", ONLY["aiohttp.Client*"])
    assert not within("agents.inferences", ONLY["aiohttp.Client*"])
