"""Which endpoint of its pool a call goes to: the next one round, so that a retry goes to another where there is one."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle

from callstream.agents.inference.call import Call, Layer, Model, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.options import PoolOptions


def choose(pools: Mapping[str, PoolOptions]) -> Layer:
    """Set `endpoint` to the pool's next endpoint in turn. A pool that is not configured fails the call for good."""
    turns = {name: cycle([endpoint.name for endpoint in pool.endpoints]) for name, pool in pools.items()}

    def layer(inner: Model) -> Model:
        async def chosen(call: Call) -> Reply:
            turn = turns.get(call.pool)
            if turn is None:
                known = ", ".join(sorted(turns)) or "none"
                raise failed(Kind.UNKNOWN_POOL, f"no pool is called {call.pool!r}; configured: {known}"[:500])
            return await inner(replace(call, endpoint=next(turn)))

        return chosen

    return layer
