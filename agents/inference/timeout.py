"""The time that one request may take, from its receipt on; the wait for admission and pauses between retries not."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from callstream.agents.inference.call import Call, Layer, Model, Reply
from callstream.agents.inference.failures import Kind, failed


def seconds_left(call: Call, now: float) -> float:
    """The step's time-out or the time to the task's deadline, whichever is shorter; 0 or less: too late."""
    return call.timeout_seconds if call.deadline is None else min(call.timeout_seconds, call.deadline - now)


def timeout(clock: Callable[[], float]) -> Layer:
    """Bound each request by the step's time-out and the task's deadline. Inner layers find the end in `deadline`.

    Past its task's deadline no request is started, and the call fails for good; past the step's time-out it may be
    retried.
    """

    def layer(inner: Model) -> Model:
        async def bounded(call: Call) -> Reply:
            now = clock()
            seconds = seconds_left(call, now)
            final = call.deadline is not None and call.deadline <= now + call.timeout_seconds
            if final and seconds <= 0:
                raise failed(Kind.DEADLINE, f"the task's deadline passed {-seconds:.1f} s before the call")
            try:
                async with asyncio.timeout(seconds) as limit:
                    return await inner(replace(call, deadline=now + seconds))
            except TimeoutError:
                if not limit.expired():
                    raise
                if final:
                    raise failed(Kind.DEADLINE, "the task's deadline passed during the call") from None
                raise failed(Kind.TIMEOUT, f"no answer within the step's {seconds:g} s") from None

        return bounded

    return layer
