"""The desk behind the real actor: what is sent, in which order, and what becomes of what cannot be sent."""

import pytest

from callstream.agents.actor import Actor
from callstream.agents.fakes import FakePorts, deliver, stream
from callstream.agents.review import ReviewDesk
from callstream.agents.roles import ActRole
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import End, Event, Json
from callstream.streams.wire import decode
from tests.support.reviews import CHAINS, Holding, Input, Named, claim, held_task, verdict


async def reviewed(*events: Event, chains: Chains = CHAINS) -> FakePorts:
    """The ports after the service `review` has taken these events."""
    ports = FakePorts()
    actor = Actor(ActRole("review", ReviewDesk(chains=chains).review, stateful=True), ports, chains, 1, 1)
    await actor.run(stream(deliver(events, "review")))
    assert await actor.drain(5)
    assert ports.crashes == []
    return ports


async def test_each_thing_said_is_told_and_a_verdict_sends_the_task_on_behind_it() -> None:
    ports = await reviewed(held_task(due_seconds=9, on_due="reject"), claim("ann", 1), verdict("approve", "ann", 2))
    assert ports.topics() == ["timer", "notified", "notified", "moderate"]


async def test_a_task_that_goes_back_is_on_the_topic_of_its_step() -> None:
    ports = await reviewed(held_task(), verdict("regenerate", "ann", 1, reason="shorter"))
    assert ports.topics() == ["notified", "moderate"]
    back = decode(ports.sent[-1].value, ports.sent[-1].headers)
    assert (back.sequence, back.body.held, back.deadline) == (5, None, None)


async def test_what_was_approved_and_cannot_be_sent_on_ends_the_task_and_is_a_dead_letter_of_it() -> None:
    def broken(event: Event) -> Json:
        raise RuntimeError("no result")

    chains = Chains([Chain("shop", Input, (Named("copy"), Holding("moderate")), result=broken)])
    ports = await reviewed(held_task(), verdict("approve", "ann", 1), chains=chains)
    letter, ended = (decode(record.value, record.headers) for record in ports.sent[-2:])
    assert ports.topics()[-2:] == ["dead", "finished"]
    assert (letter.body.submission.input, ended.body.end) == ({"title": "Mug"}, End.FAILED)


@pytest.mark.parametrize("said", ["reject", "approve"])
async def test_events_that_come_again_have_the_same_ids(said: str) -> None:
    events = [held_task(), verdict(said, "ann", 1, reason="so")]
    once, twice = await reviewed(*events), await reviewed(*events, *events)
    ids = {(record.topic, dict(record.headers)["ce_id"]) for record in once.sent}
    assert {(record.topic, dict(record.headers)["ce_id"]) for record in twice.sent} == ids
