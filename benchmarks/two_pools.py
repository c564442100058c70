"""The chain of the benchmarks, and the same again for another pool."""

from callstream.agents.delivery import WriteBack
from callstream.agents.inference.step import Infer
from callstream.agents.moderation import Moderate
from callstream.streams.chain import Chain
from examples.fast.chain import Brief, ProductInput, chain, result, row

other = Chain(
    "other-copy",
    input=ProductInput,
    steps=(Brief(), Infer(name="copy", pool="other"), Moderate(), WriteBack(row=row)),
    result=result,
)
chains = (chain, other)
