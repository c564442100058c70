"""A product photo becomes catalogue copy: recognised, prompted, written by a model, moderated, written back."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from callstream.agents.delivery import CatalogueRow, WriteBack
from callstream.agents.inference.step import Infer
from callstream.agents.moderation import Moderate
from callstream.agents.prepare import ChoosePrompt, Lexicon, Normalise, Profile, Recognise
from callstream.streams.chain import Chain
from callstream.streams.event import Event, Json

HERE = Path(__file__).parent
ATTRIBUTES = ("brand", "category", "colour", "size", "material")


class ProductInput(BaseModel):
    """A product as the shop hands it in. `photo` is a blob reference, `language` that of the copy (ISO 639-1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    description: Annotated[str, StringConstraints(max_length=10_000)] = ""
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = None
    photo: Annotated[str, StringConstraints(pattern=r"^blob:[0-9a-f]{64}$")] | None = None
    user: Annotated[str, Field(max_length=128)] | None = None


def request(event: Event) -> Json:
    """What the model is asked: the rendered messages, with the parameters of their template."""
    prompt = event.body.outputs["prompt"]
    return {**prompt["parameters"], "messages": prompt["messages"]}


def attributes(event: Event) -> Json:
    """The recognised attributes that are known, by name."""
    recognised = event.body.outputs["recognise"]
    return {name: recognised[name]["value"] for name in ATTRIBUTES if recognised[name]}


def row(event: Event) -> CatalogueRow:
    """The product's row in the catalogue."""
    outputs = event.body.outputs
    return CatalogueRow(
        product=event.input["product_id"],
        title=outputs["normalise"]["title"],
        language=outputs["prompt"]["language"],
        text=outputs["copy"]["text"],
        attributes=attributes(event),
    )


def result(event: Event) -> Json:
    """What the caller gets in the end."""
    outputs = event.body.outputs
    return {
        "product_id": event.input["product_id"],
        "copy": outputs["copy"]["text"],
        "language": outputs["prompt"]["language"],
        "template": f"{outputs['prompt']['template']} v{outputs['prompt']['version']}",
        "attributes": attributes(event),
    }


chain = Chain(
    "product-copy",
    version=1,
    input=ProductInput,
    steps=(
        Normalise(),
        Profile(),
        Recognise(Lexicon.load(HERE / "lexicon.toml")),
        ChoosePrompt(HERE / "prompts"),
        Infer(name="copy", pool="copywriter", request=request),
        Moderate(parts=("copy.text", "normalise.title", "normalise.description")),
        WriteBack(row=row),
    ),
    result=result,
)
