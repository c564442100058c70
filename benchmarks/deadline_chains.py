"""The same two steps three times: in the order of arrival, and with the earliest deadline first."""

from callstream.agents.inference.step import Infer
from callstream.streams.chain import Chain, Late
from examples.fast.chain import Brief, ProductInput

arrival = Chain("arrival", input=ProductInput, steps=(Brief(), Infer(name="copy", pool="copywriter")))
earliest = Chain(
    "earliest", input=ProductInput, steps=(Brief(), Infer(name="copy", pool="copywriter", late=Late(first=True)))
)
chains = (arrival, earliest)
