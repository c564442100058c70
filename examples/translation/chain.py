"""A short text becomes copy, is moderated, and is then translated by a step that callstream does not ship."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from callstream.agents.delivery import CatalogueRow, WriteBack
from callstream.agents.inference.call import Call, CallFailed, Model
from callstream.agents.inference.step import Infer, call_id, outcome_of
from callstream.agents.moderation import Moderate
from callstream.agents.prepare import Normalise
from callstream.agents.tools import Tools
from callstream.streams.chain import Cell, Chain, Step
from callstream.streams.event import Event, Json, Usage
from callstream.streams.outcome import Forward, Outcome

LANGUAGES = {"de": "German", "fr": "French", "zh": "Simplified Chinese"}


class Translate(Step):
    """Asks a model for the copy in each of some languages. Output: `{"texts": {"de": …, "fr": …}}`.

    It names a service of its own, so it has its own topic, consumer group and table: `callstream worker translate` runs
    it alone. `remembers` asks for a table: there each call leaves a receipt, under an id that does not depend on the
    attempt, so that a translation that is paid for is not paid again.
    """

    service: ClassVar[str] = "translate"
    remembers: ClassVar[bool] = True

    def __init__(self, to: Sequence[str], name: str = "translate", pool: str = "copywriter") -> None:
        if unknown := [code for code in to if code not in LANGUAGES]:
            raise ValueError(f"step {name}: no such language: {', '.join(unknown)}; known: {', '.join(LANGUAGES)}")
        self.name = name
        self.to = tuple(to)
        self.pool = pool
        self._model: Model | None = None

    async def open(self, tools: Tools) -> None:
        """Take the model."""
        self._model = tools.model

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Ask once for each language, one after the other."""
        if self._model is None:
            raise RuntimeError(f"step {self.name} acts before it was opened")
        text = event.body.outputs["copy"]["text"]
        texts: Json = {}
        spent: list[Usage] = []
        for number, language in enumerate(self.to, start=1):
            call = Call(
                id=call_id(event, number),
                tenant=event.tenant,
                task=event.task,
                pool=self.pool,
                request=request_translation(text, language),
                cell=state,
                deadline=event.deadline,
                traceparent=event.traceparent,
            )
            try:
                reply = await self._model(call)
            except CallFailed as failure:
                return outcome_of(failure, self.name)
            texts[language] = reply.text
            spent.append(reply.usage)
        return Forward({"texts": texts}, total(spent), notes=(f"translated into {', '.join(self.to)}",))


def request_translation(text: str, language: str) -> Json:
    """The body of the chat completion; the text is a message of its own, so that it gives no instructions."""
    system = f"Translate the user's text into {LANGUAGES[language]}. Answer with the translation alone."
    return {
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
        "temperature": 0.2,
    }


def total(spent: Sequence[Usage]) -> Usage | None:
    """The usage of several calls as one."""
    if not spent:
        return None
    sums: dict[str, Any] = {
        name: sum(getattr(usage, name) for usage in spent) for name in ("calls", "repeated", "tokens_in", "tokens_out")
    }
    return spent[-1].model_copy(update=sums)


class TextInput(BaseModel):
    """A product in a few words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    title: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    description: Annotated[str, StringConstraints(max_length=4000)] = ""


def request_copy(event: Event) -> Json:
    """What the copywriter is asked."""
    texts = event.body.outputs["normalise"]
    return {
        "messages": [
            {"role": "system", "content": "Write two sentences of product copy in English from the user's data."},
            {
                "role": "user",
                "content": f"Title: {texts['title']}\nDescription: {' '.join(texts['description'].split())}",
            },
        ]
    }


def row(event: Event) -> CatalogueRow:
    """The English copy, with the translations beside it."""
    return CatalogueRow(
        product=event.input["product_id"],
        title=event.body.outputs["normalise"]["title"],
        language="en",
        text=event.body.outputs["copy"]["text"],
        attributes={"translations": event.body.outputs["translate"]["texts"]},
    )


def result(event: Event) -> Json:
    """What the caller gets in the end."""
    return {"en": event.body.outputs["copy"]["text"], **event.body.outputs["translate"]["texts"]}


chain = Chain(
    "translation",
    version=1,
    input=TextInput,
    steps=(
        Normalise(),
        Infer(name="copy", pool="copywriter", request=request_copy),
        Moderate(),
        Translate(to=("de", "fr")),
        WriteBack(row=row),
    ),
    result=result,
)
