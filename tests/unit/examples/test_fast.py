import sys
from pathlib import Path
from types import ModuleType

import pytest

from callstream.streams.chain import Chain
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.fakes import MemoryCell
from callstream.streams.loading import load_chains
from callstream.streams.outcome import Forward

CHAIN = Path(__file__).parents[3] / "examples" / "fast" / "chain.py"
INPUT: Json = {"product_id": "sku-1", "title": "Blue mug", "description": "Holds\n300 ml."}


@pytest.fixture(scope="module")
def chain() -> Chain:
    return load_chains([f"{CHAIN}:chain"]).current("fast-copy")


@pytest.fixture
def module(chain: Chain) -> ModuleType:
    return sys.modules[chain.input.__module__]


def event(outputs: dict[str, Json]) -> Event:
    body = Body(submission=Submission(chain="fast-copy", input=INPUT), digest="0" * 64, outputs=outputs)
    return Event("acme", "mug-1", "fast-copy", 1, 1, body)


def test_four_steps_each_on_a_service_of_its_own(chain: Chain) -> None:
    assert [(step.name, step.service) for step in chain.steps] == [
        ("prompt", "prepare"),
        ("copy", "infer"),
        ("moderate", "moderate"),
        ("catalogue", "deliver"),
    ]


async def test_the_prompt_has_the_product_on_one_line_a_field(chain: Chain) -> None:
    outcome = await chain.steps[0].act(event({}), MemoryCell())
    assert isinstance(outcome, Forward)
    assert outcome.output["messages"][-1]["content"] == "Title: Blue mug\nDescription: Holds 300 ml."


def test_row_and_result_hold_the_copy(chain: Chain, module: ModuleType) -> None:
    written = event({"copy": {"text": "A mug to keep."}})
    row = module.row(written)
    assert (row.product, row.title, row.text) == ("sku-1", "Blue mug", "A mug to keep.")
    assert chain.result is not None
    assert chain.result(written) == {"product_id": "sku-1", "copy": "A mug to keep."}
