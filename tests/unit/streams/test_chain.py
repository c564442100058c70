import time
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callstream.streams.chain import (
    MAX_STEPS,
    RESERVED,
    Chain,
    Chains,
    InvalidInput,
    Step,
    UnknownChain,
)
from callstream.streams.fakes import MemoryCell
from callstream.streams.findings import MOST_FINDINGS, describe
from tests.support.events import Input, Say, an_event

STEPS = (Say("facts", "prepare"), Say("copy", "infer"))
SHOP = Chain("shop", Input, STEPS)


class Order(BaseModel):
    """A model whose faults have places."""

    model_config = ConfigDict(extra="forbid")

    lines: list[int] = Field(max_length=100_000)
    price: float = 1.0
    count: int = 0


ORDER = Chain("order", Order, STEPS)


def test_steps_are_numbered_from_one() -> None:
    assert [SHOP.step(number) for number in (-1, 0, 1, 2, 3)] == [None, None, *STEPS, None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Shop"}, "pattern"),
        ({"steps": ()}, "chain shop: no steps"),
        ({"steps": (Say("a", "x"), Say("b", "x"), Say("a", "y"))}, "two steps are called a"),
        ({"steps": (Say("a|b", "x"),)}, "pattern"),
        ({"steps": (Say("a", "Infer"),)}, "pattern"),
        ({"steps": tuple(Say(f"s{n}", "x") for n in range(MAX_STEPS + 1))}, "32 steps; at most 31"),
        ({"version": 0}, "version 0 is not within 1 to 999,999"),
        ({"version": 1_000_000}, "version 1000000 is not"),
        *(({"steps": (Say("a", name),)}, f"'{name}' is no service that steps can run on") for name in sorted(RESERVED)),
    ],
)
def test_a_chain_that_could_not_run_is_refused_when_it_is_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SHOP, **changes)


def test_an_input_is_taken_as_its_model_has_it() -> None:
    assert SHOP.validate_input({"price": 2}) == {"title": "mug", "price": 2.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "lines: Field required (got an object of 0)"),
        ({"lines": [1, "x", 2, {}]}, "lines.1: Input should be a valid integer"),
        ({"lines": {"a": 1}}, "lines: Input should be a list (got an object of 1)"),
        ({"lines": [], "more": "y" * 5_000}, f"more: Extra inputs are not permitted (got '{'y' * 60}')"),
        ({"lines": ["x"] * 9}, "; and 4 more"),
        ({"lines": ["x"] * (MOST_FINDINGS + 1)}, "10,001 places are not as they must be"),
        ({"lines": [], "price": "inf"}, "what Order makes of it cannot be passed on"),
        ({"lines": [], "count": "9" * 100}, "an integer of 100 digits; at most 19"),
        ({"lines": [10**18] * 99_999 + [1], "price": "nan"}, "cannot be passed on"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(given: dict[str, Any], said: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidInput) as refused:
        ORDER.validate_input(given)
    assert said in str(refused.value)
    assert len(str(refused.value)) <= 2_000
    assert time.process_time() - started < 5


def test_a_fault_of_the_whole_is_one_of_the_body() -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate([])
    assert describe(refused.value).startswith("body: Input should be an object")


def test_chains_are_found_by_name_and_version() -> None:
    newer = Chain("shop", Input, (Say("only", "speak"),), version=12)
    chains = Chains([newer, SHOP, ORDER])
    assert chains.current("shop") is newer
    assert chains.get("shop", 1) is SHOP
    assert list(chains) == [newer, SHOP, ORDER]
    assert chains.services() == ("speak", "prepare", "infer")
    assert [step.name for step in chains.steps_of("prepare")] == ["facts", "facts"]


def test_what_is_not_known_says_what_is() -> None:
    chains = Chains([SHOP, ORDER])
    with pytest.raises(UnknownChain, match="no chain is called 'talk'; known: order, shop"):
        chains.current("talk")
    with pytest.raises(UnknownChain, match="this worker has no 'shop' version 2; it has: shop v1, order v1"):
        chains.get("shop", 2)
    with pytest.raises(UnknownChain, match="known: none"):
        Chains([]).current("shop")
    with pytest.raises(ValueError, match="chain shop version 1 is declared twice"):
        Chains([SHOP, SHOP])


async def test_a_step_without_act_says_so_when_it_runs() -> None:
    step = Step()
    await step.open(None)
    await step.close()
    with pytest.raises(NotImplementedError):
        await step.act(an_event(), MemoryCell())


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_seconds_that_are_none_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"chain shop: deadline_seconds is .*; it takes seconds, more than 0"):
        Chain("shop", Input, (Say("facts", "prepare"),), deadline_seconds=seconds)
    step = Say("facts", "prepare")
    step.expected_seconds = seconds
    with pytest.raises(ValueError, match="chain shop: expected_seconds of step facts is "):
        Chain("shop", Input, (step,))
