"""Which endpoints a call should have: rules, shares, and what cannot be obeyed."""

from typing import Any

import pytest
from pydantic import ValidationError

from callstream.agents.inference.choice import NAMES, SAMPLE, Asked, Choice, Chooser, Rule, about, drawn
from callstream.agents.inference.options import InferenceOptions
from tests.support.events import an_event

POOLS = InferenceOptions.model_validate(
    {
        "pools": {
            "writer": {
                "endpoints": [
                    {"name": "e1", "base_url": "http://h/v1", "model": "big", "price_in_per_million": 5},
                    {"name": "e2", "base_url": "http://h/v1", "model": "small", "price_in_per_million": 1},
                    {"name": "e3", "base_url": "http://h/v1", "model": "small", "price_in_per_million": 1},
                ]
            },
            "cheap": {"endpoints": [{"name": "c1", "base_url": "http://h/v1", "model": "tiny"}]},
        }
    }
).pools
MODELS = {name: {one.name: one.model for one in pool.endpoints} for name, pool in POOLS.items()}
VALUES: dict[str, Any] = {"tenant": "acme", "language": "zh", "input": {"price": 9.5}, "characters": 4000}
ASKED = Asked(b"4:acme:mug-1", VALUES, 4000, 100)


def choose(*rules: dict[str, Any], asked: Asked = ASKED, pool: str = "writer", **other: Any) -> Choice:
    named = [(f"r{number}", Rule.model_validate(rule)) for number, rule in enumerate(rules, start=1)]
    more = {name: [(f"{name}1", Rule.model_validate(rule))] for name, rule in other.items()}
    return Chooser({pool: named, **more}, POOLS).choose(pool, asked)


def test_without_a_rule_every_endpoint_will_do() -> None:
    assert choose() == Choice("writer", "writer")


def test_the_first_rule_that_is_true_decides_and_says_so() -> None:
    found = choose(
        {"when": "tenant == 'b'", "endpoints": ["e1"]},
        {"when": "language == 'zh' && input.price > 5.0", "endpoints": ["e2"], "only": True},
        {"endpoints": ["e3"]},
    )
    assert (found.endpoints, found.only, found.rule) == (frozenset({"e2"}), True, "r2")
    assert found.notes == ("choice: rule 'r2' of pool 'writer': to e2 only when language == 'zh' && input.price > 5.0",)


@pytest.mark.parametrize(
    ("rule", "endpoints", "weights"),
    [
        ({"model": "small"}, {"e2", "e3"}, ()),
        ({"cheapest": True}, {"e2", "e3"}, ()),
        ({"weights": {"e2": 0, "e1": 3}}, set(), (("e1", 3), ("e2", 0))),
        ({"endpoints": ["e1", "e2"]}, {"e1", "e2"}, ()),
    ],
)
def test_a_rule_chooses_endpoints_by_name_model_price_or_weight(rule: Any, endpoints: Any, weights: Any) -> None:
    found = choose(rule)
    assert (found.endpoints, found.weights) == (endpoints, weights)


def test_a_rule_moves_calls_to_another_pool_where_its_rules_hold_and_no_further() -> None:
    found = choose({"to": "cheap"}, cheap={"endpoints": ["c1"], "only": True})
    assert (found.pool, found.endpoints, found.only, found.rule) == ("cheap", frozenset({"c1"}), True, "r1, cheap1")
    assert choose({"to": "cheap"}, cheap={"to": "writer"}).pool == "cheap"


def test_a_rule_that_cannot_be_asked_or_obeyed_is_passed_over_and_told() -> None:
    found = choose({"when": "input.weight > 1", "endpoints": ["e1"]}, {"endpoints": ["e9"]}, {"endpoints": ["e2"]})
    assert found.endpoints == {"e2"}
    assert "'r1' of pool 'writer' is passed over: no such field" in found.notes[0]
    assert found.notes[1].endswith("pool 'writer' has no endpoint 'e9'; there are: e1, e2, e3")


def test_a_rule_over_what_a_step_of_ones_own_does_not_tell_is_passed_over() -> None:
    found = choose({"when": "chain == 'shop'", "endpoints": ["e1"]})
    assert found.endpoints == frozenset()
    assert "is passed over" in found.notes[0]


