import re

from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.event import LAST_SECOND, TASK, End, Event, Hop
from callstream.streams.keys import TASK_ID_PATTERN, partition_of, task_key
from callstream.streams.replay.lineage import Manner, begin, child_of, drawn_by, named
from callstream.streams.wire import decode, encode
from tests.support.events import EVENTS, TASKS, TENANTS, an_event

NAME = named(Manner("copy"))
HOP = Hop(step="facts", service="prepare", started=1.0, ended=2.0)


@given(TENANTS, TASKS, st.integers(1, 40))
def test_a_child_lies_beside_its_parent_under_an_id_that_any_task_could_have(
    tenant: str, task: str, partitions: int
) -> None:
    child = child_of(tenant, task, NAME, partitions)
    assert re.match(TASK_ID_PATTERN, child)
    assert child != task
    assert partition_of(task_key(tenant, child), partitions) == partition_of(task_key(tenant, task), partitions)
    assert child == child_of(tenant, task, NAME, partitions)


def test_another_replay_another_tenant_and_another_parent_have_another_child() -> None:
    others = [
        child_of("acme", "mug-1", NAME, 8),
        child_of("acme", "mug-1", named(Manner("copy", name="again")), 8),
        child_of("acme", "mug-1", named(Manner("facts")), 8),
        child_of("acme", "mug-1", named(Manner("copy", reuse_answers=True)), 8),
        child_of("acme", "mug-1", named(Manner("copy", sandbox=True)), 8),
        child_of("acme", "mug-1", named(Manner("copy"), chain="shop", since=1.0), 8),
        child_of("acm", "mug-1", NAME, 8),
        child_of("acme", "mug-2", NAME, 8),
    ]
    assert len(set(others)) == len(others)


def test_parents_that_differ_only_beyond_what_the_id_has_room_for_have_children_of_their_own() -> None:
    assert child_of("acme", "z" * 127 + "a", NAME, 8) != child_of("acme", "z" * 127 + "b", NAME, 8)


@given(EVENTS, st.booleans(), st.booleans())
def test_what_begins_can_be_read_and_begins_anew(recorded: Event, reuse: bool, sandbox: bool) -> None:
    event = begin(recorded, Manner("copy", reuse, sandbox), "mug-1~0", 20.0)
    assert decode(encode(event, "t").value, encode(event, "t").headers) == event
    assert (event.task, event.attempt, event.time, event.type, event.traceparent) == ("mug-1~0", 1, 20.0, TASK, None)
    assert (event.sequence, event.priority, event.body.outputs) == (
        recorded.sequence,
        recorded.priority,
        recorded.body.outputs,
    )
    assert (event.parent, event.inherited, event.sandbox) == (recorded.task, len(recorded.body.trail), sandbox)
    assert (event.body.end, event.body.failure, event.body.held) == (None, None, None)


def test_a_child_has_as_long_as_its_parent_had() -> None:
    assert begin(an_event(time=10.0, deadline=40.0), Manner("copy"), "c", 100.0).deadline == 130.0
    assert begin(an_event(time=10.0), Manner("copy"), "c", 100.0).deadline is None
    late = begin(an_event(time=10.0, deadline=5.0), Manner("copy"), "c", 100.0)
    assert late.deadline == 101.0


def test_answers_come_from_whoever_paid_for_them() -> None:
    reusing = Manner("copy", reuse_answers=True)
    assert begin(an_event(), Manner("copy"), "c", 1.0).reuses is None
    assert begin(an_event(trail=(HOP,), end=End.FAILED), reusing, "c", 1.0).reuses == "mug-1"
    assert begin(an_event(reuses="mug-0"), reusing, "c", 1.0).reuses == "mug-0"


def test_a_deadline_stays_one_that_can_be_written_down() -> None:
    assert begin(an_event(time=0.0, deadline=float(LAST_SECOND)), Manner("copy"), "c", 100.0).deadline == LAST_SECOND


@given(TENANTS, TASKS)
def test_what_is_made_of_a_task_draws_as_it_does_however_long_its_id_is(tenant: str, task: str) -> None:
    child = child_of(tenant, task, NAME, 4)
    grandchild = child_of(tenant, child, NAME, 4)
    assert drawn_by(tenant, task) == drawn_by(tenant, child) == drawn_by(tenant, grandchild)
