"""A span for each request to a model. Who makes spans is handed in: this part of the code knows no tracer."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol

from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply

SPAN = "model call"

Tag = str | int | float | bool


class Span(Protocol):
    """A span that has begun."""

    @property
    def traceparent(self) -> str | None:
        """Its W3C context, for the next party; None when nothing is traced."""

    def tag(self, name: str, value: Tag, /) -> None:
        """Say something more about it."""


class Spans(Protocol):
    """Begins spans; `callstream.streams.tracing.Tracing.span` is one."""

    def __call__(self, name: str, parent: str | None, tags: Mapping[str, Tag], /) -> AbstractContextManager[Span]:
        """A span below `parent` (a traceparent), which ends with the block and marks what escapes as its error."""


class NoSpan:
    """A span that nobody sees."""

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def tag(self, name: str, value: Tag, /) -> None:
        """Nothing."""


@contextmanager
def no_spans(name: str, parent: str | None, tags: Mapping[str, Tag]) -> Iterator[NoSpan]:
    """Spans where there is no tracer; the parent is passed on as it came."""
    yield NoSpan(parent)


def trace(spans: Spans) -> Layer:
    """One span a request, with the pool, endpoint and attempt, and with the tokens or the kind of failure."""

    def layer(inner: Model) -> Model:
        async def traced(call: Call) -> Reply:
            tags: dict[str, Tag] = {
                "span.kind": "client",
                "callstream.pool": call.pool,
                "callstream.endpoint": call.endpoint or "",
                "callstream.attempt": call.attempt,
                "callstream.call": call.id,
            }
            with spans(SPAN, call.traceparent, tags) as span:
                try:
                    reply = await inner(replace(call, traceparent=span.traceparent or call.traceparent))
                except CallFailed as failure:
                    span.tag("callstream.failure", failure.kind)
                    raise
                span.tag("callstream.tokens_in", reply.usage.tokens_in)
                span.tag("callstream.tokens_out", reply.usage.tokens_out)
                return reply

        return traced

    return layer
