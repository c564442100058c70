"""The step that has texts turned into vectors, and the chain that offers it to anybody."""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from callstream.agents.inference.call import Reply
from callstream.agents.inference.step import Asking, call_id
from callstream.streams import strict_json
from callstream.streams.chain import Attempts, Cell, Chain
from callstream.streams.event import Event, Failure, Json
from callstream.streams.outcome import Bury, Forward, Outcome

MOST_TEXTS = 64
MOST_CHARACTERS = 8_000
MOST_ANSWER_BYTES = 16 * 1024 * 1024
DIGITS = 7
"""Of a number after its point: what a 32-bit float holds of a vector of unit length."""


class BadTexts(ValueError):
    """What is to be embedded is too much, or no text; the message says which."""


class Embed(Asking):
    """Have a pool of embedding endpoints (OpenAI's `/embeddings`) turn texts into vectors.

    `texts` gives them from the event: at most 64, of at most 8,000 characters each. Output:
    `{"embeddings": [[…], …], "model"}`, one for each text in their order. Without any text nothing is asked.

        Embed(pool="embedder", texts=lambda event: [event.body.outputs["normalise"]["title"]])
    """

    def __init__(
        self,
        pool: str,
        texts: Callable[[Event], Sequence[str]],
        name: str = "embed",
        attempts: Attempts | None = None,
    ) -> None:
        self.name, self.pool = name, pool
        self.attempts = attempts or Attempts()
        self._texts = texts

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Ask about all texts at once."""
        try:
            texts = self._given(event)
        except BadTexts as error:
            return Bury(Failure(kind="texts", message=str(error), step=self.name))
        if not texts:
            return self._told(event, texts, [], None)
        reply = await self.data(event, state, "embeddings", {"input": texts})
        if not isinstance(reply, Reply):
            return reply
        vectors = strict_json.loads(reply.text.encode(), MOST_ANSWER_BYTES)["embeddings"]
        if len(vectors) != len(texts):
            said = f"{len(vectors)} vectors came for {len(texts)} texts"
            return Bury(Failure(kind="vectors", message=said, step=self.name), usage=reply.usage)
        return self._told(event, texts, vectors, reply)

    async def rehearse(self, event: Event) -> Json:
        """What it would ask."""
        try:
            texts = self._given(event)
        except BadTexts as error:
            return {"would_fail": {"kind": "texts", "message": str(error)}}
        if not texts:
            return {"output": self.output(event, texts, [], "")}
        return {"would_send": {"pool": self.pool, "call": call_id(event), "request": {"input": texts}}}

    def output(self, event: Event, texts: Sequence[str], vectors: Sequence[Sequence[float]], model: str) -> Json:
        """What is made of the vectors. Raises ValueError where they cannot be used."""
        return {"embeddings": [[round(value, DIGITS) for value in vector] for vector in vectors], "model": model}

    def _told(
        self, event: Event, texts: Sequence[str], vectors: Sequence[Sequence[float]], reply: Reply | None
    ) -> Outcome:
        usage, notes = (None, ()) if reply is None else (reply.usage, reply.notes)
        try:
            output = self.output(event, texts, vectors, "" if usage is None else usage.model)
        except ValueError as error:
            return Bury(Failure(kind="vectors", message=str(error)[:2000], step=self.name), usage=usage)
        return Forward(output, usage, notes)

    def _given(self, event: Event) -> list[str]:
        texts = list(self._texts(event))
        if len(texts) > MOST_TEXTS:
            raise BadTexts(f"{len(texts)} texts are to be embedded at once; at most {MOST_TEXTS} are taken")
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str) or not text.strip():
                raise BadTexts(f"text {number} of {len(texts)} is empty")
            if len(text) > MOST_CHARACTERS:
                raise BadTexts(f"text {number} has {len(text)} characters; at most {MOST_CHARACTERS} are taken")
        return texts


Text = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]


class Texts(BaseModel):
    """Texts to be turned into vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


def embedding_chain(pool: str, name: str = "embed") -> Chain:
    """A chain of one step: `{"texts": […]}` becomes `{"embeddings": [[…], …], "model"}`. What builds an index asks it.

    So that limits hold, and nothing is paid twice, for an index too.
    """
    step = Embed(pool, lambda event: event.input["texts"])
    return Chain(name, version=1, input=Texts, steps=(step,), result=lambda event: event.body.outputs[step.name])
