"""Counting requests to models for Prometheus. Labels are names from the configuration and kinds of failure: bounded."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply
from callstream.agents.inference.failures import Kind

CALLS = "callstream_model_calls"
SECONDS = "callstream_model_call_seconds"
TOKENS = "callstream_model_tokens"
IN_FLIGHT = "callstream_model_calls_in_flight"

ANSWERED = "answered"
CANCELLED = "cancelled"
OTHER = "other"
OUTCOMES = frozenset({ANSWERED, CANCELLED, OTHER, *map(str, Kind)})
BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0)


def metrics(registry: CollectorRegistry) -> Layer:
    """Count each request by pool, endpoint and outcome, its seconds, its tokens, and what is in flight.

    One call for each registry: a name can be registered once.
    """
    place = ("pool", "endpoint")
    calls = Counter(CALLS, "Requests to model endpoints.", (*place, "outcome"), registry=registry)
    seconds = Histogram(SECONDS, "Seconds of a request, however it ended.", place, buckets=BUCKETS, registry=registry)
    tokens = Counter(TOKENS, "Tokens as the endpoints reported them.", (*place, "direction"), registry=registry)
    in_flight = Gauge(IN_FLIGHT, "Requests sent and not answered.", place, registry=registry)

    def layer(inner: Model) -> Model:
        async def measured(call: Call) -> Reply:
            where = (call.pool, call.endpoint or "")
            outcome = OTHER
            began = time.perf_counter()
            in_flight.labels(*where).inc()
            try:
                reply = await inner(call)
                outcome = ANSWERED
            except CallFailed as failure:
                outcome = failure.kind if failure.kind in OUTCOMES else OTHER
                raise
            except BaseException as error:
                outcome = OTHER if isinstance(error, Exception) else CANCELLED
                raise
            finally:
                in_flight.labels(*where).dec()
                seconds.labels(*where).observe(time.perf_counter() - began)
                calls.labels(*where, outcome).inc()
            tokens.labels(*where, "in").inc(reply.usage.tokens_in)
            tokens.labels(*where, "out").inc(reply.usage.tokens_out)
            return reply

        return measured

    return layer
