"""Rules that say where a task goes: what they see, what they may be, and that chance has no part in them."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.chain import Chain
from callstream.streams.event import Event, Hop, Usage
from callstream.streams.routes import END, MOST_RULES, RouteFailed, Routes, Rule, choose
from tests.support.events import Input, Say, an_event

STEPS = (Say("facts", "prepare"), Say("copy", "infer"), Say("check", "moderate"))
SPENT = Usage(model="mini", tokens_out=900)
TRAIL = (Hop(step="copy", service="infer", started=1, ended=2, usage=SPENT),)


def event_of(**changes: Any) -> Event:
    return an_event(outputs={"facts": {"language": "de", "sizes": [1, 2, 3]}}, trail=TRAIL, **changes)


def routes(*rules: Rule, **more: str) -> Routes:
    return Routes(rules, **more)


@pytest.mark.parametrize(
    "when",
    [
        "chain == 'shop' && version == 1",
        "tenant == 'acme' && task.startsWith('mug')",
        "priority in ['normal', 'high']",
        "step == 'facts'",
        "input.title.contains('mug')",
        "outputs.facts.language == 'de'",
        "outputs.facts.sizes.exists(n, n > 2)",
        "usage.copy.model == 'mini' && usage.copy.tokens_out > 800",
        "!has(outputs.facts.brand)",
    ],
)
def test_a_rule_sees_the_whole_event(when: str) -> None:
    route = choose(routes(Rule(when, "check")), event_of(), "facts")
    assert route.to == "check"
    assert route.note == f"route: rule 1 of 'facts' ({when}) to 'check'"


def test_the_first_rule_that_is_true_decides_and_without_one_the_next_step_follows() -> None:
    rules = (Rule("tenant == 'other'", "copy"), Rule("version == 1", "check"), Rule("true", END))
    assert choose(routes(*rules), event_of(), "facts").to == "check"
    assert choose(routes(*rules), event_of(version=2), "facts").to == END
    assert choose(routes(rules[0]), event_of(), "facts").to is None
    route = choose(routes(rules[0], otherwise="check"), event_of(), "facts")
    assert (route.to, route.note) == ("check", "route: no rule of 'facts' to 'check'")


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("outputs.facts.brand == 'Nordwind'", "no such field: brand; guard it with has(…)"),
        ("input.title > 3", "a value is of another type"),
        ("input.title", "it gives str, not true or false"),
        ("1 / 0 == 1", "division by zero"),
    ],
)
def test_a_rule_that_fails_is_told_in_full_unless_a_step_stands_in(when: str, why: str) -> None:
    rule = Rule(when, "check")
    with pytest.raises(RouteFailed) as failed:
        choose(routes(rule), event_of(), "facts")
    assert f"rule 1 of 'facts' ({when}) failed: " in str(failed.value)
    assert why in str(failed.value)
    route = choose(routes(rule, on_error="copy"), event_of(), "facts")
    assert route.to == "copy"
    assert why in route.note


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("tenant ==", "it cannot be parsed"),
        ("", "it cannot be parsed"),
        ("(" * 400 + "true" + ")" * 400, "it cannot be parsed"),
        ("tennant == 'acme'", "'tennant' is not known; known are: chain, input, outputs"),
        ("true || " * 200 + "true", "1,604 characters; at most 1,000"),
        (
            "input.a.all(x, input.a.all(y, input.a.exists(z, x == y)))",
            "it has 3 loops (all, exists, exists_one, map, filter); at most 2 are run",
        ),
        ("[1].//\nall(x, [1].//\nall(y, [1].//\nall(z, true)))", "a line break"),
        ("cel.bind(x, input.a + input.a, x == x)", "binds or transforms"),
    ],
)
def test_what_is_no_rule_is_refused_when_it_is_declared(when: str, why: str) -> None:
    with pytest.raises(ValueError, match="rule") as refused:
        Rule(when, "check")
    assert why in str(refused.value)


@pytest.mark.parametrize("weights", [{}, {"copy": -1}, {"copy": 0}, {"copy": 0.5}, {"copy": 10**7}])
def test_weights_are_whole_numbers(weights: Any) -> None:
    with pytest.raises(ValueError, match="weights"):
        Rule("true", weights)


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("", "a name has 1 to 249"),
        ("x" * 250, "a name has 1 to 249"),
        ("a/b", "a name has 1 to 249"),
        ("orders\n", "a name has 1 to 249"),
        ("..", "a name has 1 to 249"),
        ("callstream.dead", "is reserved: events go to a service by the name of its step"),
        ("callstream-gateway-tasks-changelog", "is reserved"),
        ("__consumer_offsets", "is reserved"),
    ],
)
def test_a_topic_has_a_name_that_is_nobody_elses(topic: str, why: str) -> None:
    with pytest.raises(ValueError, match="topic") as refused:
        Rule("true", END, topic=topic)
    assert why in str(refused.value)


@pytest.mark.parametrize("count", [0, MOST_RULES + 1])
def test_rules_are_bounded(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} rules; 1 to {MOST_RULES}"):
        Routes((Rule("true", END),) * count)


def test_a_canary_gets_its_share_to_a_per_cent_and_each_task_keeps_its_way() -> None:
    # Given a twentieth of the traffic for a new step
    canary = routes(Rule("true", {"copy": 95, "check": 5}))
    events = [event_of(task=f"t-{number}") for number in range(10_000)]
    # when ten thousand tasks come, twice
    ways = [choose(canary, event, "facts").to for event in events]
    again = [choose(canary, event, "facts").to for event in events]
    # then the share is kept, and nobody's way has changed
    assert abs(Counter(ways)["check"] - 500) <= 100
    assert ways == again
    # and another rule's share is drawn from other tasks
    second = [choose(routes(Rule("false", END), *canary.rules), event, "facts").to for event in events]
    both = sum(one == other == "check" for one, other in zip(ways, second, strict=True))
    assert both < 60


@given(st.dictionaries(st.sampled_from(["facts", "copy", "check"]), st.integers(0, 9), min_size=1))
def test_a_weight_of_nothing_gets_nothing(weights: dict[str, int]) -> None:
    if not sum(weights.values()):
        return
    rules = routes(Rule("true", weights))
    drawn = {choose(rules, event_of(task=f"t-{number}"), "facts").to for number in range(50)}
    assert drawn <= {name for name, weight in weights.items() if weight}


@pytest.mark.parametrize(
    ("given_routes", "why"),
    [
        ({"facts": Routes((Rule("true", "cpoy"),))}, "no step is called 'cpoy'; known: facts, copy, check"),
        ({"fact": Routes((Rule("true", "copy"),))}, "no step is called 'fact'"),
        ({"facts": Routes((Rule("true", {"copy": 1, "x": 1}),))}, "no step is called 'x'"),
        ({"facts": Routes((Rule("true", "copy", shadow="y"),))}, "no step is called 'y'"),
        ({"facts": Routes((Rule("true", END),), otherwise="z")}, "no step is called 'z'"),
        ({"facts": Routes((Rule("true", END),), on_error="intake")}, "no step is called 'intake'"),
    ],
)
def test_a_route_to_nowhere_is_refused_when_the_chain_is_declared(given_routes: Any, why: str) -> None:
    with pytest.raises(ValueError, match="chain shop: routes of") as refused:
        Chain("shop", Input, STEPS, routes=given_routes)
    assert why in str(refused.value)


@given(st.integers(0, 500), st.integers(0, 2))
def test_numbers_grow_whichever_way_a_task_goes(after: int, index: int) -> None:
    chain = Chain("shop", Input, STEPS, routes={"intake": Routes((Rule("true", "copy"),))})
    sequence = chain.sequence_of(STEPS[index].name, after)
    assert after < sequence <= after + 4
    assert chain.step(sequence) is STEPS[index]
    assert (chain.step(0), chain.step(4), chain.step(5)) == (None, None, STEPS[0])


def test_without_routes_there_is_no_second_round() -> None:
    assert Chain("shop", Input, STEPS).step(5) is None
