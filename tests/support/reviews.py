"""A held task and what people say about it, for tests of the review desk."""

from typing import Any

from pydantic import BaseModel

from callstream.agents.review import Claim, Release, ReviewDesk, Verdict, command_event
from callstream.agents.review.said import Command, Due
from callstream.agents.settle import Work, settle
from callstream.streams.chain import Chain, Chains, Step
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.outcome import Forward, Hold, Outcome
from callstream.streams.review import Terms
from callstream.streams.wire import decode

SINCE = 100.0
"""When the task was held; events of people say how long after it they are."""
COPY = "最佳 mug"


class Input(BaseModel):
    title: str = ""


class Named(Step):
    service = "moderate"

    def __init__(self, name: str) -> None:
        self.name = name


class Holding(Named):
    """A step that holds, sends back to `copy`, and refuses edits with a bad word."""

    rechecks = True
    regenerates = "copy"

    async def recheck(self, event: Event) -> str | None:
        text = event.body.outputs["copy"]["text"]
        return "superlative: 'worst' at 0-5" if "worst" in text else None


CHAINS = Chains([Chain("shop", Input, (Named("copy"), Holding("moderate"), Named("catalogue")))])


class RowCell:
    """A row in memory that counts its writes."""

    def __init__(self, value: Json | None = None) -> None:
        self.value = value
        self.writes = 0

    async def save(self, value: Json) -> None:
        self.value = value
        self.writes += 1


def held_task(sequence: int = 3, **terms: Any) -> Event:
    """A task as it stands on the review topic: the step before that number has held it."""
    body = Body(
        submission=Submission(chain="shop", input={"title": "Mug"}),
        digest="0" * 64,
        outputs={"copy": {"text": COPY, "n": 1}},
    )
    event = Event(tenant="acme", task="mug-1", chain="shop", version=1, sequence=sequence - 1, body=body, time=10.0)
    hold = Hold("superlative", {"verdict": "hold"}, Terms.model_validate(terms), COPY)
    return one(settle(event, hold, Work("moderate", "moderate", SINCE - 1, SINCE), CHAINS))


def one(records: Any) -> Event:
    """The one event that there is."""
    [record] = records
    return decode(record.value, record.headers)


def claim(who: str, at: float, seconds: float = 60.0, held: Event | None = None) -> Event:
    return said(Claim(reviewer=who, seconds=seconds), at, held)


def release(who: str, at: float) -> Event:
    return said(Release(reviewer=who), at)


def verdict(choice: str, who: str, at: float, held: Event | None = None, **more: Any) -> Event:
    return said(Verdict.model_validate({"verdict": choice, "reviewer": who, **more}), at, held)


def due(at: float) -> Event:
    return said(Due(at=SINCE + at), at)


def said(command: Command, at: float, held: Event | None = None) -> Event:
    """What is said so many seconds after the hold, as it comes from the log."""
    return command_event(held or held_task(), command, SINCE + at)


async def after(*events: Event, desk: ReviewDesk | None = None, cell: RowCell | None = None) -> tuple[RowCell, Outcome]:
    """The row after these events, and what followed from the last of them."""
    desk, cell = desk or ReviewDesk(chains=CHAINS), cell or RowCell()
    outcome: Outcome = Forward()
    for event in events:
        outcome = await desk.act(event, cell)
    return cell, outcome


def review_in(cell: RowCell) -> Json:
    assert cell.value is not None
    review: Json = cell.value["review"]
    return review


def noted(cell: RowCell) -> list[tuple[str, str, float]]:
    """Who did what when, in seconds after the hold."""
    return [(one["by"], one["what"], one["at"] - SINCE) for one in review_in(cell)["audit"]]
