import sys
from types import ModuleType, SimpleNamespace

import pytest

from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.streams.chain import Chain
from callstream.streams.event import Body, Event, Json, Submission, Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Forward, Outcome, Retry


@pytest.fixture
def module(translation: Chain) -> ModuleType:
    return sys.modules[translation.input.__module__]


async def act(module: ModuleType, model: ScriptedModel) -> Outcome:
    step = module.Translate(to=("de", "fr"))
    await step.open(SimpleNamespace(model=model))
    body = Body(
        submission=Submission(chain="translation", input={}), digest="0" * 64, outputs={"copy": {"text": "A mug."}}
    )
    outcome: Outcome = await step.act(Event("acme", "mug-1", "translation", 1, 4, body), MemoryCell())
    return outcome


def test_the_step_has_a_service_of_its_own(translation: Chain) -> None:
    assert [step.service for step in translation.steps] == ["prepare", "infer", "moderate", "translate", "deliver"]
    assert [step.name for step in translation.steps if step.remembers] == ["copy", "translate"]


async def test_one_call_for_each_language(module: ModuleType) -> None:
    # given a model that answers twice
    usage = Usage(model="m", calls=1, tokens_in=10, tokens_out=5)
    model = ScriptedModel([Reply("Eine Tasse.", usage=usage), Reply("Une tasse.", usage=usage)])
    # when the copy is translated
    outcome = await act(module, model)
    # then both texts are there, the calls have ids of their own, and the usage is that of both
    assert isinstance(outcome, Forward)
    assert outcome.output == {"texts": {"de": "Eine Tasse.", "fr": "Une tasse."}}
    assert [call.id for call in model.calls] == ["4:acme:mug-1/4/call-1", "4:acme:mug-1/4/call-2"]
    assert "into German" in model.calls[0].request["messages"][0]["content"]
    assert outcome.usage == Usage(model="m", calls=2, tokens_in=20, tokens_out=10)


@pytest.mark.parametrize(("retryable", "expected"), [(True, Retry), (False, Bury)])
async def test_a_call_that_fails_decides_the_outcome(
    module: ModuleType, retryable: bool, expected: type[Outcome]
) -> None:
    model = ScriptedModel([Reply("Eine Tasse."), CallFailed("overloaded", "later", retryable=retryable)])
    assert isinstance(await act(module, model), expected)


def test_an_unknown_language_is_refused(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="no such language: tlh; known: de, fr, zh"):
        module.Translate(to=("de", "tlh"))


def test_row_and_result_hold_every_language(module: ModuleType, translation: Chain) -> None:
    outputs: dict[str, Json] = {
        "normalise": {"title": "Mug"},
        "copy": {"text": "A mug."},
        "translate": {"texts": {"de": "Eine Tasse."}},
    }
    body = Body(
        submission=Submission(chain="translation", input={"product_id": "sku-1"}), digest="0" * 64, outputs=outputs
    )
    event = Event("acme", "mug-1", "translation", 1, 5, body)
    assert translation.result is not None
    assert translation.result(event) == {"en": "A mug.", "de": "Eine Tasse."}
    assert module.row(event).attributes == {"translations": {"de": "Eine Tasse."}}
