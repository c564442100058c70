"""A chain for tests of answers that come piece by piece: its input is what the stub says. A worker loads it by path."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from callstream.agents.inference.step import Infer
from callstream.streams.chain import Attempts, Chain
from callstream.streams.event import Event, Json


class Wanted(BaseModel):
    """What is to be said, and how the stub is to fail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    say: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    fail: str = ""


def request(event: Event) -> Json:
    """One message with the stub's directives."""
    fail = f"stub-fail: {event.input['fail']}\n" if event.input["fail"] else ""
    return {"messages": [{"role": "user", "content": f"{fail}stub-say: {event.input['say']}"}]}


written = Chain(
    "written",
    version=1,
    input=Wanted,
    steps=(Infer(name="copy", pool="copywriter", request=request, stream="shown", attempts=Attempts(most=3)),),
)
