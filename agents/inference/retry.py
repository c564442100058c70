"""Sending a call again: a pure policy says whether and when, the layer waits and does it.

Pauses grow exponentially to a cap, with full jitter, so that calls refused together don't come back together. Requests
after the first are a share of all (`endpoint_budgets`), also those of a step that tries anew.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply
from callstream.agents.inference.endpoint_budgets import GIVEN_UP, EndpointBudgets
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.options import RetryOptions
from callstream.agents.inference.switch import Switched
from callstream.agents.spent import spent


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


def retry(options: RetryOptions, sources: Sources, budgets: EndpointBudgets) -> Layer:
    """Send again what failed for a passing reason, as long as attempts, time and the budgets allow.

    What the budgets don't allow goes back to the step, which is told to wait. `usage.calls` of the reply counts every
    request, the failed ones too.
    """

    def layer(inner: Model) -> Model:
        async def retried(call: Call) -> Reply:
            attempt, account, avoid = 1, spent(), call.avoid
            charge = budgets.charge(call.pool, "", call.tried) if call.again else None
            if call.again and charge is None:
                raise _unpaid(call.pool, failed(Kind.OVERLOADED, "the step's earlier attempt failed"), options, sources)
            while True:
                mark = account.mark(sources.clock())
                given = replace(call, attempt=attempt, avoid=avoid | charge.avoid if charge is not None else avoid)
                try:
                    reply = await inner(given)
                except CallFailed as failure:
                    if charge is None:
                        budgets.sent(failure.endpoint)
                    pause = pause_seconds(options, attempt, failure, sources.chance())
                    call = replace(call, tried=call.tried | {failure.endpoint} - {""})
                    if pause is None or (call.deadline is not None and sources.clock() + pause >= call.deadline):
                        budgets.count(call.pool, failure.endpoint, GIVEN_UP)
                        raise
                    charge = budgets.charge(call.pool, failure.endpoint, call.tried)
                    if charge is None:
                        raise _unpaid(call.pool, failure, options, sources) from None
                except Switched as switched:
                    switched.requests = attempt - 1
                    raise
                else:
                    budgets.answered(reply.usage.endpoint, charge)
                    return _counted(reply, attempt)
                await sources.sleep(pause)
                account.repeat(mark, sources.clock())
                attempt += 1

        return retried

    return layer


def _unpaid(pool: str, failure: CallFailed, options: RetryOptions, sources: Sources) -> CallFailed:
    """The failure of a call that may not be sent again at present: its step is to wait, and others of its kind not as
    long.
    """
    seconds = options.longest_pause_seconds * (0.5 + sources.chance() / 2)
    message = f"{failure.message}; not sent again: the retries of pool {pool} are used up at present"
    given_back = CallFailed(failure.kind, message, max(seconds, failure.after_seconds or 0.0))
    given_back.endpoint = failure.endpoint
    return given_back


def _counted(reply: Reply, attempts: int) -> Reply:
    if attempts == 1:
        return reply
    usage = reply.usage.model_copy(update={"calls": reply.usage.calls + attempts - 1})
    return replace(reply, usage=usage)
