import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.inference.metrics import metrics
from callstream.agents.inference.options import EndpointOptions, InferenceOptions, PoolOptions
from callstream.agents.inference.stack import build_model, compose
from callstream.agents.inference.trace import NoSpan, Tag, no_spans, trace
from callstream.streams.event import Usage
from callstream.streams.tracing import Tracing
from callstream.streams.tracing_options import TracingOptions

REPLY = Reply("A mug.", usage=Usage(tokens_in=12, tokens_out=3))
PARENT = f"00-{'1' * 32}-{'2' * 16}-01"
CHILD = f"00-{'1' * 32}-{'3' * 16}-01"


def pool(*names: str) -> PoolOptions:
    return PoolOptions(endpoints=tuple(EndpointOptions(name=n, base_url="http://h/v1", model="m") for n in names))


async def test_each_request_has_a_span_whose_context_it_carries() -> None:
    spans: list[tuple[str, str | None, dict[str, Tag]]] = []

    @contextmanager
    def spying(name: str, parent: str | None, tags: Mapping[str, Tag]) -> Iterator[NoSpan]:
        told = dict(tags)
        spans.append((name, parent, told))
        span = NoSpan(CHILD)
        span.tag = told.__setitem__  # type: ignore[method-assign]  # the smallest span that remembers
        yield span

    model = ScriptedModel([CallFailed("overloaded", "later"), REPLY])
    layer = trace(spying)(model)
    with pytest.raises(CallFailed):
        await layer(a_call(traceparent=PARENT, endpoint="a"))
    await layer(a_call(traceparent=PARENT, endpoint="a", attempt=2))

    assert [(name, parent) for name, parent, _ in spans] == [("model call", PARENT)] * 2
    assert spans[0][2]["callstream.failure"] == "overloaded"
    assert (spans[1][2]["callstream.tokens_out"], spans[1][2]["callstream.attempt"]) == (3, 2)
    assert [call.traceparent for call in model.calls] == [CHILD, CHILD]


async def test_without_a_tracer_the_parents_context_is_handed_on() -> None:
    model = ScriptedModel([REPLY])

    await trace(no_spans)(model)(a_call(traceparent=PARENT))

    assert model.calls[0].traceparent == PARENT


async def test_the_projects_own_tracing_fits() -> None:
    model = ScriptedModel([REPLY])

    await trace(Tracing(TracingOptions()).span)(model)(a_call(traceparent=PARENT))

    sent = model.calls[0].traceparent
    assert sent is not None
    assert sent.split("-")[1] == "1" * 32
    assert sent != PARENT


async def test_requests_are_counted_by_pool_endpoint_and_outcome() -> None:
    registry = CollectorRegistry()
    model = metrics(registry)(
        ScriptedModel([REPLY, CallFailed("overloaded", "later"), CallFailed("made-up", "?"), asyncio.CancelledError()])
    )
    for _ in range(4):
        try:
            await model(a_call(endpoint="a"))
        except (CallFailed, asyncio.CancelledError):
            continue
    place = {"pool": "copywriter", "endpoint": "a"}

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {**place, **labels})

    for outcome in ("answered", "overloaded", "other", "cancelled"):
        assert value("callstream_model_calls_total", outcome=outcome) == 1
    assert value("callstream_model_tokens_total", direction="in") == 12
    assert value("callstream_model_calls_in_flight") == 0
    assert value("callstream_model_call_seconds_count") == 4


async def test_layers_are_composed_from_the_outside_in() -> None:
    entered: list[str] = []

    def named(name: str) -> "object":
        def layer(inner):  # type: ignore[no-untyped-def]
            async def model(call):  # type: ignore[no-untyped-def]
                entered.append(name)
                return await inner(call)

            return model

        return layer

    await compose([named("a"), named("b")], ScriptedModel([REPLY]))(a_call())  # type: ignore[list-item]

    assert entered == ["a", "b"]


async def test_a_stack_can_be_built_and_closed_without_a_call() -> None:
    stack = build_model(InferenceOptions(pools={"one": pool("a")}))

    assert stack.snapshot().claimed == 0
    await stack.close()
