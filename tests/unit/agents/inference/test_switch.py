"""The layer that asks the rules: what it sends where, what it tells, and what happens when rules change."""

from dataclasses import replace
from typing import Any

import pytest

from callstream.agents.inference.call import Call, Reply
from callstream.agents.inference.choice import Rule
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.switch import Switch, Switched, asked_of, rules_by_pool
from callstream.streams.event import Usage
from callstream.streams.replay.lineage import drawn_by

POOLS = InferenceOptions.model_validate(
    {
        "pools": {
            "copywriter": {
                "endpoints": [{"name": n, "base_url": "http://h/v1", "model": f"m-{n}"} for n in ("a", "b")]
            },
            "cheap": {"endpoints": [{"name": "c", "base_url": "http://h/v1", "model": "m-c"}]},
        }
    }
).pools


def switch(*rules: Rule) -> Switch:
    made = Switch(POOLS)
    made.set(rules_by_pool([("copywriter", f"r{number}", rule) for number, rule in enumerate(rules, start=1)]))
    return made


def reply(endpoint: str) -> Reply:
    return Reply("A mug.", usage=Usage(endpoint=endpoint, model=f"m-{endpoint}", calls=1))


async def test_without_rules_nothing_is_chosen_and_nothing_told() -> None:
    model = ScriptedModel([reply("a")])
    assert (await Switch(POOLS).choose(model)(a_call())).notes == ()
    assert model.calls[0].choice is not None
    assert model.calls[0].choice.endpoints == frozenset()


async def test_the_choice_goes_with_the_call_and_into_its_notes() -> None:
    model = ScriptedModel([reply("b"), reply("a")])
    choose = switch(Rule(endpoints=("b",))).choose(model)
    assert (await choose(a_call())).notes == ("choice: rule 'r1' of pool 'copywriter': to b; b (m-b) had the call",)
    assert (await choose(a_call())).notes[0].endswith("a (m-a) had the call, since what was chosen was out")
    assert model.calls[0].choice is not None
    assert model.calls[0].choice.endpoints == {"b"}


async def test_a_call_that_is_moved_is_a_call_of_the_other_pool() -> None:
    model = ScriptedModel([reply("c")])
    told = await switch(Rule(to="cheap")).choose(model)(a_call())
    assert model.calls[0].pool == "cheap"
    assert told.notes == ("choice: rule 'r1' of pool 'copywriter': to pool cheap; c (m-c) had the call",)


async def test_a_call_that_waits_is_asked_about_anew_when_rules_change() -> None:
    rules = switch(Rule(to="cheap"))
    seen: list[Call] = []

    async def waits(call: Call) -> Reply:
        seen.append(call)
        if len(seen) == 1:
            rules.set({})
            rules.require(call)
        return reply("a")

    told = await rules.choose(waits)(a_call())
    assert ([call.pool for call in seen], told.notes) == (["cheap", "copywriter"], ())


async def test_requests_of_before_the_change_are_counted() -> None:
    gone = Switched()
    gone.requests = 2
    told = await switch().choose(ScriptedModel([gone, reply("a")]))(a_call())
    assert told.usage.calls == 3


async def test_a_change_that_says_the_same_of_a_call_does_not_touch_it() -> None:
    rules, model = switch(Rule(endpoints=("b",))), ScriptedModel([reply("b")])
    await rules.choose(model)(a_call())
    held = model.calls[0]
    rules.set(rules_by_pool([("copywriter", "r1", Rule(endpoints=("b",)))]))
    rules.require(held)
    rules.require(replace(held, choice=None))
    rules.set(rules_by_pool([("copywriter", "r1", Rule(endpoints=("a",)))]))
    with pytest.raises(Switched):
        rules.require(held)


@pytest.mark.parametrize(
    ("request_body", "characters", "answer"),
    [({"max_tokens": 7}, 16, 7), ({"x": object()}, 0, None), ({"max_tokens": "many"}, 21, None)],
)
def test_rules_see_how_long_a_request_is(request_body: Any, characters: int, answer: int | None) -> None:
    asked = asked_of(a_call(request=request_body))
    assert (asked.characters, asked.answer_tokens) == (characters, answer)
    assert asked.values["tenant"] == "acme"


@pytest.mark.parametrize("task", ["mug-1~7bd32a0b46e2", "mug-1~7bd32a0b46e2~2.3", "mug-1~2.3~7bd32a0b46e2"])
def test_what_is_made_of_a_task_draws_as_the_first_did(task: str) -> None:
    drawn = {asked_of(a_call(task=one)).draws_as for one in ("mug-1", task)}
    assert drawn == {drawn_by("acme", "mug-1")}
    assert asked_of(a_call(task="mug-2")).draws_as not in drawn
