"""At most so many calls at once for each endpoint, first come, first served; waiting is bounded too."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from callstream.agents.inference.call import Call, Layer, Model, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.options import EndpointOptions

FULL_AFTER_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Gate:
    slots: asyncio.Semaphore
    most_waiting: int
    waiting: int = 0


def concurrency(endpoints: Iterable[EndpointOptions]) -> Layer:
    """Let `endpoint.concurrency` calls in at once; beyond `most_waiting` waiters a call fails as overloaded."""
    gates = {e.name: _Gate(asyncio.Semaphore(e.concurrency), e.most_waiting) for e in endpoints}

    def layer(inner: Model) -> Model:
        async def gated(call: Call) -> Reply:
            gate = gates[call.endpoint or ""]
            if gate.slots.locked():
                if gate.waiting >= gate.most_waiting:
                    raise failed(
                        Kind.OVERLOADED, f"{gate.waiting} calls already wait for {call.endpoint}", FULL_AFTER_SECONDS
                    )
                gate.waiting += 1
                try:
                    await gate.slots.acquire()
                finally:
                    gate.waiting -= 1
            else:
                await gate.slots.acquire()
            try:
                return await inner(call)
            finally:
                gate.slots.release()

        return gated

    return layer
