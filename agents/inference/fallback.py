"""Another endpoint of the pool where this one will never do, though another try there would be in vain.

A prompt too long for a model goes to one with a longer context; a prompt that a filter refuses goes to another model
where the pool's settings say so. Neither is a retry: each endpoint is asked once.
"""

from collections.abc import Mapping
from dataclasses import replace

from callstream.agents.inference.call import Call, CallFailed, Layer, Model, Reply
from callstream.agents.inference.failures import Kind
from callstream.agents.inference.options import PoolOptions


def next_tried(pool: PoolOptions, call: Call, failure: CallFailed) -> frozenset[str] | None:
    """The endpoints that are out of the question after this failure; None if none is left that may do better."""
    tried = call.tried | {failure.endpoint}
    match failure.kind:
        case Kind.CONTEXT_TOO_LONG:
            sizes = {one.name: one.context_tokens for one in pool.endpoints}
            least = sizes.get(failure.endpoint)
            # Of an endpoint that doesn't say how much it takes, any other may take more.
            tried |= {name for name, size in sizes.items() if least is not None and size is not None and size <= least}
        case Kind.REFUSED_BY_POLICY if pool.on_refused_by_policy == "next":
            pass
        case _:
            return None
    only = call.choice.endpoints if call.choice is not None and call.choice.only else None
    left = [one.name for one in pool.endpoints if only is None or one.name in only]
    return tried if any(name not in tried for name in left) else None


def fallback(pools: Mapping[str, PoolOptions]) -> Layer:
    """Ask the endpoints that are left, one after another, when a call failed for what another may do."""

    def layer(inner: Model) -> Model:
        async def falling_back(call: Call) -> Reply:
            while True:
                try:
                    return await inner(call)
                except CallFailed as failure:
                    pool = pools.get(call.pool)
                    tried = next_tried(pool, call, failure) if pool is not None else None
                    if tried is None or tried == call.tried:
                        raise
                    call = replace(call, tried=tried, avoid=tried)

        return falling_back

    return layer
