"""Commands as records and what is in force of them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callstream.agents.control.ancestry import above
from callstream.agents.control.commands import (
    AnyCommand,
    BadCommand,
    CancelFilter,
    CancelTask,
    PoolRule,
    Scope,
    Selection,
    Subject,
    Switch,
    as_value,
    read,
    reason_of,
    record_of,
    told,
)
from callstream.agents.control.controls import Controls, TooMany, subject_in, subject_of
from callstream.agents.inference.choice import MOST_RULES, Rule
from callstream.agents.joining import Join
from callstream.agents.joining.subtasks import started
from callstream.streams.event import TASK_HELD, Event
from callstream.streams.outcome import FanOut, Subtask
from callstream.streams.wire import encode
from tests.support.events import EVENTS, an_event

MUG = Subject("acme", "mug-1", "shop", 10.0)
NAMES = st.sampled_from(["shop", "copy"])
TENANTS = st.sampled_from(["acme", "a"])
MOMENTS = st.integers(0, 50).map(float)
SCOPES = (
    st.builds(Scope, chain=NAMES)
    | st.builds(Scope, tenant=TENANTS)
    | st.builds(Scope, task=st.sampled_from(["mug-1", "mug-2"]), tenant=TENANTS)
    | st.builds(Scope, service=NAMES)
    | st.builds(Scope, pool=NAMES)
)
WHO = st.just("ada")
RULES = st.none() | st.builds(
    Rule,
    share=st.sampled_from([0.0, 10.0, 100.0]),
    endpoints=st.just(("e2",)),
    when=st.none() | st.just("tenant == 'a'"),
)
COMMANDS: st.SearchStrategy[AnyCommand] = (
    st.builds(CancelTask, at=MOMENTS, by=WHO, tenant=TENANTS, task=st.sampled_from(["mug-1", "mug-2"]), before=MOMENTS)
    | st.builds(
        CancelFilter,
        at=MOMENTS,
        by=WHO,
        chain=st.none() | NAMES,
        tenant=st.none() | TENANTS,
        state=st.none() | st.sampled_from(["accepted", "running", "held"]),
        before=MOMENTS,
    )
    | st.builds(Switch, at=MOMENTS, by=WHO, scope=SCOPES, paused=st.booleans())
    | st.builds(PoolRule, at=MOMENTS, by=WHO, pool=NAMES, name=NAMES, place=st.integers(0, 9), rule=RULES)
)
SUBJECTS = st.builds(
    Subject,
    tenant=TENANTS,
    task=st.sampled_from(["mug-1", "mug-2"]),
    chain=NAMES,
    time=MOMENTS,
    state=st.sampled_from(["accepted", "running", "held"]),
)


def after(*commands: AnyCommand) -> Controls:
    controls = Controls()
    for command in commands:
        controls.hear(command.key, as_value(command))
    return controls


def cancel(**changes: object) -> CancelTask:
    return CancelTask.model_validate(
        {"at": 20.0, "by": "ada", "tenant": "acme", "task": "mug-1", "before": 20.0, **changes}
    )


def a_filter(**changes: object) -> CancelFilter:
    return CancelFilter.model_validate({"at": 20.0, "by": "ada", "before": 20.0, **changes})


def switch(paused: bool = True, at: float = 20.0, **scope: Any) -> Switch:
    return Switch(at=at, by="ada", reason="costs", scope=Scope.model_validate(scope), paused=paused)


@given(COMMANDS)
def test_what_is_written_is_read(command: AnyCommand) -> None:
    record = record_of(command)
    assert read(record.key.decode(), record.value) == command


@given(st.lists(COMMANDS, max_size=8, unique_by=lambda one: one.key), SUBJECTS, st.randoms())
def test_neither_order_nor_repeats_of_different_keys_matter(
    commands: list[AnyCommand], subject: Subject, random: object
) -> None:
    others = [*commands, *commands]
    random.shuffle(others)  # type: ignore[attr-defined]
    one, other = after(*commands), after(*others)
    for controls in (one, other):
        assert controls.any == bool(controls.tasks_cancelled or controls.filters() or controls.pauses_in_force())
    assert one.cancelled(subject) == other.cancelled(subject)
    assert one.paused(subject, "shop", "copy") == other.paused(subject, "shop", "copy")
    assert one.pauses_in_force() == other.pauses_in_force()


@given(st.lists(COMMANDS, max_size=8), SUBJECTS)
def test_a_task_is_cancelled_exactly_when_some_command_says_so(commands: list[AnyCommand], subject: Subject) -> None:
    latest = {command.key: command for command in commands}.values()
    reached = [
        one
        for one in latest
        if (
            isinstance(one, CancelTask)
            and (one.tenant, one.task) == (subject.tenant, subject.task)
            and subject.time <= one.before
        )
        or (
            isinstance(one, CancelFilter)
            and one.chain in (None, subject.chain)
            and one.tenant in (None, subject.tenant)
            and one.state in (None, subject.state)
            and subject.time <= one.before
        )
    ]
    found = after(*commands).cancelled(subject)
    assert found in reached if reached else found is None


def test_a_task_that_comes_later_under_the_same_id_is_not_cancelled() -> None:
    controls = after(cancel(before=20.0))
    assert controls.cancelled(MUG) is not None
    assert controls.cancelled(Subject("acme", "mug-1", "shop", 20.5)) is None
    assert controls.cancelled(Subject("acme", "mug-2", "shop", 10.0)) is None
    assert controls.cancelled(Subject("a", "mug-1", "shop", 10.0)) is None


def test_a_filter_that_keeps_what_was_done_replaces_none_that_undoes_it() -> None:
    undoes = CancelFilter(at=20.0, by="ada", chain="shop", before=20.0)
    keeps = CancelFilter(at=21.0, by="ada", chain="shop", before=20.0, rollback=False)
    for commands in ((undoes, keeps), (keeps, undoes)):
        assert after(*commands).cancelled(MUG) == undoes
    assert read(keeps.key, as_value(keeps)) == keeps


def sub_task(event: Event, chain: str = "part", number: int = 1, now: float = 99.0) -> Event:
    """A sub-task of an event's task, as its fan-out starts it."""
    done = replace(event, sequence=event.sequence + 1)
    return started(event, done, FanOut([Subtask(chain, {})] * number), Join(), now)[-1]


