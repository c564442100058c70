"""The commands against a gateway over HTTP and against a real broker."""

import asyncio
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from PIL import Image
from pydantic import BaseModel, ConfigDict

from callstream.cli.client import Api, ApiError
from callstream.cli.follow import Sent, until_settled
from callstream.cli.orders import Order, read_orders
from callstream.cli.sending import HttpSender, KafkaSender
from callstream.cli.tail import Tail
from callstream.streams.blobs import BlobOptions, BlobStore
from callstream.streams.chain import Chain, Chains, Step
from callstream.streams.event import Json
from callstream.streams.topics import group_of, topic_of
from callstream.streams.wire import decode
from callstream.web.app import build_web
from callstream.web.fake import FakePort
from callstream.web.options import WebOptions
from tests.support.kafka import create_topics, read_all


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid")

    photo: str | None = None
    text: str = ""


class Copy(Step):
    name = "copy"
    service = "infer"


CHAINS = Chains([Chain("demo", input=Input, steps=(Copy(),))])
JPEG = io.BytesIO()
Image.new("RGB", (8, 8)).save(JPEG, "JPEG")


class Gateway:
    """The real HTTP side over an engine in memory."""

    def __init__(self) -> None:
        self.port = FakePort(CHAINS, time.time)
        self.server = TestServer(build_web(self.port, WebOptions(), CHAINS))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    found = Gateway()
    await found.server.start_server()
    yield found
    await found.server.close()


