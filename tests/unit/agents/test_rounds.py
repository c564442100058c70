"""Events whose chain or version is not on this worker: kept until it is, and never for ever."""

from dataclasses import replace

import pytest

from callstream.agents.actor import Actor
from callstream.agents.fakes import FakePorts, deliver, stream
from callstream.agents.rounds import LOOK_SECONDS, Rounds
from callstream.agents.steps import StepRole
from callstream.agents.trying import Trying
from callstream.agents.versions import SINCE, Held, hold, released
from callstream.streams.chain import Chain, Chains, MissingVersion, UnknownChain
from callstream.streams.event import TASK_UNVERSIONED, End, Event
from callstream.streams.outcome import Bury, Forward, Resume
from callstream.streams.timing import timed
from callstream.streams.wire import Record, decode
from callstream.tables.tasks import fold
from tests.support.events import CHAINS, SHOP, Input, Say, an_event

NEWER = Chains([SHOP, Chain("shop", Input, (Say("facts", "prepare"), Say("copy", "infer")), version=2)])
MISSING = MissingVersion("shop", 2, "shop v1")


def read(record: Record) -> Event:
    return decode(record.value, record.headers)


def back(ports: FakePorts) -> Event:
    """The event that the timer was last given, as it brings it back to the service's topic some seconds later."""
    record = next(record for record in reversed(ports.sent) if record.topic == "callstream.timer")
    given = timed(record.key, record.value, record.headers)
    assert given.record.topic == "callstream.prepare"
    assert given.due == (ports.time + LOOK_SECONDS) * 1_000_000
    return read(given.record)


async def handled(ports: FakePorts, events: list[Event], chains: Chains = CHAINS, hours: float = 24.0) -> list[int]:
    """Take the events on the service `prepare`; gives what was acknowledged."""
    actor = Actor(StepRole("prepare", chains, stateful=False), ports, chains, concurrency=8, max_unfinished=64)
    actor.rounds.most_seconds = hours * 3600
    deliveries = deliver(events, "prepare")
    await actor.run(stream(deliveries))
    assert await actor.drain(5)
    assert ports.crashes == []
    return deliveries[0].acked


async def test_a_task_whose_version_is_missing_is_kept_and_one_that_is_known_goes_on() -> None:
    # Given a worker that has version 1 alone
    ports = FakePorts()
    # when a task of version 2 comes, and one of version 1 behind it
    acked = await handled(ports, [an_event(version=2), an_event(task="mug-2")])
    # then the first goes round, told to whoever shows it, and the second goes on
    assert sorted(ports.topics()) == ["infer", "notified", "timer"]
    assert acked == [0, 1]
    kept = back(ports)
    assert (kept.id, kept.version, kept.body) == (an_event().id, 2, an_event().body)
    assert SINCE in kept.extensions


async def test_a_worker_that_has_the_version_takes_its_step() -> None:
    # Given a task that went round on an older worker
    older, newer = FakePorts(), FakePorts()
    await handled(older, [an_event(version=2)])
    # when a newer one reads it, then it goes on and nothing of its wait is left
    await handled(newer, [back(older)], NEWER)
    following = read(newer.sent[-1])
    assert (newer.topics(), following.sequence, following.version) == (["infer"], 2, 2)
    assert following.extensions == {}
    assert [hop.step for hop in following.body.trail] == ["facts"]


async def test_a_task_is_told_of_once_however_often_it_goes_round() -> None:
    ports = FakePorts()
    await handled(ports, [an_event(version=2)])
    for _ in range(3):
        await handled(ports, [back(ports)])
    assert ports.topics().count("notified") == 1
    assert {read(record).extensions[SINCE] for record in ports.sent} == {"1970-01-01T00:16:40.000000Z"}


async def test_after_so_many_hours_it_fails_and_says_what_was_missing() -> None:
    ports = FakePorts()
    await handled(ports, [an_event(version=2)], hours=2)
    held = back(ports)
    ports.time += 2 * 3600
    await handled(ports, [held], hours=2)
    assert ports.topics()[-2:] == ["dead", "finished"]
    ended = read(ports.sent[-1])
    assert ended.body.end is End.FAILED
    assert ended.body.failure is not None
    assert ended.body.failure.kind == "unknown-chain"
    assert ended.body.failure.message == (
        "waited 2.0 h on 'prepare' for version 2 of chain 'shop': this worker has no 'shop' version 2; it has: shop v1"
    )


async def test_a_verdict_on_a_task_of_a_missing_version_goes_round_too() -> None:
    # Given a role that decides for an event of another version
    class Desk(StepRole):
        async def act(self, event: Event, state: object) -> Resume:
            return Resume(replace(event, version=2), Forward())

    ports = FakePorts()
    role = Desk("prepare", CHAINS, stateful=False)
    rounds = Rounds(Trying(role, ports, CHAINS), "prepare", ports, CHAINS)
    # when it can't be performed here, then the event that asked for it comes again
    _, record = await rounds.records(an_event(), deliver([an_event()], "verdicts")[0])
    given = timed(record.key, record.value, record.headers)
    assert (given.record.topic, read(given.record).id) == ("callstream.verdicts", an_event().id)


def test_past_its_deadline_nothing_waits() -> None:
    outcome = hold(an_event(version=2, deadline=50.0), MISSING, "prepare", 51.0, 3600.0)
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "deadline"
    assert "version 2 of chain 'shop'" in outcome.failure.message


@pytest.mark.parametrize("since", ["soon", "", "9999-01-01T00:00:00Z", "2020-01-01T00:00:00"])
def test_what_says_since_when_may_be_anything(since: str) -> None:
    outcome = hold(an_event(extensions={SINCE: since}), MISSING, "prepare", 100.0, 60.0)
    assert isinstance(outcome, Held)


def test_an_event_that_was_not_held_is_released_as_it_is() -> None:
    event = an_event(extensions={"other": "x"})
    assert released(event) is event
    assert released(event.extended(**{SINCE: "x"})) == event


def test_the_status_says_which_version_is_missing_since_when_until_the_task_goes_on() -> None:
    held = hold(an_event(version=2), MISSING, "prepare", 77.0, 3600.0)
    assert isinstance(held, Held)
    assert held.remark is not None
    remark = read(held.remark)
    assert remark.type == TASK_UNVERSIONED
    told = {"chain": "shop", "version": 2, "service": "prepare", "since": 77.0, "run": 0, "sequence": 1}
    # whichever comes first
    for order in ((an_event(version=2), remark), (remark, an_event(version=2)), (remark, held.event, remark)):
        row = None
        for event in order:
            row, hops = fold(row, event, CHAINS, 80.0)
            assert hops == ()
        assert row is not None
        assert (row["missing"], row["state"], row["version"]) == (told, "running", 2)
    # and not any more when it has gone on, even if it is said again
    for event in (an_event(version=2, sequence=2), remark):
        row, _ = fold(row, event, CHAINS, 81.0)
        assert row["missing"] is None


def test_a_chain_that_nobody_has_and_a_version_that_is_missing_are_told_apart() -> None:
    with pytest.raises(UnknownChain) as unknown:
        CHAINS.current("nowhere")
    assert not isinstance(unknown.value, MissingVersion)
    with pytest.raises(MissingVersion, match="no 'shop' version 9; it has: shop v1"):
        CHAINS.get("shop", 9)