def test_a_cancelled_task_takes_what_it_has_started_with_it_however_deep_and_late() -> None:
    parent = an_event(time=10.0)
    child = sub_task(parent)
    grandchild = sub_task(replace(child, sequence=1), "deep")
    stranger = sub_task(an_event(task="mug-10", time=10.0))
    controls = after(cancel(before=20.0))
    assert [controls.cancelled(subject_of(one)) is not None for one in (parent, child, grandchild, stranger)] == [
        True,
        True,
        True,
        False,
    ]
    # but not one of the same id that was accepted later, nor a task that only looks like one
    assert controls.cancelled(subject_of(sub_task(an_event(time=20.5)))) is None
    assert controls.cancelled(subject_of(an_event(task="mug-1~1.1", time=10.0))) is None
    # a sub-task alone leaves the task above it and the others
    alone = after(cancel(task="mug-1~1.1", before=200.0))
    found = [alone.cancelled(subject_of(one)) is not None for one in (parent, sub_task(parent, number=2), grandchild)]
    assert found == [False, False, True]
    # and a filter of the parent's chain takes them, too
    by_chain = after(CancelFilter(at=20.0, by="ada", chain="shop", state="running", before=20.0))
    assert by_chain.cancelled(subject_of(grandchild)) is not None


def test_headers_say_what_is_above_a_sub_task() -> None:
    deep = sub_task(replace(sub_task(an_event(time=10.25)), sequence=1))
    subject = subject_of(deep)
    assert [(one.task, one.chain, one.time) for one in subject.above] == [
        ("mug-1", "shop", 10.25),
        ("mug-1~1.1", "part", 99.0),
    ]
    assert subject_in(encode(deep, "x").headers) == subject
    for text in ("", "x", "a/b", "1/2/3", "1970-01-01T00:00:10Z/mug-1/shop/more", ",,", "99999-01-01T00:00:00Z/a/b"):
        assert above("acme", text) == ()


