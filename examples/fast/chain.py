"""Five hops and nothing heavy: what the fault tests break and the benchmarks measure."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from callstream.agents.delivery import CatalogueRow, WriteBack
from callstream.agents.inference.step import Infer
from callstream.agents.moderation import Moderate
from callstream.streams.chain import Cell, Chain, Step
from callstream.streams.event import Event, Json
from callstream.streams.outcome import Forward, Outcome

SYSTEM = "Write two sentences of product copy in English from the user's data."


class ProductInput(BaseModel):
    """A product in a few words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    description: Annotated[str, StringConstraints(max_length=4000)] = ""


class Brief(Step):
    """Puts the input into a prompt. Output: `{"messages"}`, as `Infer` expects it of a step named `prompt`."""

    name = "prompt"
    service: ClassVar[str] = "prepare"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Write the two messages."""
        title, description = (" ".join(event.input[name].split()) for name in ("title", "description"))
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"Title: {title}\nDescription: {description}"},
        ]
        return Forward({"messages": messages})


def row(event: Event) -> CatalogueRow:
    """The product's row in the catalogue."""
    return CatalogueRow(
        product=event.input["product_id"],
        title=event.input["title"],
        language="en",
        text=event.body.outputs["copy"]["text"],
    )


def result(event: Event) -> Json:
    """What the caller gets in the end."""
    return {"product_id": event.input["product_id"], "copy": event.body.outputs["copy"]["text"]}


chain = Chain(
    "fast-copy",
    version=1,
    input=ProductInput,
    steps=(Brief(), Infer(name="copy", pool="copywriter"), Moderate(), WriteBack(row=row)),
    result=result,
)
