import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from callstream.agents.prepare.facts import Texts, attributes_of
from callstream.agents.prepare.prompt import ChoosePrompt
from callstream.agents.prepare.recognise import Recognise
from callstream.agents.prepare.text import plain
from callstream.streams.chain import Chain, InvalidInput
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Forward
from tests.unit.examples.conftest import EXAMPLES


def given_of(record: Json) -> Json:
    """The input as it is submitted: the photo's place is taken by its reference."""
    given: Json = record["input"]
    photo = given["photo"]
    return given | {"photo": f"blob:{hashlib.sha256(photo.encode()).hexdigest()}"}


def event_of(chain: Chain, given: Json, outputs: Mapping[str, Json]) -> Event:
    body = Body(submission=Submission(chain=chain.name, input=given), digest="0" * 64, outputs=dict(outputs))
    return Event("acme", "task-1", chain.name, chain.version, 4, body)


def step_of(chain: Chain, name: str) -> Any:
    return next(step for step in chain.steps if step.name == name)


def test_every_product_is_a_valid_input(product_copy: Chain, products: list[Json]) -> None:
    for record in products:
        assert product_copy.validate_input(given_of(record)) == given_of(record)


@pytest.mark.parametrize(
    "wrong",
    [
        {"photo": "photos/mug.jpg"},
        {"photo": "blob:" + "0" * 63},
        {"photo": "http://127.0.0.1/"},
        {"product_id": ""},
        {"product_id": "a/b"},
        {"product_id": "a\n"},
        {"title": ""},
        {"title": "x" * 501},
        {"language": "german"},
        {"price": 1},
    ],
)
def test_a_wrong_input_is_refused_by_name(product_copy: Chain, wrong: Json) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        product_copy.validate_input({"product_id": "mug-1", "title": "Mug"} | wrong)


def test_titles_alone_tell_brand_and_category(product_copy: Chain, products: list[Json]) -> None:
    # given the example's lexicon, and no photo
    recognise: Recognise = step_of(product_copy, "recognise")
    # when every product's text is read
    for record in products:
        title = plain(record["input"]["title"], 200, one_line=True).text
        description = plain(record["input"]["description"], 4000).text
        found = attributes_of(Texts(title, description), None, recognise.lexicon)
        # then brand and category are what the example expects
        for field in ("brand", "category"):
            fact = getattr(found, field)
            assert (fact.value if fact else None) == record["expect"][field], record["id"]


def test_what_is_printed_on_every_photo_is_known(products: list[Json]) -> None:
    labels = json.loads((EXAMPLES / "product-copy" / "labels.json").read_text("utf-8"))
    assert set(labels) == {record["id"] for record in products}
    assert {lines[0] for lines in labels.values() if lines} == {record["expect"]["brand"] for record in products} - {
        None
    }


@pytest.mark.parametrize("language", ["en", "zh", "de", "fr"])
@pytest.mark.parametrize("title", ["LUMA mug", "TERRAFOX shoe", "Green tea", "A thing"])
async def test_a_prompt_is_there_for_every_kind_and_language(product_copy: Chain, title: str, language: str) -> None:
    recognise: Recognise = step_of(product_copy, "recognise")
    choose: ChoosePrompt = step_of(product_copy, "prompt")
    outputs = {
        "normalise": {"title": title, "description": "", "detected": "en"},
        "recognise": attributes_of(Texts(title, ""), None, recognise.lexicon).model_dump(mode="json"),
    }
    outcome = await choose.act(event_of(product_copy, {"language": language}, outputs), MemoryCell())
    assert isinstance(outcome, Forward)
    assert outcome.output["template"].endswith("-zh") == (language == "zh")
    request = step_of(product_copy, "copy").request(event_of(product_copy, {}, {"prompt": outcome.output}))
    assert request["messages"][-1]["role"] == "user"
    assert request["temperature"] > 0


def test_row_and_result_have_what_is_known(product_copy: Chain) -> None:
    # given a task whose steps are done
    recognise: Recognise = step_of(product_copy, "recognise")
    outputs = {
        "normalise": {"title": "LUMA mug, red"},
        "recognise": attributes_of(Texts("LUMA mug, red", ""), None, recognise.lexicon).model_dump(mode="json"),
        "prompt": {"language": "en", "template": "general", "version": "1"},
        "copy": {"text": "A red mug."},
    }
    event = event_of(product_copy, {"product_id": "sku-1"}, outputs)
    # when row and result are made
    row = sys.modules[product_copy.input.__module__].row(event)
    assert product_copy.result is not None
    result = product_copy.result(event)
    # then attributes that are not known are left out
    assert (row.product, row.title, row.language, row.text) == ("sku-1", "LUMA mug, red", "en", "A red mug.")
    assert result == {
        "product_id": "sku-1",
        "copy": "A red mug.",
        "language": "en",
        "template": "general v1",
        "attributes": {"brand": "LUMA", "category": "mug", "colour": "red"},
    }
    assert row.attributes == result["attributes"]
