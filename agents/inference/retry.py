"""Sending a call again: a pure policy says whether and when, the layer waits and does it.

Pauses grow exponentially to a cap, with full jitter, so that calls refused together don't come back together.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply
from callstream.agents.inference.options import RetryOptions


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the layers get time (epoch seconds), chance (in [0, 1)) and sleep from."""

    clock: Callable[[], float]
    chance: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


def pause_seconds(options: RetryOptions, attempt: int, failure: CallFailed, chance: float) -> float | None:
    """How long to wait after the `attempt`-th try (from 1) has failed; None: don't try again.

    What the endpoint asks for is waited in full, with jitter on top; if that is more than
    `longest_asked_seconds` the call is given up here and its step told how long to wait.
    """
    if not failure.retryable or attempt >= options.attempts:
        return None
    # Past 2**64 every ceiling is the cap; the exponent must stay in a float's range.
    ceiling = min(options.longest_pause_seconds, options.first_pause_seconds * 2.0 ** min(attempt - 1, 64))
    asked = failure.after_seconds or 0.0
    if asked > options.longest_asked_seconds:
        return None
    return asked + ceiling * chance


def retry(options: RetryOptions, sources: Sources) -> Layer:
    """Send again what failed for a passing reason, as long as attempts and time are left.

    `usage.calls` of the reply counts every request, the failed ones too.
    """

    def layer(inner: Model) -> Model:
        async def retried(call: Call) -> Reply:
            attempt = 1
            while True:
                try:
                    reply = await inner(replace(call, attempt=attempt))
                except CallFailed as failure:
                    pause = pause_seconds(options, attempt, failure, sources.chance())
                    call = replace(call, tried=call.tried | {failure.endpoint} - {""})
                    if pause is None or (call.deadline is not None and sources.clock() + pause >= call.deadline):
                        raise
                else:
                    return _counted(reply, attempt)
                await sources.sleep(pause)
                attempt += 1

        return retried

    return layer


def _counted(reply: Reply, attempts: int) -> Reply:
    if attempts == 1:
        return reply
    usage = reply.usage.model_copy(update={"calls": reply.usage.calls + attempts - 1})
    return replace(reply, usage=usage)