def orders(folder: Path, *lines: Json) -> list[Order]:
    (folder / "a.jpg").write_bytes(JPEG.getvalue())
    (folder / "tasks.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return read_orders(folder / "tasks.jsonl")


async def test_a_picture_goes_before_its_task_and_only_once(gateway: Gateway, tmp_path: Path) -> None:
    # given two tasks with the same picture and one without an id
    lines = [{"id": f"t{n}", "chain": "demo", "input": {"photo": "a.jpg"}} for n in range(2)]
    found = orders(tmp_path, *lines, {"chain": "demo", "input": {"text": "x"}})
    # when they are sent
    async with Api(gateway.url) as api:
        sender = HttpSender(api)
        ids = await asyncio.gather(*(sender.send(order) for order in found))
    # then the picture was uploaded once and each task refers to it
    assert gateway.port.blobs == [JPEG.getvalue()]
    assert ids[:2] == ["t0", "t1"]
    photos = {event.task: event.input.get("photo") for event in gateway.port.events}
    assert (photos["t0"], photos["t1"]) == (f"blob:{1:064x}", f"blob:{1:064x}")


async def test_tasks_are_followed_to_their_end_or_hold(gateway: Gateway, tmp_path: Path) -> None:
    found = orders(tmp_path, *({"id": f"t{n}", "chain": "demo", "input": {}} for n in range(3)))
    async with Api(gateway.url) as api:
        sender = HttpSender(api)
        sents = [Sent(order, await sender.send(order)) for order in found]
        following = asyncio.gather(*(until_settled(api, sent, 8 if sent.task != "t2" else 0.5) for sent in sents))
        await asyncio.sleep(0.1)
        gateway.port.advance("default", "t0")
        gateway.port.end("default", "t0", result={})
        gateway.port.hold("default", "t1", "look")
        await following
    assert [sent.state for sent in sents] == ["finished", "held", "accepted"]
    assert [sent.as_expected for sent in sents] == [True, False, False]


async def test_errors_of_the_gateway_are_one_line(gateway: Gateway) -> None:
    async with Api(gateway.url) as api:
        with pytest.raises(ApiError, match=r"404 Unknown task: no task 'gone'"):
            await api.task("gone")
        with pytest.raises(ApiError, match=r"POST http://127.0.0.1:\d+/v1/tasks: 4\d\d .*demo") as caught:
            await api.submit({"chain": "other", "input": {}})
        assert "\n" not in str(caught.value)
        with pytest.raises(ApiError, match="No picture"):
            await api.put_blob(b"not a picture", "image/png")


async def test_nobody_there_is_said_with_what_to_do() -> None:
    async with Api(f"http://127.0.0.1:{unused_port()}") as api:
        with pytest.raises(ApiError, match=r"nothing answers at .* start `callstream worker`"):
            await api.task("x")
    async with Api("nonsense") as api:
        with pytest.raises(ApiError, match="is no URL"):
            await api.task("x")


async def test_a_busy_gateway_is_asked_again() -> None:
    answers = [503, 429, 202]

    async def busy(_: web.Request) -> web.Response:
        return web.json_response({"id": "a"}, status=answers.pop(0), headers={"Retry-After": "0.01"})

    app = web.Application()
    app.router.add_post("/v1/tasks", busy)
    async with TestServer(app) as server, Api(f"http://127.0.0.1:{server.port}") as api:
        assert await api.submit({}) == {"id": "a"}
    assert answers == []


async def test_the_tail_shows_each_end(gateway: Gateway, tmp_path: Path) -> None:
    # given a tail that follows every chain
    seen: list[str] = []

    def show(row: Json) -> bool:
        if row["state"] == "finished":
            seen.append(row["id"])
        return len(seen) < 3

    found = orders(tmp_path, *({"id": f"t{n}", "chain": "demo", "input": {}} for n in range(3)))
    tail = asyncio.create_task(Tail(Api(gateway.url), ()).run(show))
    async with Api(gateway.url) as api:
        sender = HttpSender(api)
        for order in found:
            await sender.send(order)
    await asyncio.sleep(0.5)
    # when tasks end
    for number in range(3):
        gateway.port.end("default", f"t{number}", result={})
    # then it has seen each
    await asyncio.wait_for(tail, 10)
    assert seen == ["t0", "t1", "t2"]


async def until(holds: Callable[[], bool], seconds: float = 5) -> None:
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def test_a_task_straight_onto_the_log_is_what_the_gateway_would_have_sent(
    kafka_broker: str, tmp_path: Path
) -> None:
    (order,) = orders(tmp_path, {"id": "straight-1", "chain": "demo", "input": {"photo": "a.jpg"}, "priority": "low"})
    blobs = BlobStore(BlobOptions(url=f"file://{tmp_path}/blobs"))
    topic = topic_of("cli-intake")
    await create_topics(kafka_broker, {topic: 2})
    async with KafkaSender(kafka_broker, blobs, "acme", topic) as sender:
        assert await sender.send(order) == "straight-1"
    records = [r for r in await read_all(kafka_broker, topic) if r.key == b"4:acme:straight-1"]
    event = decode(records[0].value, records[0].headers)
    assert (event.tenant, event.chain, str(event.priority), event.sequence) == ("acme", "demo", "low", 0)
    assert await blobs.get(event.input["photo"]) == JPEG.getvalue()


async def command(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "callstream", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "", "HOME": "/nowhere", "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        cwd="/",
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_lag_tells_what_a_group_has_yet_to_do(kafka_broker: str) -> None:
    topic, group = topic_of("lagging"), group_of("lagging")
    await create_topics(kafka_broker, {topic: 2})
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka_broker, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with AIOKafkaProducer(bootstrap_servers=kafka_broker) as producer:
        for number in range(5):
            await producer.send_and_wait(topic, b"x", partition=number % 2)
    await consumer.start()
    try:
        for record in [await consumer.getone() for _ in range(2)][:1]:
            place = next(place for place in consumer.assignment() if place.partition == record.partition)
            await consumer.commit({place: record.offset + 1})
    finally:
        await consumer.stop()
    code, out, err = await command("lag", "--json", CALLSTREAM_BROKER=kafka_broker)
    assert code == 0, err
    rows = [row for row in map(json.loads, out.splitlines()) if row["group"] == group]
    assert sum(row["lag"] for row in rows) == 4
    assert [row["end"] for row in rows] == [3, 2]


async def test_produce_waits_and_judges(gateway: Gateway, tmp_path: Path) -> None:
    orders(tmp_path, {"id": "one", "chain": "demo", "input": {}}, {"id": "two", "chain": "demo", "input": {}})

    async def end_both() -> None:
        await until(lambda: len(gateway.port.events) == 2, 30)
        gateway.port.end("default", "one", result={})
        gateway.port.end("default", "two", "rejected", failure={"kind": "rejected", "message": "a word", "step": "x"})

    ending = asyncio.create_task(end_both())
    code, out, err = await command("produce", f"{tmp_path}/tasks.jsonl", "--wait", "--url", gateway.url)
    await ending
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "2 tasks: 1 finished, 1 rejected",
        "two: rejected, expected finished: rejected in x: a word",
    ]
    code, out, _ = await command("status", "one", "--json", "--url", gateway.url)
    assert code == 0
    assert json.loads(out)["state"] == "finished"


async def test_a_key_from_the_environment_opens_a_gateway_that_asks_for_one(gateway: Gateway) -> None:
    secret = "a-key-of-sixteen-characters"
    options = WebOptions.model_validate({"api_keys": [{"key": secret, "tenant": "acme"}]})
    async with TestServer(build_web(gateway.port, options, CHAINS)) as server:
        url = f"http://127.0.0.1:{server.port}"
        refused, _, why = await command("status", "gone", "--url", url)
        known, _, unknown_task = await command("status", "gone", "--url", url, CALLSTREAM_API_KEY=secret)
    assert (refused, known) == (1, 1)
    assert "401" in why
    assert "404" in unknown_task
    assert secret not in why + unknown_task
