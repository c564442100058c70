"""Service `prepare` as a worker runs it: real OCR in a spawned process, on the photos of the example."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import create_async_engine

from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import build_model
from callstream.agents.moderation import Moderate
from callstream.agents.prepare import AskVision, Lexicon
from callstream.agents.prepare.attributes import Attributes
from callstream.agents.tools import Tools
from callstream.agents.workers import Workers
from callstream.streams.blobs import BlobOptions, BlobStore
from callstream.streams.chain import Chain, Step
from callstream.streams.event import Body, Event, Json, Submission
from callstream.streams.fakes import MemoryCell
from callstream.streams.loading import load_chains
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome
from callstream.stub.process import running_stub
from callstream.stub.prompt import Message, read_brief
from callstream.stub.writer import write_copy

EXAMPLE = Path(__file__).parents[2] / "examples" / "product-copy"
PRODUCTS: list[Json] = [json.loads(line) for line in (EXAMPLE / "products.jsonl").read_text("utf-8").splitlines()]
LEAST_ACCURACY = 0.95


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(1) as workers:
        yield workers


@pytest.fixture
async def tools(pool: Workers) -> Tools:
    return Tools(
        model=ScriptedModel([]),
        blobs=BlobStore(BlobOptions(url="memory:///")),
        database=create_async_engine("sqlite+aiosqlite://"),
        workers=pool,
        profile=lambda tenant, user: None,
    )


@pytest.fixture
def chain() -> Chain:
    return load_chains([f"{EXAMPLE}/chain.py:chain"]).current("product-copy")


async def walk(event: Event, steps: Sequence[Step]) -> tuple[Event, Outcome]:
    """The event after the steps, and the last outcome; ends at the first that does not forward."""
    outcome: Outcome = Forward()
    for step in steps:
        outcome = await step.act(event, MemoryCell())
        if not isinstance(outcome, Forward):
            break
        event = replace(
            event.with_body(outputs={**event.body.outputs, step.name: outcome.output}), sequence=event.sequence + 1
        )
    return event, outcome


async def prepared(chain: Chain, tools: Tools, given: Json) -> tuple[Event, Outcome]:
    steps = [step for step in chain.steps if step.service == "prepare"]
    for step in steps:
        await step.open(tools)
    valid = chain.validate_input(given)
    body = Body(submission=Submission(chain=chain.name, input=valid), digest="0" * 64)
    return await walk(Event("acme", "task-1", chain.name, chain.version, 1, body), steps)


def encoded(image: Image.Image) -> bytes:
    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def labelled(text: str) -> bytes:
    """A red square with a word on it."""
    image = Image.new("RGB", (600, 600), "#eeeeee")
    pen = ImageDraw.Draw(image)
    pen.rectangle((100, 100, 500, 500), fill="#b02020")
    pen.text((300, 300), text, fill="white", anchor="mm", font=ImageFont.load_default(60))
    return encoded(image)


async def test_a_label_is_read_in_another_process(chain: Chain, tools: Tools) -> None:
    # given a photo with a brand that no text names
    given = {"product_id": "x", "title": "A thing", "photo": await tools.blobs.put(labelled("NORDVIK"))}
    # when the task is prepared
    event, outcome = await prepared(chain, tools, given)
    # then brand and colour come from the photo
    assert isinstance(outcome, Forward)
    attributes = Attributes.model_validate(event.body.outputs["recognise"])
    assert attributes.brand is not None
    assert attributes.colour is not None
    assert (attributes.brand.value, attributes.brand.source) == ("NORDVIK", "label")
    assert (attributes.colour.value, attributes.colour.source) == ("red", "photo")
    assert [line.text for line in attributes.label] == ["NORDVIK"]


async def test_how_fit_a_photo_is_comes_with_it(chain: Chain, tools: Tools) -> None:
    # given a photo whose label nobody can read any more
    blurred = Image.open(BytesIO(labelled("NORDVIK"))).filter(ImageFilter.GaussianBlur(9))
    for image, problems in ((labelled("NORDVIK"), []), (encoded(blurred), ["blurred"])):
        given = {"product_id": "x", "title": "A thing", "photo": await tools.blobs.put(image)}
        # when the task is prepared
        event, _ = await prepared(chain, tools, given)
        # then what is wrong with it is told
        found = event.body.outputs["recognise"]["picture"]["problems"]
        assert [problem for problem in found if problem != "text-unreadable"] == problems


async def test_a_model_is_shown_the_photo_over_http(tools: Tools) -> None:
    # given a pool on a server, and a product that nothing is known of
    async with running_stub(sigma=0, median_ms=1) as running:
        endpoint = {"name": "stub", "base_url": running.url, "model": "stub-eye"}
        options = InferenceOptions.model_validate({"pools": {"vision": {"endpoints": [endpoint]}}})
        model = build_model(options, registry=CollectorRegistry())
        step = AskVision(Lexicon.load(EXAMPLE / "lexicon.toml"), pool="vision")
        await step.open(replace(tools, model=model))
        photo = await tools.blobs.put(labelled("NORDVIK"))
        body = Body(submission=Submission(chain="copy", input={"photo": photo}), digest="0" * 64)
        # when it is asked
        outcome = await step.act(Event("acme", "task-1", "copy", 1, 1, body), MemoryCell())
        # then the server took the picture, and what it made up did not count
        calls = (await running.calls())["calls"]
        await model.close()
    assert isinstance(outcome, Forward)
    assert [call["tokens"] > 0 for call in calls] == [True]
    assert outcome.usage is not None
    assert outcome.usage.calls == 1
    assert outcome.notes[-1].endswith("is not in the lexicon")
    assert outcome.output["brand"] is None


def bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 112_530_000, 1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#!/bin/sh\necho hello", "the photo is a text; send JPEG, PNG or WEBP"),
        (b"%PDF-1.7", "the photo is a PDF document"),
        (bomb(), "decompression bomb"),
        (labelled("X")[:-400], "the photo is a PNG picture that"),
    ],
    ids=["text", "pdf", "bomb", "cut off"],
)
async def test_what_is_no_photo_is_buried_and_the_next_good_one_passes(
    chain: Chain, tools: Tools, data: bytes, message: str
) -> None:
    # given bytes that are no photo
    given = {"product_id": "x", "title": "Mug", "photo": await tools.blobs.put(data)}
    # when the task is prepared
    _, outcome = await prepared(chain, tools, given)
    # then it is buried, told what was sent, and the pool goes on with the next
    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "bad-image"
    assert message in outcome.failure.message
    _, after = await prepared(chain, tools, given | {"photo": await tools.blobs.put(labelled("LUMA"))})
    assert isinstance(after, Forward)


@pytest.mark.timeout(300)
async def test_the_examples_products_are_recognised(chain: Chain, tools: Tools) -> None:
    # given the products of the example with their photos
    right = dict.fromkeys(("brand", "category", "colour"), 0)
    ends = {}
    moderate = Moderate()
    await moderate.open(tools)
    for record in PRODUCTS:
        photo = await tools.blobs.put((EXAMPLE / record["input"]["photo"]).read_bytes())
        # when each is prepared, and copy is written from its prompt and moderated
        event, outcome = await prepared(chain, tools, record["input"] | {"photo": photo})
        assert isinstance(outcome, Forward), record["id"]
        recognised = event.body.outputs["recognise"]
        for field in right:
            found = recognised[field]["value"] if recognised[field] else None
            right[field] += found == record["expect"][field]
        messages = tuple(Message(each["role"], each["content"]) for each in event.body.outputs["prompt"]["messages"])
        copy = {"text": write_copy(read_brief(messages), seed=7)}
        judged = await moderate.act(event.with_body(outputs={**event.body.outputs, "copy": copy}), MemoryCell())
        ends[record["id"]] = {Forward: "finished", Finish: "rejected", Hold: "held"}[type(judged)]
    # then nearly all attributes are right, and moderation stops those it should and no others
    assert min(right.values()) >= LEAST_ACCURACY * len(PRODUCTS), right
    assert ends == {record["id"]: record["expect"]["end"] for record in PRODUCTS}


async def test_a_process_that_dies_fails_its_own_work_alone(tools: Tools, chain: Chain) -> None:
    # given a process that dies at work
    with pytest.raises(BrokenProcessPool):
        await tools.run(os._exit, 1)
    # when the next photo comes
    given = {"product_id": "x", "title": "Mug", "photo": await tools.blobs.put(labelled("LUMA"))}
    _, outcome = await prepared(chain, tools, given)
    # then a new process looks at it
    assert isinstance(outcome, Forward)


def test_no_work_is_taken_after_the_end() -> None:
    workers = Workers(1)
    workers.shutdown()
    with pytest.raises(RuntimeError, match="were shut down"):
        workers.submit(os.getpid)


def test_the_accuracy_command_prints_a_table() -> None:
    command = [sys.executable, str(EXAMPLE / "accuracy.py"), "--least", str(LEAST_ACCURACY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Recognised attributes" in done.stdout
    assert "24 products in" in done.stdout