def test_a_share_is_drawn_by_the_task_and_who_is_in_stays_in_as_it_grows() -> None:
    tasks = [Asked(f"4:acme:{number}".encode(), VALUES) for number in range(4000)]

    def chosen(share: float) -> set[bytes]:
        return {one.draws_as for one in tasks if choose({"share": share, "endpoints": ["e2"]}, asked=one).endpoints}

    ten, half = chosen(10), chosen(50)
    assert 320 < len(ten) < 480
    assert 1850 < len(half) < 2150
    assert ten < half
    assert ten == chosen(10)
    assert (chosen(0), len(chosen(100))) == (set(), 4000)


def test_shares_of_two_rules_are_drawn_apart() -> None:
    places = [(drawn("writer", "a", str(n).encode()), drawn("writer", "b", str(n).encode())) for n in range(2000)]
    assert 20 < sum(one < 20 and other < 10 for one, other in places) < 70


def test_an_event_tells_its_language() -> None:
    event = an_event(task="mug-1").with_body(outputs={"normalise": {"language": "de"}, "other": {}})
    told = about(event, "copy")
    assert set(told) == NAMES - {"pool", "characters"}
    assert (told["language"], told["step"]) == ("de", "copy")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "names one of endpoints, model, weights, cheapest, to, and none is named"),
        ({"endpoints": ["e1"], "to": "cheap"}, "not endpoints and to"),
        ({"endpoints": ["e1"], "share": 100.5}, "less than or equal to 100"),
        ({"endpoints": ["e1"], "share": -1}, "greater than or equal to 0"),
        ({"endpoints": ["e1"], "when": "tenant = 'a'"}, "write == to compare"),
        ({"endpoints": ["e1"], "when": "tenent == 'a'"}, "'tenent' is not known; known are:"),
        ({"endpoints": ["e1"], "when": "tenant"}, "it gives str, not true or false"),
        (
            {"endpoints": ["e1"], "when": "language.lower() == 'de'"},
            "condition \"language.lower() == 'de'\": it cannot",
        ),
        ({"to": "cheap", "only": True}, "only goes with endpoints, model and cheapest, not with to"),
        ({"weights": {"e1": -1}}, "greater than or equal to 0"),
        ({"endpoints": []}, "at least 1"),
        ({"endpoint": "e1"}, "Extra inputs"),
    ],
)
def test_a_rule_that_says_nothing_sensible_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=r".*") as refused:
        Rule.model_validate(given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("given", "pool", "said"),
    [
        ({"endpoints": ["e1"]}, "writter", "no pool is called 'writter'; there are: cheap, writer"),
        ({"endpoints": ["e1", "c1"]}, "writer", "pool 'writer' has no endpoint 'c1'; there are: e1, e2, e3"),
        ({"weights": {"e8": 1}}, "writer", "pool 'writer' has no endpoint 'e8'; there are: e1, e2, e3"),
        ({"model": "huge"}, "writer", "has no endpoint with the model 'huge'; there are: big, small"),
        ({"to": "cheep"}, "writer", "no pool is called 'cheep'; there are: cheap, writer"),
        ({"to": "writer"}, "writer", "moves calls of 'writer' to itself"),
        ({"weights": {"c1": 0}}, "cheap", "gives every endpoint of 'cheap' the weight 0"),
    ],
)
def test_what_is_not_there_is_named_with_what_there_is(given: Any, pool: str, said: str) -> None:
    assert said in str(Rule.model_validate(given).unusable(pool, MODELS))


def test_a_condition_is_tried_on_values_that_have_every_name() -> None:
    assert set(SAMPLE) == NAMES
    assert Rule(endpoints=("e1",), when="input.price > 5.0").when == "input.price > 5.0"


def test_a_rule_reads_as_it_was_set() -> None:
    assert str(Rule(endpoints=("e2",), share=10, when="tenant == 'a'")) == "10 % to e2 when tenant == 'a'"
    assert str(Rule(weights={"e1": 3})) == "to weights e1=3"
    assert str(Rule(model="small", only=True)) == "to model small only"
    assert (str(Rule(cheapest=True)), str(Rule(to="cheap"))) == ("to the cheapest", "to pool cheap")
