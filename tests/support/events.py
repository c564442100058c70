"""Events for tests: plain ones by hand, and any that callstream can pass on, for hypothesis."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from callstream.streams.chain import Cell, Chain, Chains, Step
from callstream.streams.event import (
    LAST_SECOND,
    Attempt,
    Body,
    Burial,
    End,
    Event,
    Failure,
    Hop,
    Json,
    Priority,
    Submission,
    Usage,
)
from callstream.streams.outcome import Forward, Outcome

DIGEST = "0" * 64
TENANTS = st.sampled_from(["a", "acme", "A-1_", "0" * 64])
TASKS = st.sampled_from(["a", "mug-1", "A.~_-9", "z" * 128, "4~acme"])
NAMES = st.sampled_from(["a", "shop", "product-copy", "x" * 48])
MOMENTS = st.floats(0, LAST_SECOND)
SECONDS = st.integers(0, LAST_SECOND).map(float)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS: st.SearchStrategy[Json] = st.dictionaries(TEXTS, VALUES, max_size=3)

_COUNTS = st.integers(0, 10**18)
FAILURES = st.builds(Failure, kind=NAMES, message=TEXTS, step=NAMES, traceback=TEXTS)
HOPS = st.builds(
    Hop,
    step=NAMES,
    service=NAMES,
    started=MOMENTS,
    ended=MOMENTS,
    attempts=st.integers(1, 9),
    usage=st.none() | st.builds(Usage, model=TEXTS, endpoint=TEXTS, calls=_COUNTS, tokens_in=_COUNTS),
    notes=st.lists(TEXTS, max_size=2).map(tuple),
)
BURIALS = st.builds(
    Burial,
    topic=NAMES,
    partition=st.integers(0, 9),
    offset=_COUNTS,
    ended_task=st.booleans(),
    attempts=st.lists(
        st.builds(Attempt, number=st.integers(1, 9), ended=MOMENTS, kind=NAMES, message=TEXTS, usage=st.none()),
        max_size=2,
    ).map(tuple),
    before=st.none() | FAILURES,
)
BODIES = st.builds(
    Body,
    submission=st.builds(Submission, chain=NAMES, input=OBJECTS, callback=st.none() | st.just("https://a.test/?q=é")),
    digest=st.sampled_from([DIGEST, "0123456789abcdef" * 4]),
    outputs=st.dictionaries(NAMES, OBJECTS, max_size=2),
    trail=st.lists(HOPS, max_size=2).map(tuple),
    end=st.none() | st.sampled_from(End),
    failure=st.none() | FAILURES,
    held=st.none() | TEXTS,
    result=st.none() | OBJECTS,
    additions=st.dictionaries(NAMES, OBJECTS, max_size=1),
    generation=_COUNTS,
    burial=st.none() | BURIALS,
)
EVENTS = st.builds(
    Event,
    tenant=TENANTS,
    task=TASKS,
    chain=NAMES,
    version=st.integers(0, 999_999),
    sequence=st.integers(0, 9_999),
    body=BODIES,
    attempt=st.integers(1, 999_999),
    priority=st.sampled_from(Priority),
    time=SECONDS,
    deadline=st.none() | SECONDS,
    traceparent=st.none() | st.just(f"00-{'0a' * 16}-{'f1' * 8}-01"),
    type=st.sampled_from(["callstream.task", "com.example/a|b", "~" * 200]),
    extensions=st.dictionaries(st.sampled_from(["flavour", "a1", "x" * 40]), TEXTS, max_size=2),
    run=st.integers(0, 999_999),
    parent=st.none() | TASKS,
    inherited=st.integers(0, 64),
    reuses=st.none() | TASKS,
    sandbox=st.booleans(),
).map(lambda event: event if event.parent is not None else replace(event, inherited=0))


class Input(BaseModel):
    """What the chain of these tests takes."""

    model_config = ConfigDict(extra="forbid")

    title: str = "mug"
    price: float = 1.0


class Say(Step):
    """A step that says one thing."""

    def __init__(self, name: str, service: str, says: Json | None = None) -> None:
        self.name = name
        self.service = service  # type: ignore[misc]  # of each instance here, so that one class makes every step
        self.says = {"said": name} if says is None else says

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Say it."""
        return Forward(self.says)


SHOP = Chain("shop", Input, (Say("facts", "prepare"), Say("copy", "infer"), Say("check", "moderate")))
CHAINS = Chains([SHOP])


def an_event(**changes: Any) -> Event:
    """A task of the chain `shop` before its first step; `changes` are fields of the event or of its body."""
    own = {name: changes.pop(name) for name in list(changes) if name in Body.model_fields}
    body = Body(submission=Submission(chain="shop", input={"title": "mug"}), digest=DIGEST)
    plain = Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=1, body=body, time=10.0)
    return replace(plain, **changes).with_body(**own)
