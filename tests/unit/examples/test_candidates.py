"""Three candidates and the best of them."""

import sys
from types import ModuleType

import pytest

from callstream.streams.chain import Chain, Chains
from callstream.streams.event import Json
from callstream.streams.fakes import MemoryCell
from callstream.streams.loading import load_chains
from callstream.streams.outcome import FanOut
from tests.support.events import an_event
from tests.unit.examples.conftest import EXAMPLES


@pytest.fixture
def chains() -> Chains:
    return load_chains([f"{EXAMPLES}/candidates/chain.py:chain"])


@pytest.fixture
def module(chains: Chains) -> ModuleType:
    return sys.modules[chains.current("best-copy").input.__module__]


def candidate(number: int, text: str) -> Json:
    return {"number": number, "id": f"mug-1~1.{number}", "result": {"tone": "plain", "text": text}}


async def test_each_tone_is_a_sub_task_that_its_chain_takes(module: ModuleType, chains: Chains) -> None:
    outcome = await module.Ask().act(an_event(), MemoryCell())
    assert isinstance(outcome, FanOut)
    chain: Chain = chains.current("candidate")
    taken = [chain.validate_input(one.input) for one in outcome.subtasks]
    assert [one["tone"] for one in taken] == list(module.TONES)
    assert {one.chain for one in outcome.subtasks} == {"candidate"}


def test_the_best_names_the_product_and_has_the_right_length(module: ModuleType) -> None:
    event = an_event()
    fitting = "A mug " + "that is blue " * 12
    taken = [candidate(1, "A cup. " * 23), candidate(2, "A mug."), candidate(3, fitting), candidate(4, fitting)]
    assert module.best(taken, event) == {"tone": "plain", "text": fitting, "candidate": "mug-1~1.3", "of": 4}
