"""Three candidate texts by three sub-tasks, and a join that picks the best: fan-out and fan-in."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from callstream import Cell, Chain, Event, FanOut, Outcome, Step, Subtask
from callstream.agents.inference.step import Infer
from callstream.agents.joining import Join
from callstream.agents.moderation import Moderate
from callstream.streams.event import Json

TONES = {"plain": "plain and factual", "warm": "warm and personal", "brisk": "brisk, with short sentences"}
BEST_LENGTH = 160

Title = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Product(BaseModel):
    """A product in a few words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Title


class Brief(BaseModel):
    """What one candidate is to be like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Title
    tone: str


class Ask(Step):
    """Starts a sub-task for each tone."""

    name = "ask"
    service: ClassVar[str] = "prepare"

    async def act(self, event: Event, state: Cell) -> Outcome:
        """The same title, three tones: whenever the step runs again, it starts the same three."""
        return FanOut([Subtask("candidate", {"title": event.input["title"], "tone": tone}) for tone in TONES])


def request(event: Event) -> Json:
    """What the model is asked for one candidate."""
    asked = f"Two sentences of product copy in English, {TONES[event.input['tone']]}."
    title = f"Title: {event.input['title']}"
    return {"messages": [{"role": "system", "content": asked}, {"role": "user", "content": title}]}


def candidate_of(event: Event) -> Json:
    """What a candidate gives its parent."""
    return {"tone": event.input["tone"], "text": event.body.outputs["copy"]["text"]}


def best(taken: list[Json], event: Event) -> Json:
    """The candidate that names the product and comes nearest to the best length; of equals the first."""

    def score(one: Json) -> tuple[bool, int]:
        text = one["result"]["text"]
        return event.input["title"].lower() not in text.lower(), abs(len(text) - BEST_LENGTH)

    chosen = min(taken, key=score)
    return {**chosen["result"], "candidate": chosen["id"], "of": len(taken)}


candidate = Chain("candidate", Brief, (Infer(name="copy", pool="copywriter", request=request),), result=candidate_of)

best_copy = Chain(
    "best-copy",
    Product,
    (
        Ask(),
        Join("best", least=2, within_seconds=600, pick=best),
        Moderate(parts=("best.text",)),
    ),
    result=lambda event: event.body.outputs["best"],
)

chain = [best_copy, candidate]
