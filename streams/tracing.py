"""Traces: one for each task across all services, W3C `traceparent` in and out, sent to a Jaeger agent by UDP.

The only module that knows jaeger_client. Its tracer makes the spans; sending is our own thread, because the client's
needs a second event loop, an unbounded queue before its bounded one, and a name lookup where the tracer is made.
Nothing here blocks or raises into the caller: what cannot be sent in time is dropped and counted.
"""
# mypy: disable-error-code="no-untyped-call"
# The client's generated code has no types; nothing of it leaves this module.

import logging
import os
import random
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from jaeger_client.codecs import Codec
from jaeger_client.constants import JAEGER_IP_TAG_KEY, SAMPLED_FLAG
from jaeger_client.reporter import BaseReporter
from jaeger_client.sampler import ConstSampler, ProbabilisticSampler
from jaeger_client.span import Span as JaegerSpan
from jaeger_client.span_context import SpanContext
from jaeger_client.thrift import make_jaeger_batch, make_process
from jaeger_client.thrift_gen.agent import Agent
from jaeger_client.tracer import Tracer
from opentracing import Format
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.Thrift import TMessageType, TType
from thrift.transport.TTransport import TMemoryBuffer

from callstream.streams.logs import redact
from callstream.streams.tracing_options import TracingOptions

LOG = logging.getLogger(__name__)

Tag = str | int | float | bool | None

NAME_CHARS = 128
TAGS = 32
TAG_NAME_CHARS = 64
BATCH_SPANS = 64
RESOLVE_SECONDS = 60.0

NO_TRACE = "0" * 32
NO_SPAN = "0" * 16

_TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


@dataclass(frozen=True, slots=True)
class TracingCounts:
    """Spans sent, and dropped because the queue was full or the packet could not be made or sent."""

    sent: int
    dropped_full: int
    dropped_failed: int


class TraceparentCodec(Codec):
    """W3C Trace Context as a codec of jaeger's tracer: carrier["traceparent"] out and in."""

    def inject(self, span_context: SpanContext, carrier: dict[str, str]) -> None:
        """Write the header."""
        carrier["traceparent"] = _header(
            span_context.trace_id, span_context.span_id, bool(span_context.flags & SAMPLED_FLAG)
        )

    def extract(self, carrier: Mapping[str, str]) -> SpanContext | None:
        """The context that the header names, or None for no header or one to be ignored."""
        parent = _parse(carrier.get("traceparent"))
        return parent and _context(parent)


class Span:
    """One piece of work. As a context manager it ends itself and marks what escapes as its error."""

    __slots__ = ("_left", "_span", "traceparent")

    def __init__(self, traceparent: str, span: JaegerSpan | None) -> None:
        self.traceparent = traceparent
        self._span = span
        self._left = TAGS

    def tag(self, name: str, value: Tag) -> None:
        """Add a tag; the span keeps the first 32. No payloads, no secrets."""
        if self._span is None or value is None or self._left <= 0:
            return
        self._left -= 1
        self._span.set_tag(_clean(name, TAG_NAME_CHARS), _tag_value(value))

    def error(self, error: BaseException) -> None:
        """Mark the span as failed by that exception."""
        if self._span is not None:
            self._left = max(self._left, 3)
            self.tag("error", True)
            self.tag("error.kind", type(error).__name__)
            self.tag("error.message", redact(_text(error)))

    def end(self) -> None:
        """The work is done; later tags are lost."""
        span, self._span = self._span, None
        if span is not None:
            span.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.error(error)
        self.end()


