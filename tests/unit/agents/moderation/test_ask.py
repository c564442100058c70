"""Asking a moderation model, and judging by what it said."""

from typing import Any, cast

import pytest

from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.inference.switch import asked_of
from callstream.agents.moderation import AskModeration, Decision, Judge, Matcher, ModerationRules
from callstream.agents.tools import Tools
from callstream.streams.event import Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Forward, Outcome, Retry
from tests.unit.agents.inference.test_step import OnlyModel
from tests.unit.agents.moderation.test_step import event

CALM = '{"flagged":false,"categories":[],"scores":{"hate":0.01,"violence":0.2}}'
ANGRY = '{"flagged":true,"categories":["violence"],"scores":{"hate":0.1,"violence":0.9}}'


async def asked(model: ScriptedModel, given: Any, **options: Any) -> Outcome:
    step = AskModeration("moderation", **options)
    await step.open(cast(Tools, OnlyModel(model)))
    return await step.act(given, MemoryCell())


def results(*found: str) -> Reply:
    return Reply(f'{{"results":[{",".join(found)}]}}', "stop", Usage(model="m", calls=1))


async def test_all_texts_are_asked_about_at_once_and_the_worst_is_told() -> None:
    model = ScriptedModel([results(CALM, ANGRY)])
    outcome = await asked(model, event("A mug.", title="A fight"))
    assert isinstance(outcome, Forward)
    assert (outcome.output["flagged"], outcome.output["categories"]) == (True, ["violence"])
    assert outcome.output["scores"] == {"hate": 0.1, "violence": 0.9}
    assert outcome.output["parts"]["copy.text"]["flagged"] is False
    (call,) = model.calls
    assert (call.api, call.pool, call.request) == ("moderations", "moderation", {"input": ["A mug.", "A fight"]})


async def test_rules_of_the_pool_see_the_task_and_the_step() -> None:
    model = ScriptedModel([results(CALM)])
    given = event("A mug.")
    await asked(model, given, name="judge")
    values = asked_of(model.calls[0]).values
    assert (values["chain"], values["step"], values["outputs"]) == (given.chain, "judge", given.body.outputs)


async def test_without_a_text_nothing_is_asked() -> None:
    model = ScriptedModel([])
    outcome = await asked(model, event(None))
    assert isinstance(outcome, Forward)
    assert (outcome.output["flagged"], model.calls) == (False, [])


async def test_a_call_that_fails_is_tried_again_or_buried() -> None:
    assert isinstance(await asked(ScriptedModel([CallFailed("overloaded", "later")]), event("a")), Retry)
    refused = ScriptedModel([CallFailed("refused", "no", retryable=False)])
    assert isinstance(await asked(refused, event("a")), Bury)


async def test_an_answer_for_other_texts_is_a_failure() -> None:
    with pytest.raises(ValueError, match="1 results for 2 texts"):
        await asked(ScriptedModel([results(CALM)]), event("a", title="b"))


async def test_a_rehearsal_says_what_would_be_asked() -> None:
    step = AskModeration("moderation", parts=("copy.text",))
    assert (await step.rehearse(event("a")))["would_send"]["request"] == {"input": ["a"]}
    assert (await step.rehearse(event(None)))["output"]["flagged"] is False


def test_parts_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="'copy' is no part"):
        AskModeration("moderation", parts=("copy",))


async def test_policies_decide_by_its_scores() -> None:
    outcome = await asked(ScriptedModel([results(ANGRY)]), event("A fight"))
    assert isinstance(outcome, Forward)
    when = "outputs.safety.scores.violence > 0.8"
    rules = ModerationRules.model_validate({"policies": [{"id": "violent", "when": when, "verdict": "reject"}]})
    task = {"tenant": "acme", "chain": "shop", "input": {}, "outputs": {"safety": outcome.output}}
    assert Judge(Matcher(rules, {})).judge({"copy.text": "A fight"}, task).decision is Decision.REJECT
