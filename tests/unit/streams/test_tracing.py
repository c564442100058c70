"""Tracing: trace ids travel whether or not spans are sent, and nothing in it can fail its caller."""

import re
from typing import Any

import pytest
from jaeger_client.thrift_gen.agent import Agent
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from callstream.streams.tracing import TraceparentCodec, Tracing, TracingCounts, encode_batch
from callstream.streams.tracing_options import TracingOptions

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
HEADER = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$")


def off() -> Tracing:
    return Tracing(TracingOptions())


def test_off_it_makes_a_trace_and_hands_it_on_unsampled() -> None:
    tracing = off()
    with tracing.span("intake", tags={"task": "a"}) as first:
        first.tag("more", 1)
    with tracing.named("infer").span("infer", first.traceparent) as second:
        pass
    assert HEADER.match(first.traceparent)
    assert first.traceparent.endswith("-00")
    assert first.traceparent[:35] == second.traceparent[:35]
    assert first.traceparent != second.traceparent
    assert tracing.counts() == TracingCounts(0, 0, 0)
    tracing.close()


@pytest.mark.parametrize("flags", ["00", "01"])
def test_off_it_leaves_the_callers_sampling_decision_alone(flags: str) -> None:
    span = off().span("x", f"00-{TRACE}-{SPAN}-{flags}")
    assert span.traceparent.startswith(f"00-{TRACE}-")
    assert span.traceparent.endswith(f"-{flags}")
    assert SPAN not in span.traceparent


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "\n",
        PARENT + "-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        "00-" + "é" * 32 + f"-{SPAN}-01",
        "x" * 100_000,
    ],
)
def test_a_header_that_is_not_valid_starts_a_new_trace(header: str) -> None:
    span = off().span("x", header)
    assert HEADER.match(span.traceparent)
    assert TRACE not in span.traceparent


def test_a_later_version_of_the_header_is_understood() -> None:
    assert off().span("x", f"01-{TRACE}-{SPAN}-01-what-ever").traceparent.startswith(f"00-{TRACE}-")


def test_the_codec_reads_what_it_writes() -> None:
    codec = TraceparentCodec()
    context = codec.extract({"traceparent": PARENT})
    assert context is not None
    carrier: dict[str, str] = {}
    codec.inject(context, carrier)
    assert carrier == {"traceparent": PARENT}
    assert codec.extract({}) is None


def test_an_exception_is_marked_and_passes() -> None:
    with pytest.raises(KeyError), off().span("x"):
        raise KeyError("y")


def test_a_span_is_encoded_as_the_agent_reads_it_by_both_encoders() -> None:
    # given a sampled span with awkward tags, kept by a tracer whose agent is nowhere
    tracing = Tracing(TracingOptions(enabled=True, agent_host="nowhere.invalid", close_seconds=0))
    kept: list[Any] = []
    vars(tracing._sender)["report_span"] = kept.append
    with tracing.span(
        "infer", PARENT, {"text": "ü\ud800" * 1000, "huge": 10**40, "ok": True, "n": 3, "f": 0.5}
    ) as span:
        span.error(RuntimeError("Authorization: Bearer abcdef"))
        for number in range(100):
            span.tag(f"tag{number}", number)
    # when it is encoded
    packet = encode_batch(kept, 7, 256)
    # then a plain decoder, without the C code, reads it
    protocol = TCompactProtocol(TMemoryBuffer(packet))
    assert protocol.readMessageBegin() == ("emitBatch", 4, 7)
    arguments: Any = vars(Agent)["emitBatch_args"]()
    arguments.read(protocol)
    (read,) = arguments.batch.spans
    tags = {tag.key: tag for tag in read.tags}
    assert read.operationName == "infer"
    assert read.parentSpanId == int(SPAN, 16) - 2**64
    assert (read.traceIdHigh, read.traceIdLow) == (0x0AF7651916CD43DD, 0x8448EB211C80319C - 2**64)
    assert len(tags["text"].vStr) == 256
    assert tags["huge"].vStr == str(10**40)
    assert (tags["ok"].vBool, tags["n"].vLong, tags["f"].vDouble) == (True, 3, 0.5)
    assert tags["error"].vBool is True
    assert "abcdef" not in tags["error.message"].vStr
    assert len(read.tags) == 32
    tracing.close()


def test_an_absent_agent_costs_nothing_but_the_spans() -> None:
    tracing = Tracing(TracingOptions(enabled=True, agent_host="nowhere.invalid", queue_spans=10, close_seconds=0.1))
    for _ in range(1000):
        with tracing.span("x"):
            pass
    tracing.close()
    counts = tracing.counts()
    assert counts.sent == 0
    assert counts.dropped_full > 0


def test_nothing_is_kept_of_what_is_not_sampled() -> None:
    tracing = Tracing(TracingOptions(enabled=True, sample_rate=0))
    with tracing.span("x") as span:
        pass
    with tracing.span("y", f"00-{TRACE}-{SPAN}-00") as child:
        pass
    tracing.close()
    assert span.traceparent.endswith("-00")
    assert child.traceparent.startswith(f"00-{TRACE}-")
    assert tracing.counts() == TracingCounts(0, 0, 0)