class Tracing:
    """Makes spans. Off, it still makes and hands on trace ids, and nothing else.

    Args:
        options: see `TracingOptions`.
        service: the service's name in Jaeger; `named` gives one for another service over the same sender.
    """

    def __init__(self, options: TracingOptions, service: str = "callstream") -> None:
        self.options = options
        self._sender = _Sender(options) if options.enabled else None
        self._tracers: dict[str, Tracer] = {}
        self._service = service
        self._tracer = self._tracer_of(service)
        self._random = random.Random(os.urandom(16))

    def named(self, service: str) -> "Tracing":
        """The same tracing under another service's name; close only the first."""
        other = object.__new__(Tracing)
        other.__dict__.update(self.__dict__, _service=service, _tracer=self._tracer_of(service))
        return other

    def span(self, name: str, traceparent: str | None = None, tags: Mapping[str, Tag] | None = None) -> Span:
        """Start a span under `traceparent`, or a new trace without one or with one that is not valid."""
        parent = _parse(traceparent)
        sampled = parent is not None and _is_sampled(parent)
        if self._tracer is None or (parent is not None and not sampled):
            return Span(self._next_header(parent, sampled), None)
        span = self._tracer.start_span(
            _clean(name, NAME_CHARS), child_of=parent and _context(parent), ignore_active_span=True
        )
        context = span.context
        sampled = bool(context.flags & SAMPLED_FLAG)
        made = Span(_header(context.trace_id, context.span_id, sampled), span if sampled else None)
        if sampled and tags:
            for tag, value in tags.items():
                made.tag(tag, value)
        return made

    def counts(self) -> TracingCounts:
        """What was sent and what was dropped so far."""
        return self._sender.counts() if self._sender else TracingCounts(0, 0, 0)

    def close(self) -> None:
        """Send what is left, for at most `close_seconds`."""
        if self._sender:
            self._sender.stop()

    def _tracer_of(self, service: str) -> Tracer | None:
        if self._sender is None:
            return None
        tracer = self._tracers.get(service)
        if tracer is None:
            rate, codec = self.options.sample_rate, TraceparentCodec()
            tracer = Tracer(
                service_name=service,
                reporter=self._sender,
                sampler=ProbabilisticSampler(rate) if 0 < rate < 1 else ConstSampler(rate > 0),
                generate_128bit_trace_id=True,
                extra_codecs={Format.TEXT_MAP: codec, Format.HTTP_HEADERS: codec},
                # Given, because the tracer would ask DNS for them where it is made.
                tags={JAEGER_IP_TAG_KEY: _own_address()},
                max_tag_value_length=self.options.tag_chars,
            )
            # The client seeds by time and process id, which two containers may share.
            tracer.random = random.Random(os.urandom(16))
            self._tracers[service] = tracer
        return tracer

    def _next_header(self, parent: re.Match[str] | None, sampled: bool) -> str:
        """What an unsent span hands on: the parent's trace, if there is one."""
        trace = parent[2] if parent else f"{self._random.getrandbits(128) or 1:032x}"
        return f"00-{trace}-{self._random.getrandbits(64) or 1:016x}-0{int(sampled)}"


class _Sender(BaseReporter):
    """Takes ended spans without waiting and sends them from a thread of its own."""

    def __init__(self, options: TracingOptions) -> None:
        self._options = options
        self._queue: deque[JaegerSpan] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._sent = self._full = self._failed = 0
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._resolve_at = 0.0
        self._number = 0
        self._thread = threading.Thread(target=self._run, name="callstream-tracing", daemon=True)
        self._thread.start()

    def report_span(self, span: JaegerSpan) -> None:
        """Called by the tracer for each ended span, in the caller's thread."""
        if self._closed or len(self._queue) >= self._options.queue_spans:
            self._full += 1
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH_SPANS and not self._wake.is_set():
            self._wake.set()

    def counts(self) -> TracingCounts:
        return TracingCounts(self._sent, self._full, self._failed)

    def stop(self) -> None:
        """Take no more, and wait for what is left."""
        self._closed = True
        self._wake.set()
        self._thread.join(self._options.close_seconds)

    def _run(self) -> None:
        while not self._closed or self._queue:
            if not self._closed:
                self._wake.wait(self._options.flush_seconds)
                self._wake.clear()
            while self._queue:
                self._send_some()
        if self._socket is not None:
            self._socket.close()

    def _send_some(self) -> None:
        by_service: dict[str, list[JaegerSpan]] = {}
        for _ in range(min(BATCH_SPANS, len(self._queue))):
            span = self._queue.popleft()
            by_service.setdefault(span.tracer.service_name, []).append(span)
        for spans in by_service.values():
            try:
                self._send(spans)
            except Exception as error:  # whatever fails here, the work that is traced goes on
                self._failed += len(spans)
                LOG.debug("%d spans were not sent: %s", len(spans), error)

    def _send(self, spans: list[JaegerSpan]) -> None:
        """One packet, or several when the spans do not fit into one."""
        self._number = (self._number + 1) % 2**31
        packet = encode_batch(spans, self._number, self._options.tag_chars)
        if len(packet) <= self._options.packet_bytes:
            transport = self._open()
            transport.sendto(packet, self._address)
            self._sent += len(spans)
        elif len(spans) == 1:
            self._failed += 1
        else:
            middle = len(spans) // 2
            self._send(spans[:middle])
            self._send(spans[middle:])

    def _open(self) -> socket.socket:
        """The socket, with the agent's address looked up once a minute: an agent may move."""
        now = time.monotonic()
        if self._socket is None or now >= self._resolve_at:
            host, port = self._options.agent_host, self._options.agent_port
            self._resolve_at = now + RESOLVE_SECONDS
            try:
                family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            except OSError:
                self._resolve_at = now + RESOLVE_SECONDS / 10
                if self._socket is None:
                    raise
                return self._socket
            if self._socket is not None:
                self._socket.close()
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._address = address
        return self._socket


