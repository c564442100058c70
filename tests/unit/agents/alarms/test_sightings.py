"""What records and reports say: letters by the step that they died at, refusals, breakers, what waits."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.alarms.judge import Level, Sighting
from callstream.agents.alarms.options import Kind
from callstream.agents.alarms.sightings import breakers, of_letter, of_refusals, waiting
from callstream.agents.settle import Work, settle
from callstream.streams.event import Event, Failure, Json
from callstream.streams.lag import Lag
from callstream.streams.letters import unreadable
from callstream.streams.outcome import Bury
from callstream.streams.wire import Record
from tests.support.events import CHAINS, EVENTS, VALUES, an_event


def letter(kind: str = "conflict", **changes: Any) -> Record:
    """What is buried at the step `copy`."""
    event = replace(an_event(**changes), sequence=2)
    work = Work("infer", "copy", 1.0, 2.0, origin=("callstream.infer", 0, 7))
    return settle(event, Bury(Failure(kind=kind, message="no")), work, CHAINS)[0]


def seen(record: Record, at: float = 5.0) -> list[Sighting]:
    return of_letter(record.value, record.headers, at, CHAINS)


def test_a_letter_counts_for_the_step_that_it_died_at() -> None:
    (one,) = seen(letter())
    assert (one.kind, one.subject, one.at, one.count) == (Kind.DEAD_LETTERS, "shop/copy", 5.0, 1)
    assert one.labels == {"chain": "shop", "step": "copy", "service": "infer", "tenant": "acme"}


def test_a_letter_that_was_sent_twice_has_one_id_and_of_another_task_another() -> None:
    assert seen(letter())[0].id == seen(letter(), 9.0)[0].id
    assert seen(letter())[0].id != seen(letter(task="mug-2"))[0].id
    assert seen(letter())[0].id != seen(letter(run=1))[0].id


def test_a_missed_deadline_is_a_letter_and_late() -> None:
    dead, late = seen(letter("deadline"))
    assert (dead.kind, late.kind, late.subject) == (Kind.DEAD_LETTERS, Kind.LATE, "shop/copy")
    assert dead.id != late.id


def test_what_died_in_a_sandbox_does_not_count() -> None:
    assert seen(letter(sandbox=True, parent="mug-0")) == []


def test_of_a_body_that_is_a_claim_check_the_step_is_known() -> None:
    record = letter()
    headers = [*record.headers, ("ce_dataref", b"blob:" + b"0" * 64)]
    (one,) = of_letter(b"", headers, 5.0, CHAINS)
    assert (one.subject, one.labels["service"]) == ("shop/copy", "infer")


def test_names_that_are_nobodys_are_one_subject() -> None:
    for name in ("other", "others", "another-one"):
        (one,) = seen(letter(chain=name))
        assert one.subject == "unknown/unknown"


def test_an_unreadable_record_counts_for_the_service_that_it_was_for() -> None:
    record = unreadable(("callstream.infer.high", 3, 9), b"k", b"no json", [], "not JSON")
    (one,) = seen(record)
    assert (one.subject, one.labels) == ("unreadable/infer", {"service": "infer"})


def test_what_is_no_letter_says_nothing() -> None:
    assert of_letter(b"no json", [("ce_id", b"x")], 1.0, CHAINS) == []
    assert of_letter(None, [], 1.0, CHAINS) == []


@given(EVENTS)
def test_any_event_that_was_buried_can_be_counted(event: Event) -> None:
    for record in settle(event, Bury(Failure(kind="bug", message="")), Work("infer", "copy", 1.0, 2.0), CHAINS)[:1]:
        assert len(seen(record)) == (0 if event.sandbox else 1)


def test_refusals_count_by_service_and_by_endpoint() -> None:
    told = {
        "refused": [
            {"budget": "retries", "service": "infer", "count": 3},
            {"budget": "retries", "pool": "writer", "endpoint": "mini", "count": 2},
            {"budget": "money", "pool": "writer", "count": 1},
        ]
    }
    found = of_refusals(told, "callstream.pools/0/7", 5.0)
    assert [(one.subject, one.count) for one in found] == [
        ("retries/infer", 3),
        ("retries/writer/mini", 2),
        ("money/writer", 1),
    ]
    assert found[1].labels == {"pool": "writer"}
    assert len({one.id for one in found}) == 3


@given(
    VALUES | st.fixed_dictionaries({"refused": st.lists(st.dictionaries(st.sampled_from(["count", "pool"]), VALUES))})
)
def test_whatever_stands_there_refusals_are_positive_and_bounded(told: Any) -> None:
    for one in of_refusals(told, "p", 1.0):
        assert 0 < one.count < 10**9


def report(**breakers: str) -> Json:
    endpoints = [{"endpoint": name, "breaker": state} for name, state in breakers.items()]
    aside = [{"lane": "normal", "tenant": "acme", "events": 40}]
    return {"pools": [{"pool": "writer", "endpoints": endpoints, "aside": aside}]}


def test_replicas_whose_breaker_is_not_closed_are_counted() -> None:
    reports = {"a:1": report(mini="open", large="closed"), "b:1": report(mini="half-open", large="closed")}
    assert breakers(reports) == [
        Level("writer/mini", 2, {"pool": "writer"}),
        Level("writer/large", 0, {"pool": "writer"}),
    ]


def test_what_waits_is_what_is_not_committed_and_what_was_put_aside() -> None:
    rows = [
        Lag("callstream-infer", "callstream.infer", 0, 10, 7, 3),
        Lag("callstream-infer", "callstream.infer.low", 0, 10, 8, 2),
        Lag("callstream-deliver", "callstream.deliver", 0, 10, 10, 0),
    ]
    found = {level.subject: level.value for level in waiting(rows, {"a:1": report(), "b:1": report()})}
    assert found == {"infer": 85, "deliver": 0}
