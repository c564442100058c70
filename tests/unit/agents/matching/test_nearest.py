"""Texts that become vectors, and the items that are nearest to them."""

from pathlib import Path
from typing import Any, cast

import pytest

from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.inference.switch import asked_of
from callstream.agents.matching import BadIndex, Embed, Nearest, build, embedding_chain, write
from callstream.agents.tools import Tools
from callstream.streams.event import Event, Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Forward, Outcome, Retry
from tests.unit.agents.inference.test_step import OnlyModel
from tests.unit.agents.moderation.test_step import event

ITEMS = [{"text": "mug", "de": "Becher"}, {"text": "cup", "de": "Tasse"}, {"text": "shoe", "de": "Schuh"}]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "glossary.npz"
    write(build(ITEMS, [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], "m"), path)
    return path


def texts_of(given: Event) -> list[str]:
    return [str(given.body.outputs["copy"]["text"]), *map(str, given.input.values())]


def vectors(*found: list[float], model: str = "m") -> Reply:
    return Reply(f'{{"embeddings":{list(found)}}}', "stop", Usage(model=model, calls=1))


async def acted(step: Embed, model: ScriptedModel, given: Event) -> Outcome:
    await step.open(cast(Tools, OnlyModel(model)))
    return await step.act(given, MemoryCell())


async def test_texts_become_vectors_in_their_order() -> None:
    model = ScriptedModel([vectors([0.123456789, 1.0], [0.5, 0.0])])
    outcome = await acted(Embed("embedder", texts_of), model, event("A mug.", title="Mug"))
    assert isinstance(outcome, Forward)
    assert outcome.output == {"embeddings": [[0.1234568, 1.0], [0.5, 0.0]], "model": "m"}
    (call,) = model.calls
    assert (call.api, call.pool, call.request) == ("embeddings", "embedder", {"input": ["A mug.", "Mug"]})


async def test_an_item_near_to_several_texts_is_there_once_with_the_nearest(index: Path) -> None:
    model = ScriptedModel([vectors([1.0, 0.0], [0.8, 0.6])])
    step = Nearest(index, "embedder", texts_of, most=2, least=0.5)
    outcome = await acted(step, model, event("a mug", title="a cup"))
    assert isinstance(outcome, Forward)
    assert outcome.output["matches"] == [
        {"score": 1.0, "text": "a mug", "item": ITEMS[0]},
        {"score": 1.0, "text": "a cup", "item": ITEMS[1]},
    ]


@pytest.mark.parametrize("kind", ["embed", "nearest"])
async def test_rules_of_the_pool_see_the_task_and_the_step(index: Path, kind: str) -> None:
    model = ScriptedModel([vectors([1.0, 0.0], [0.8, 0.6])])
    step = Embed("embedder", texts_of) if kind == "embed" else Nearest(index, "embedder", texts_of)
    given = event("a mug", title="a cup")
    await acted(step, model, given)
    values = asked_of(model.calls[0]).values
    assert (values["chain"], values["step"], values["input"]) == (given.chain, step.name, given.input)


async def test_without_a_text_nothing_is_asked(index: Path) -> None:
    model = ScriptedModel([])
    outcome = await acted(Nearest(index, "embedder", lambda _: []), model, event("a"))
    assert isinstance(outcome, Forward)
    assert (outcome.output, model.calls) == ({"matches": []}, [])


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (vectors([1.0, 0.0], model="other"), "made with the model 'm', and 'other' has answered"),
        (vectors([1.0, 0.0, 0.0]), "has 3 numbers, those of the index 2"),
        (vectors([0.0, 0.0]), "no length"),
        (vectors([1.0, 0.0], [1.0, 0.0]), "2 vectors came for 1 texts"),
    ],
)
async def test_vectors_that_cannot_be_compared_are_buried_with_what_they_cost(
    index: Path, reply: Reply, told: str
) -> None:
    outcome = await acted(Nearest(index, "embedder", texts_of), ScriptedModel([reply]), event("a"))
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "vectors"
    assert told in outcome.failure.message
    assert outcome.usage == reply.usage


@pytest.mark.parametrize(
    ("texts", "told"),
    [(["a"] * 65, "65 texts"), (["a", " "], "text 2 of 2 is empty"), (["x" * 8001], "has 8001 characters")],
)
async def test_texts_that_are_too_much_are_buried_unasked(texts: list[str], told: str) -> None:
    model = ScriptedModel([])
    step = Embed("embedder", lambda _: texts)
    outcome = await acted(step, model, event("a"))
    assert isinstance(outcome, Bury)
    assert told in outcome.failure.message
    assert told in (await step.rehearse(event("a")))["would_fail"]["message"]


async def test_a_call_that_fails_is_tried_again_or_buried() -> None:
    step = Embed("embedder", texts_of)
    assert isinstance(await acted(step, ScriptedModel([CallFailed("overloaded", "later")]), event("a")), Retry)
    refused = ScriptedModel([CallFailed("refused", "no", retryable=False)])
    assert isinstance(await acted(step, refused, event("a")), Bury)


async def test_a_rehearsal_says_what_would_be_asked() -> None:
    step = Embed("embedder", texts_of)
    assert (await step.rehearse(event("a")))["would_send"]["request"] == {"input": ["a"]}


async def test_a_file_that_is_no_index_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadIndex, match=r"none\.npz: cannot be read"):
        await Nearest(tmp_path / "none.npz", "embedder", texts_of).open(cast(Tools, OnlyModel(ScriptedModel([]))))


@pytest.mark.parametrize(("options", "told"), [({"most": 0}, "most is 0"), ({"least": 2}, "least is 2")])
def test_options_that_are_none_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Nearest("a.npz", "embedder", texts_of, **options)


def test_the_chain_takes_texts_within_bounds() -> None:
    chain = embedding_chain("embedder")
    chain.input.model_validate({"texts": ["a"]})
    wrongs: list[dict[str, object]] = [{"texts": []}, {"texts": [""]}, {"texts": ["a"] * 65}, {"text": "a"}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="validation error"):
            chain.input.model_validate(wrong)
