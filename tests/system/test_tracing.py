"""Spans arrive at a Jaeger agent's UDP port, one trace over several services."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from jaeger_client.thrift_gen.agent import Agent
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from callstream.streams.tracing import Tracing
from callstream.streams.tracing_options import TracingOptions


class AgentPort:
    """A UDP socket where a Jaeger agent would listen."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.port: int = self.socket.getsockname()[1]

    def batch(self) -> Any:
        packet = self.socket.recv(65_536)
        protocol = TCompactProtocol(TMemoryBuffer(packet))
        name, _, _ = protocol.readMessageBegin()
        assert name == "emitBatch"
        arguments: Any = vars(Agent)["emitBatch_args"]()
        arguments.read(protocol)
        return arguments.batch

    def spans(self, count: int) -> list[tuple[str, Any]]:
        """That many spans, each with its service's name."""
        found: list[tuple[str, Any]] = []
        while len(found) < count:
            batch = self.batch()
            found += [(batch.process.serviceName, span) for span in batch.spans]
        return found


@pytest.fixture
def agent() -> Iterator[AgentPort]:
    port = AgentPort()
    yield port
    port.socket.close()


def options(agent: AgentPort, **more: Any) -> TracingOptions:
    return TracingOptions(enabled=True, agent_port=agent.port, flush_seconds=0.05, **more)


async def test_one_task_is_one_trace_over_its_services(agent: AgentPort) -> None:
    # given two services in one event loop, which hand on nothing but the header
    tracing = Tracing(options(agent), "callstream-gateway")
    infer = tracing.named("callstream-infer")

    async def call(traceparent: str, task: str) -> None:
        with infer.span("infer", traceparent, {"task": task, "attempt": 1}) as span:
            await asyncio.sleep(0)
            with infer.span("model-call", span.traceparent, {"model": "stub"}):
                await asyncio.sleep(0)

    headers = {}
    for task in ("a", "b"):
        with tracing.span("submit", tags={"task": task}) as span:
            headers[task] = span.traceparent
    # when their steps run interleaved
    await asyncio.gather(*(call(header, task) for task, header in headers.items()))
    found = await asyncio.to_thread(agent.spans, 6)
    tracing.close()
    # then each task has one trace of three spans, each under the one before
    traces: dict[tuple[int, int], dict[str, Any]] = {}
    for service, span in found:
        traces.setdefault((span.traceIdHigh, span.traceIdLow), {})[span.operationName] = (service, span)
    assert len(traces) == 2
    for spans in traces.values():
        (_, submit), (service, step), (_, model) = (spans[name] for name in ("submit", "infer", "model-call"))
        assert service == "callstream-infer"
        assert submit.parentSpanId == 0
        assert step.parentSpanId == submit.spanId
        assert model.parentSpanId == step.spanId
        assert {tag.key: tag.vStr or tag.vLong for tag in step.tags}["attempt"] == 1
        assert step.duration >= model.duration
    assert tracing.counts().sent == 6


def test_the_last_spans_leave_at_close_and_later_ones_are_counted(agent: AgentPort) -> None:
    tracing = Tracing(TracingOptions(enabled=True, agent_port=agent.port, flush_seconds=60))
    with tracing.span("last"):
        pass
    tracing.close()
    assert [span.operationName for _, span in agent.spans(1)] == ["last"]
    with tracing.span("too late"):
        pass
    assert tracing.counts().dropped_full == 1


def test_large_spans_are_split_over_packets_and_one_too_large_is_dropped(agent: AgentPort) -> None:
    tracing = Tracing(options(agent, packet_bytes=2000, tag_chars=8192))
    for number in range(20):
        with tracing.span(f"n{number}", tags={"text": "x" * 300}):
            pass
    with tracing.span("huge", tags={"text": "x" * 8000}):
        pass
    found = agent.spans(20)
    tracing.close()
    assert {span.operationName for _, span in found} == {f"n{number}" for number in range(20)}
    assert tracing.counts().dropped_failed == 1