def test_a_pause_lasts_until_it_is_ended() -> None:
    scopes: tuple[dict[str, Any], ...] = ({"task": "mug-1", "tenant": "acme"}, {"chain": "shop"}, {"tenant": "acme"})
    for scope in scopes:
        pause = switch(**scope)
        controls = after(pause)
        assert controls.paused(MUG) == pause
        assert controls.paused(Subject("a", "mug-2", "copy", 10.0)) is None
        assert controls.pause_of(pause.scope) == pause
        controls.hear(pause.key, as_value(switch(False, 21.0, **scope)))
        assert (controls.paused(MUG), controls.any) == (None, False)
    assert after(switch(service="infer")).paused(None, "infer") is not None
    assert after(switch(service="infer")).paused(MUG) is None
    assert after(switch(pool="None")).paused(MUG, "infer") is None
    assert after(switch(pool="writer")).paused(MUG, "infer", "writer") is not None


def test_bounds_refuse_and_keep_what_is_in_force() -> None:
    controls = Controls(most_tasks=10, most_scopes=10)
    for number in range(10):
        for command in (cancel(task=f"t-{number}"), a_filter(before=float(number)), switch(chain=f"c-{number}")):
            controls.require_room(command)
            controls.hear(command.key, as_value(command))
    for command, way in (
        (cancel(task="more"), "10 cancelled tasks are in force"),
        (a_filter(before=99.0), "10 filters are in force"),
        (switch(chain="more"), "10 pauses are in force and no more are taken: resume one"),
    ):
        with pytest.raises(TooMany, match=way):
            controls.require_room(command)
        # one that two gateways took side by side is still obeyed, more than a few are not
        controls.hear(command.key, as_value(command))
        with pytest.raises(TooMany):
            controls.hear(*_renamed(command))
    # what is known may be said again, and a resume always
    controls.require_room(cancel(task="t-3"))
    controls.require_room(switch(False, chain="anything"))
    assert (controls.tasks_cancelled, len(controls.filters()), len(controls.pauses_in_force())) == (11, 11, 11)


def _renamed(command: AnyCommand) -> tuple[str, bytes]:
    match command:
        case CancelTask():
            other: AnyCommand = cancel(task="still-more")
        case CancelFilter():
            other = a_filter(before=100.0)
        case Switch():
            other = switch(chain="still-more")
    return other.key, as_value(other)


def test_what_is_swept_is_forgotten_and_a_pause_in_force_is_not_swept() -> None:
    commands = (cancel(at=1.0), a_filter(at=1.0, chain="shop"), switch(at=1.0, chain="shop"))
    ended = switch(False, at=1.0, tenant="acme")
    controls = after(*commands, ended, cancel(at=5.0, task="young"))
    assert set(controls.expired(5.0)) == {commands[0].key, commands[1].key, ended.key}
    for key in controls.expired(5.0):
        controls.hear(key, None)
    assert (controls.tasks_cancelled, controls.filters(), controls.expired(5.0)) == (1, [], [])
    assert controls.pauses_in_force() == [commands[2]]
    controls.hear(commands[2].key, None)
    controls.hear("cancel/acme/young", None)
    assert not controls.any


def a_rule(name: str, place: int = 100, at: float = 1.0, pool: str = "writer", rule: bool = True) -> PoolRule:
    return PoolRule(at=at, by="ada", pool=pool, name=name, place=place, rule=Rule(endpoints=("e2",)) if rule else None)


