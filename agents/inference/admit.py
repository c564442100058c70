"""The admission layer: a call waits at its pool's gate until an endpoint may have it, and says what came of it.

Waiting is no retry: a call that the endpoint turns away with 429 goes back to the gate, and neither its attempts nor
its task hear of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from callstream.agents.inference.admission.gate import Gate
from callstream.agents.inference.admission.permit import Permit, Stale
from callstream.agents.inference.admission.ratelimit import Told
from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply, times
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.spent import waiting


def admission(
    gates: Mapping[str, Gate], told: "Mapping[str, Told | None]", require: Callable[[Call], None] = lambda _: None
) -> Layer:
    """Wait at the gate of the call's pool; below, `endpoint` is set. A pool that is not configured fails for good.

    `told` is what each endpoint said last of its limits (`Client` keeps it). `require` raises for a call that must not
    wait at this gate any more.
    """

    def layer(inner: Model) -> Model:
        async def admitted(call: Call) -> Reply:
            require(call)
            gate = gates.get(call.pool)
            if gate is None:
                known = ", ".join(sorted(gates)) or "none"
                raise failed(Kind.UNKNOWN_POOL, f"no pool is called {call.pool!r}; configured: {known}"[:500])
            refusals = 0
            while True:
                try:
                    with waiting():
                        permit = await gate.admit(call)
                    reply = await _sent(inner, call, permit, told)
                except Stale as stale:
                    refusals += stale.refused
                    require(call)
                else:
                    return _noted(reply, refusals)

        return admitted

    return layer


def _noted(reply: Reply, refusals: int) -> Reply:
    if not refusals:
        return reply
    note = f"turned away {times(refusals)} with 429, which is no failure of the task"
    return replace(reply, notes=(*reply.notes, note))


def place(inner: Model) -> Model:
    """The layer that takes the call's place at the endpoint, once its receipt is on the log."""

    async def placed(call: Call) -> Reply:
        if call.permit is not None:
            await call.permit.place()
        return await inner(call)

    return placed


async def _sent(inner: Model, call: Call, permit: Permit, told: "Mapping[str, Told | None]") -> Reply:
    try:
        reply = await inner(replace(call, endpoint=permit.endpoint, permit=permit))
    except CallFailed as failure:
        permit.refused(failure, told.get(permit.endpoint))
        if failure.kind == Kind.OVERLOADED:
            raise Stale(failure.message, refused=True) from None
        failure.endpoint = permit.endpoint
        raise
    except BaseException:
        # Stale, cancelled, or a partition that is lost: that is noticed when the receipt is written.
        permit.abandoned()
        raise
    permit.answered(reply)
    return reply