def encode_batch(spans: list[JaegerSpan], number: int, tag_chars: int) -> bytes:
    """Spans of one tracer as an `emitBatch` message in compact thrift."""
    tracer = spans[0].tracer
    arguments = Agent.emitBatch_args(
        make_jaeger_batch(spans, make_process(tracer.service_name, tracer.tags, tag_chars))
    )
    buffer = TMemoryBuffer()
    protocol = TCompactProtocolAccelerated(buffer)
    protocol.writeMessageBegin("emitBatch", TMessageType.ONEWAY, number)
    if protocol._fast_encode is None:
        arguments.write(protocol)
    else:
        buffer.write(protocol._fast_encode(arguments, [Agent.emitBatch_args, _BATCH]))
    protocol.writeMessageEnd()
    return bytes(buffer.getvalue())


def _fast_spec(fields: Any) -> Any:
    """The client's generated field tables in the form that thrift's C encoder takes: 7 µs a span, not 51."""

    def arguments(kind: int, given: Any) -> Any:
        if kind == TType.STRUCT:
            return [given[0], _fast_spec(given[1])]
        if kind == TType.LIST:
            return given[0], arguments(given[0], given[1]), False
        return "UTF8" if kind == TType.STRING else None

    return tuple(field and (*field[:3], arguments(field[1], field[3]), field[4]) for field in fields)


_BATCH = _fast_spec(Agent.emitBatch_args.thrift_spec)


def _parse(traceparent: str | None) -> re.Match[str] | None:
    """A later version may have more parts; version 00 has not, ff is none, and an id of zeros is none either."""
    match = _TRACEPARENT.match(traceparent) if traceparent else None
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    return None if match[2] == NO_TRACE or match[3] == NO_SPAN else match


def _is_sampled(parent: re.Match[str]) -> bool:
    return bool(int(parent[4], 16) & SAMPLED_FLAG)


def _context(parent: re.Match[str]) -> SpanContext:
    return SpanContext(int(parent[2], 16), int(parent[3], 16), parent_id=None, flags=int(_is_sampled(parent)))


def _header(trace: int, span: int, sampled: bool) -> str:
    return f"00-{trace:032x}-{span:016x}-0{int(sampled)}"


def _own_address() -> str:
    """The address that packets leave from; nothing is sent and nothing looked up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _tag_value(value: object) -> str | int | float | bool:
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return _clean(_text(value), 8192)


def _text(value: object) -> str:
    try:
        return str(value)[:8192]
    except Exception as error:  # a foreign __str__ may raise anything
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _clean(text: str, limit: int) -> str:
    """Text that UTF-8 can carry: one lone surrogate would cost the whole packet."""
    text = text[:limit]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