def test_rules_of_a_pool_stand_in_their_order_and_one_that_is_unset_is_kept_for_a_while() -> None:
    controls = after(a_rule("b"), a_rule("c", 5), a_rule("a"), a_rule("d", 1, pool="other"))
    assert [one.name for one in controls.pool_rules()] == ["d", "c", "a", "b"]
    assert not controls.any
    before = controls.rules_set
    unset = a_rule("c", at=2.0, rule=False)
    controls.hear(unset.key, as_value(unset))
    assert [one.name for one in controls.pool_rules()] == ["d", "a", "b"]
    assert controls.pool_rules(with_removed=True)[-1] == unset == controls.rule_of("writer", "c")
    assert controls.rules_set > before
    assert controls.expired(before=10.0) == [unset.key]
    controls.hear(unset.key, None)
    assert controls.rule_of("writer", "c") is None


def test_a_pool_takes_so_many_rules_and_one_that_is_there_can_be_changed() -> None:
    controls = after(*(a_rule(f"r{number}") for number in range(MOST_RULES)))
    with pytest.raises(TooMany, match="32 rules of pool writer are in force and no more are taken: unset one"):
        controls.require_room(a_rule("more"))
    controls.require_room(a_rule("r1", at=2.0))
    controls.require_room(a_rule("more", rule=False))
    controls.require_room(a_rule("more", pool="other"))


def test_the_pause_of_a_task_that_has_ended_is_not_needed_any_more() -> None:
    over, going, chain = (switch(task="a", tenant="acme"), switch(task="b", tenant="acme"), switch(chain="shop"))
    controls = after(over, going, chain)
    assert controls.pauses_over(lambda tenant, task: (tenant, task) == ("acme", "a")) == [over.key]
    controls.hear(over.key, None)
    assert controls.pauses_in_force() == sorted((going, chain), key=lambda one: one.key)


def test_has_says_whether_a_command_was_heard() -> None:
    for command in (cancel(), a_filter(), switch(chain="shop")):
        assert not Controls().has(command)
        assert after(command).has(command)
    assert not after(switch(chain="shop", at=1.0)).has(switch(False, chain="shop", at=2.0))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cancel/acme/mug-1", b"{}"),
        ("cancel/acme/mug-1", b"no json"),
        ("cancel/acme/mug-2", as_value(cancel())),
        ("erase/acme", as_value(cancel())),
        ("", as_value(cancel())),
        ("pause/chain/shop", as_value(cancel())),
        ("cancel/acme/mug-1", b"[" * 20_000),
    ],
)
def test_what_is_no_command_is_refused_and_changes_nothing(key: str, value: bytes) -> None:
    controls = after(switch(chain="shop"))
    with pytest.raises(BadCommand):
        controls.hear(key, value)
    assert (controls.tasks_cancelled, len(controls.pauses_in_force())) == (0, 1)


@pytest.mark.parametrize(
    "scope", [{}, {"chain": "a", "tenant": "b"}, {"task": "mug-1"} | {"chain": "a"}, {"chain": "A b"}, {"queue": "a"}]
)
def test_a_scope_names_one_thing(scope: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Scope.model_validate(scope)


def test_a_filter_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="names at least one of"):
        Selection.model_validate({})


def test_people_are_told_who_and_why() -> None:
    assert told(switch(chain="shop")) == {"scope": {"chain": "shop"}, "by": "ada", "reason": "costs", "since": 20.0}
    assert reason_of(cancel(reason="not needed")) == "cancelled by ada: not needed"
    assert reason_of(cancel()) == "cancelled by ada"


@given(EVENTS)
def test_headers_say_of_a_task_what_its_event_says(event: Event) -> None:
    assert subject_in(encode(event, "x").headers) == subject_of(event)


def test_a_record_without_its_headers_is_of_no_task() -> None:
    assert subject_in([("ce_tenant", b"acme"), ("ce_time", None)]) is None
    states = [subject_of(an_event(**more)).state for more in ({"sequence": 0}, {}, {"type": TASK_HELD})]
    assert states == ["accepted", "running", "held"]
