"""Bad input over HTTP and straight onto the log: a clear answer or a dead letter, and the next good task passes."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from PIL import Image
from yarl import URL

from callstream.streams.blobs import BlobOptions, BlobStore
from callstream.streams.event import Event, Json
from callstream.streams.keys import partition_of
from callstream.streams.topics import changelog_of, topic_of
from callstream.tables.profiles import profile_key
from tests.support.kafka import create_topics, read_all
from tests.support.running import (
    QUICK,
    ROOT,
    TENANT,
    Settings,
    System,
    as_record,
    body,
    headers,
    running_system,
    submission,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PHOTOS = f"{ROOT / 'examples' / 'product-copy' / 'chain.py'}:chain"
MUG = {"product_id": "mug", "title": "A blue mug"}
MAX_BODY = 1024 * 1024
UNREADABLE = "callstream.record.unreadable"
BURIED = "callstream.task.dead"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    settings: Settings = {("engine", "commit_interval_seconds"): 0.2, ("engine", "missing_version_hours"): 0.001}
    folder = tmp_path_factory.mktemp("bad-input")
    async with running_system(folder, (QUICK, PHOTOS), settings) as running:
        await running.start()
        yield running


numbers = iter(range(1, 10_000))


async def all_is_well(system: System) -> None:
    """The next good task passes and the worker lives."""
    task = f"good-{next(numbers)}"
    await system.worker.submit("quick", MUG, id=task)
    await system.worker.reaches(task, "finished")
    assert await system.worker.live()


async def nothing_is_left(system: System) -> None:
    """All is well, and no service has anything before it."""
    await all_is_well(system)
    await system.settled()


# Over HTTP


@dataclass(frozen=True)
class Post:
    """A body for POST /v1/tasks with the answer that it gets."""

    name: str
    raw: bytes
    status: int
    says: str
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def quick(given: str = '{"product_id": "mug", "title": "A blue mug"}', more: str = "") -> bytes:
    return f'{{"chain": "quick", "input": {given}{more}}}'.encode()


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


POSTS = [
    Post("nothing", b"", 400, "not JSON"),
    Post("no JSON", b"chain=quick", 400, "not JSON: Expecting value at line 1, column 1"),
    Post("cut off", quick()[:-4], 400, "not JSON"),
    Post("an array", b"[]", 422, "#"),
    Post("not UTF-8", quick('{"product_id": "p", "title": "\u00ff"}').replace(b"\xc3\xbf", b"\xff"), 400, "not UTF-8"),
    Post("NaN", quick('{"product_id": "p", "title": NaN}'), 400, "NaN is not a JSON number"),
    Post("infinity", quick(more=', "deadline": -Infinity'), 400, "-Infinity is not a JSON number"),
    Post("1e999", quick(more=', "deadline": 1e999'), 400, "1e999 is out of range"),
    Post("depth 10,000", quick(f'{{"product_id": {nested(10_000)}}}'), 400, "nested deeper than 32"),
    Post("5,000 digits", quick(more=f', "deadline": {"9" * 5_000}'), 400, "an integer of 5,000 digits"),
    Post("a lone surrogate", quick('{"product_id": "p", "title": "\\ud800"}'), 400, "half of a surrogate pair"),
    Post("a duplicate key", quick(more=', "chain": "quick"'), 400, "key 'chain' stands twice"),
    Post(
        "an unknown chain",
        quick().replace(b"quick", b"slow"),
        404,
        "no chain is called 'slow'; known: product-copy, quick",
    ),
    Post("input that the model refuses", quick('{"product_id": "mug"}'), 422, "#/input/title"),
    Post("a member that the model has not", quick('{"product_id": "m", "title": "t", "x": 1}'), 422, "#/input/x"),
    Post("a member that a task has not", quick(more=', "tenant": "evil"'), 422, "#/tenant"),
    Post("a body over the limit", quick(more=" " * MAX_BODY), 413, "at most 1,048,576 bytes"),
    Post("50 MB", b" " * 50_000_000, 413, "at most 1,048,576 bytes"),
    Post("an id with a slash", quick(more=', "id": "a/b"'), 422, "#/id"),
    Post("an id with NUL", quick(more=', "id": "a\\u0000b"'), 422, "#/id"),
    Post("an id with a newline at its end", quick(more=', "id": "a\\n"'), 422, "#/id"),
    Post("an id without end", quick(more=f', "id": "{"x" * 129}"'), 422, "#/id"),
    Post("an id of a sub-task", quick(more=', "id": "mug~1.1"'), 422, "must not contain '~'"),
    Post("an unknown priority", quick(more=', "priority": "urgent"'), 422, "#/priority"),
    Post("a deadline that is none", quick(more=', "deadline": "tomorrow"'), 422, "#/deadline"),
    Post("a deadline in the past", quick(more=', "deadline": -1'), 422, "#/deadline"),
    Post("a callback that is none", quick(more=', "callback": "file:///etc/passwd"'), 422, "#/callback"),
    Post("a form", b"chain=quick", 415, "Content-Type", "application/x-www-form-urlencoded"),
    Post("avro", quick(), 415, "application/json", "avro/binary"),
    Post("UTF-16", quick().decode().encode("utf-16"), 415, "UTF-8", "application/json; charset=utf-16"),
    Post("garbage as gzip", quick(), 400, "Content-Encoding", headers={"Content-Encoding": "gzip"}),
    Post("an unknown encoding", quick(), 415, "Content-Encoding", headers={"Content-Encoding": "snappy"}),
    Post("a gzip bomb", gzip.compress(bytes(60_000_000)), 413, "at most", headers={"Content-Encoding": "gzip"}),
    Post("a deflate bomb", zlib.compress(bytes(60_000_000)), 413, "at most", headers={"Content-Encoding": "deflate"}),
    Post("an empty key", quick(), 400, "Idempotency-Key", headers={"Idempotency-Key": ""}),
    Post("a key without end", quick(), 400, "Idempotency-Key", headers={"Idempotency-Key": "k" * 300}),
]


@pytest.mark.parametrize("post", POSTS, ids=lambda post: post.name)
async def test_a_bad_body_is_answered_with_what_is_wrong_and_where(system: System, post: Post) -> None:
    sent = {"Content-Type": post.media_type, **post.headers}
    data = post.raw if len(post.raw) < MAX_BODY else io.BytesIO(post.raw)
    async with system.worker.http.post("/v1/tasks", data=data, headers=sent) as answer:
        told = await answer.json(content_type="application/problem+json")
    assert answer.status == post.status, told
    assert told["status"] == post.status
    assert post.says in json.dumps(told, ensure_ascii=False)
    await all_is_well(system)


@pytest.mark.parametrize("name", ["a%2Fb", "a%00b", "a%0Ab", "a%0A", "%FF", "x" * 129, "%ED%A0%80", "-a"])
async def test_an_id_that_no_task_can_have_is_refused_in_every_path(system: System, name: str) -> None:
    for path in (f"/v1/tasks/{name}", f"/v1/tasks/{name}/events", f"/v1/reviews/{name}", f"/tasks/{name}"):
        url = URL(system.worker.base + path, encoded=True)
        async with system.worker.http.get(url) as answer:
            assert answer.status in (400, 404), await answer.text()
    assert await system.worker.live()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Huge: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=[
        "TLS",
        "noise",
        "a version",
        "a path without end",
        "a header without end",
        "-1 bytes",
        "two lengths",
        "no chunk",
    ],
)
async def test_what_is_no_http_is_refused(system: System, raw: bytes) -> None:
    url = URL(system.worker.base)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(raw)
    async with asyncio.timeout(30):
        answer = await reader.read(1_000)
    writer.close()
    assert answer.split(b" ")[1:2] == [b"400"], answer
    await all_is_well(system)


async def test_a_body_at_the_limit_passes(system: System) -> None:
    start, end = quick()[:-2] + b', "remarks": "', b'"}, "id": "at-the-limit"}'
    raw = start + b"x" * (MAX_BODY - len(start) - len(end)) + end
    assert len(raw) == MAX_BODY
    sent = {"Content-Type": "application/json"}
    async with system.worker.http.post("/v1/tasks", data=raw, headers=sent) as answer:
        assert answer.status == 202, await answer.text()
    await system.worker.reaches("at-the-limit", "finished")
    await system.settled()


@dataclass(frozen=True)
class Binary:
    """Headers for POST /v1/events in binary mode, with the answer that they get."""

    name: str
    headers: dict[str, str]
    status: int
    says: str


EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "product"}


def without(name: str) -> dict[str, str]:
    return {header: value for header, value in EVENT.items() if header != name}


EVENTS = [
    *(Binary(f"no {name}", without(name), 400, name.removeprefix("ce-")) for name in EVENT),
    Binary("an unknown specversion", EVENT | {"ce-specversion": "0.3"}, 400, "specversion '0.3' is not taken"),
    Binary("a subject with a slash", EVENT | {"ce-subject": "a/b"}, 400, "is no task id"),
    Binary("a subject with NUL", EVENT | {"ce-subject": "a%00"}, 400, "is no task id"),
    Binary("a subject that is not UTF-8", EVENT | {"ce-subject": "%FF"}, 400, "not UTF-8"),
    Binary("another tenant", EVENT | {"ce-tenant": "acme"}, 403, "tenant"),
    Binary("an unknown priority", EVENT | {"ce-priority": "now"}, 400, "priority"),
    Binary("an expiry that is no time", EVENT | {"ce-expirytime": "soon"}, 400, "expirytime"),
    Binary("an unsupported codec", EVENT | {"Content-Type": "application/avro"}, 415, "application/json"),
    Binary("a codec within", EVENT | {"ce-datacontenttype": "application/avro"}, 400, "application/avro"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
async def test_a_bad_event_is_answered_with_what_is_wrong(system: System, event: Binary) -> None:
    sent = {"Content-Type": "application/json", **event.headers}
    async with system.worker.http.post("/v1/events", data=quick(), headers=sent) as answer:
        told = await answer.json(content_type="application/problem+json")
    assert (answer.status, event.says in told["detail"]) == (event.status, True), told
    await all_is_well(system)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"specversion": "2.0"}, 400),
        ({"id": None}, 400),
        ({"data_base64": "e30="}, 400),
        ({"data": "text"}, 422),
        ({"data": None}, 422),
        ({"source": {"deep": 1}}, 400),
    ],
)
async def test_a_bad_envelope_is_answered(system: System, change: Json, status: int) -> None:
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "product", "data": json.loads(quick())}
    sent = {"Content-Type": "application/cloudevents+json"}
    async with system.worker.http.post("/v1/events", data=json.dumps(envelope | change), headers=sent) as answer:
        told = await answer.json(content_type="application/problem+json")
    assert answer.status == status, told
    await all_is_well(system)


def png(width: int, height: int) -> bytes:
    """A white picture of so many pixels, and few bytes."""
    out = io.BytesIO()
    Image.new("1", (width, height), 1).save(out, "PNG")
    return out.getvalue()


PICTURES = [
    ("nothing", b"", 422),
    ("text", b"this is no picture", 422),
    ("only the beginning", png(8, 8)[:12], 422),
    ("a bomb", png(20_000, 20_000), 422),
    ("50 MB", bytes(50_000_000), 413),
]


@pytest.mark.parametrize(("name", "data", "status"), PICTURES, ids=[name for name, _, _ in PICTURES])
async def test_a_picture_that_is_none_is_refused_at_the_door(
    system: System, name: str, data: bytes, status: int
) -> None:
    sent = {"Content-Type": "image/png"}
    async with system.worker.http.post("/v1/blobs", data=io.BytesIO(data), headers=sent) as answer:
        told = await answer.json(content_type="application/problem+json")
    assert answer.status == status, told
    await all_is_well(system)


# Straight onto the log


@dataclass(frozen=True)
class Put:
    """What is put onto a topic in place of a good event's value and headers, with the reason that the letter gives."""

    name: str
    says: str
    value: bytes | None = b"{}"
    headers: dict[str, bytes | None] = field(default_factory=dict)
    without: Sequence[str] = ()


def good(task: str = "bad", **given: object) -> Event:
    return submission("quick", {**MUG, **given}, task)


def changed(old: str, new: bytes) -> bytes:
    return as_record(good(), "intake").value.replace(old.encode(), new)


GOOD = as_record(good(), "intake").value
PUTS = [
    Put("not UTF-8", "not UTF-8 at byte", changed("A blue mug", b"\xff\xfe")),
    Put("NaN", "NaN is not a JSON number", changed('"A blue mug"', b"NaN")),
    Put("1e999", "number 1e999 is out of range", changed('"A blue mug"', b"1e999")),
    Put("depth 10,000", "nested deeper than 40", changed('"A blue mug"', nested(10_000).encode())),
    Put("5,000 digits", "an integer of 5,000 digits", changed('"A blue mug"', b"9" * 5_000)),
    Put("a lone surrogate", "half of a surrogate pair", changed("A blue mug", b"\\udfff")),
    Put("a duplicate key", "key 'digest' stands twice", GOOD[:-1] + b', "digest": ""}'),
    Put("no JSON", "not JSON", b"\x00\x01\x02"),
    Put("nothing", "body: not JSON", b""),
    Put("a tombstone", "tombstone", None),
    Put("a body of another kind", "body: digest: Field required", b'{"submission": {"chain": "quick", "input": {}}}'),
    Put("a member that a body has not", "Extra inputs", GOOD[:-1] + b', "role": "admin"}'),
    Put("an unknown specversion", "specversion '0.3' is not taken", GOOD, {"ce_specversion": b"0.3"}),
    *(
        Put(f"no {name}", f"{name}", GOOD, {}, [f"ce_{name}"])
        for name in ("specversion", "id", "source", "type", "subject", "tenant", "chain")
    ),
    Put("no headers", "specversion is missing", GOOD, {}, ["ce_specversion", "ce_id", "ce_type", "content-type"]),
    Put("an id with a slash", "'subject' is not valid", GOOD, {"ce_subject": b"a/b"}),
    Put("an id with NUL", "'subject' is not valid", GOOD, {"ce_subject": b"a\0b"}),
    Put("an id with a newline", "'subject' is not valid", GOOD, {"ce_subject": b"a\n"}),
    Put("a tenant with a colon", "'tenant' is not valid", GOOD, {"ce_tenant": b"a:b"}),
    Put("a header that is not UTF-8", "'ce_subject' is not UTF-8", GOOD, {"ce_subject": b"\xff"}),
    Put("a header that is null", "'ce_subject' is empty or longer", GOOD, {"ce_subject": None}),
    Put("a header without end", "'ce_subject' is empty or longer", GOOD, {"ce_subject": b"x" * 100_000}),
    Put("a sequence that is none", "'sequence' is not valid", GOOD, {"ce_sequence": b"-1"}),
    Put("an attempt of 5,000 digits", "'attempt' is not valid", GOOD, {"ce_attempt": b"9" * 4_000}),
    Put("a time that is none", "'time'", GOOD, {"ce_time": b"yesterday"}),
    Put("a time out of range", "'expirytime'", GOOD, {"ce_expirytime": b"9999-12-31T23:59:59-23:59"}),
    Put("a traceparent that is none", "'traceparent' is not valid", GOOD, {"ce_traceparent": b"00-zz"}),
    Put("an unsupported codec", "content type 'application/avro'", GOOD, {"content-type": b"application/avro"}),
    Put("an envelope in avro", "not taken", GOOD, {"content-type": b"application/cloudevents+avro"}),
    Put("a batch of envelopes", "not taken", b"[]", {"content-type": b"application/cloudevents-batch+json"}),
    Put("an envelope that is none", "is a JSON object", b"[]", {"content-type": b"application/cloudevents+json"}),
    Put("a reference to nothing", "is not in", b"", {"ce_dataref": b"blob:" + b"0" * 64}),
    Put("a reference elsewhere", "only 'blob:'", b"", {"ce_dataref": b"http://169.254.169.254/"}),
]


@pytest.mark.parametrize("put", PUTS, ids=lambda put: put.name)
async def test_what_cannot_be_read_from_the_log_becomes_one_dead_letter(system: System, put: Put) -> None:
    # given a record whose key is right and whose rest is not
    record = as_record(good(), "intake")
    told = [(name, put.headers.get(name, raw)) for name, raw in record.headers if name not in put.without]
    told += [(name, raw) for name, raw in put.headers.items() if name not in dict(record.headers)]
    # when it stands on the topic of intake
    partition, offset = await system.put_raw("intake", put.value, record.key, told)
    # then there is one letter with its bytes, its place and the reason
    await unreadable(system, ("intake", partition, offset), put, record.key)


async def unreadable(system: System, place: tuple[str, int, int], put: Put, key: bytes | None) -> None:
    """The letter of one unreadable record, and that there is no other."""
    topic, partition, offset = place
    await nothing_is_left(system)
    origin = f"{topic_of(topic)}/{partition}/{offset}".encode()
    tail = await system.tail("dead")
    letters = await tail.find(lambda letter: headers(letter).get("ce_id") == origin, origin.decode())
    assert len(letters) == 1, [headers(letter) for letter in letters]
    said = headers(letters[0])
    assert said["ce_type"] == UNREADABLE.encode()
    assert put.says in said["ce_reason"].decode(), said["ce_reason"]
    assert letters[0].value == (put.value or b"")
    assert ("ce_tombstone" in said) == (put.value is None)
    assert letters[0].key == (key or origin)


ELSEWHERE = [
    Put("not UTF-8", "not UTF-8 at byte", changed("A blue mug", b"\xff\xfe")),
    Put("a tombstone", "tombstone", None),
    Put("an unknown specversion", "'0.3' is not taken", GOOD, {"ce_specversion": b"0.3"}),
]


@pytest.mark.parametrize("topic", ["infer", "prepare", "review", "verdicts", "finished", "notified"])
@pytest.mark.parametrize("put", ELSEWHERE, ids=lambda put: put.name)
async def test_each_topic_survives_what_cannot_be_read(system: System, topic: str, put: Put) -> None:
    record = as_record(good(), topic)
    told = [(name, put.headers.get(name, raw)) for name, raw in record.headers]
    # Kafka takes no record with neither a key nor a value.
    key = b"any" if put.value is None else None
    partition, offset = await system.put_raw(topic, put.value, key, told)
    await unreadable(system, (topic, partition, offset), put, key)


@pytest.mark.parametrize(
    ("event", "kind", "says"),
    [
        (submission("slow", MUG, "no-chain"), "unknown-chain", "no chain is called 'slow'"),
        (submission("quick", {"product_id": "mug"}, "no-title"), "invalid-input", "title: Field required"),
        (submission("quick", {**MUG, "title": "x" * 501}, "long-title"), "invalid-input", "title"),
    ],
    ids=["an unknown chain", "input that the model refuses", "input that is too long"],
)
async def test_a_task_that_cannot_start_fails_and_says_why(system: System, event: Event, kind: str, says: str) -> None:
    await system.put("intake", as_record(event, "intake"))
    await buried(system, event.task, kind, says)


async def buried(system: System, task: str, kind: str, says: str) -> None:
    """The task has failed for that reason, and stands among the dead letters with it."""
    row = await system.worker.reaches(task, "failed")
    assert row["failure"]["kind"] == kind
    assert says in row["failure"]["message"], row["failure"]
    (letter,) = await (await system.tail("dead")).of_task(task, BURIED)
    assert body(letter)["failure"]["kind"] == kind
    await nothing_is_left(system)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 7}, "no 'quick' version 7"),
        ({"chain": "slow"}, "no 'slow' version 1"),
        ({"sequence": 1}, "not on service 'infer'"),
        ({"sequence": 9}, "not on service 'infer'"),
        ({"sequence": 9999}, "not on service 'infer'"),
    ],
    ids=["a version that is not", "a chain that is not", "another service's step", "no step", "the last number"],
)
async def test_an_event_for_no_step_of_the_service_is_buried(system: System, change: Json, says: str) -> None:
    given: Json = {"version": 1, "sequence": 2, **change}
    event = replace(good(f"nowhere-{next(numbers)}"), **given)
    await system.put("infer", as_record(event, "infer"))
    await buried(system, event.task, "unknown-chain", says)


async def test_a_task_without_what_its_step_needs_is_buried_with_the_reason(system: System) -> None:
    event = replace(good("no-prompt"), version=1, sequence=2)
    await system.put("infer", as_record(event, "infer"))
    await buried(system, event.task, "no-prompt", 'outputs["prompt"]["messages"]')


def cut_off() -> bytes:
    """A picture whose header is right, and whose rest is missing."""
    out = io.BytesIO()
    Image.effect_noise((600, 400), 90).save(out, "PNG")
    return out.getvalue()[:2_000]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"this is no picture", "bad-image"),
        (cut_off(), "bad-image"),
        (png(20_000, 20_000), "bad-image"),
        (None, "photo-missing"),
    ],
    ids=["no picture", "a part of one", "a bomb", "none at all"],
)
async def test_a_picture_that_is_none_fails_its_task(system: System, data: bytes | None, kind: str) -> None:
    # given bytes that came into the store past the door
    blobs = BlobStore(BlobOptions(url=f"file://{system.folder}/blobs"))
    photo = "blob:" + "0" * 64 if data is None else await blobs.put(data)
    event = submission("product-copy", {**MUG, "photo": photo}, f"picture-{next(numbers)}")
    await system.put("intake", as_record(event, "intake"))
    await buried(system, event.task, kind, "")


@pytest.mark.parametrize(
    "foreign",
    [
        {"__faust": b'{"ns": "os.system"}', "Faust-Ag-ReplyTo": b"evil", "Faust-Ag-CorrelationId": b"1"},
        {"ce_specversion ": b"9", "Content-Type ": b"\xff", "\u00e9": b"\xff\xff", "": None},
        {f"x-{number}": b"y" * 5_000 for number in range(100)},
        {"x-huge": b"z" * 500_000},
    ],
    ids=["of Faust's agents", "with odd names", "a hundred", "one of 500 kB"],
)
async def test_foreign_headers_are_not_listened_to(system: System, foreign: dict[str, bytes | None]) -> None:
    await create_topics(system.bootstrap, {"evil": 1})
    record = as_record(good(f"foreign-{next(numbers)}"), "intake")
    await system.put_raw("intake", record.value, record.key, [*record.headers, *foreign.items()])
    task = record.key.decode().rpartition(":")[2]
    await system.worker.reaches(task, "finished")
    await nothing_is_left(system)
    assert await read_all(system.bootstrap, "evil") == []
    (end,) = await (await system.tail("finished")).of_task(task, "callstream.task.finished")
    assert not set(foreign) & set(headers(end))


async def test_a_foreign_header_whose_name_is_not_utf_8_is_not_listened_to(system: System) -> None:
    record = as_record(good(f"foreign-{next(numbers)}"), "intake")
    record.headers.append(("x-placeholder", b"1"))
    await system.put_named("intake", record, "x-placeholder", b"\xff\xfeplaceholder")
    await system.worker.reaches(record.key.decode().rpartition(":")[2], "finished")
    await nothing_is_left(system)


async def test_a_header_whose_name_is_not_utf_8_is_none_of_ours(system: System) -> None:
    record = as_record(good(), "intake")
    partition, offset = await system.put_named("intake", record, "ce_specversion", b"ce_specversio\xff")
    put = Put("a name that is not UTF-8", "specversion is missing", record.value)
    await unreadable(system, ("intake", partition, offset), put, record.key)


@pytest.mark.parametrize("topic", ["intake", "prepare"])
@pytest.mark.parametrize("key", [None, b"", b"7:default:another", b"\xff\x00", b"k" * 5_000])
async def test_the_wrong_key_or_partition_takes_an_event_to_the_right_one(
    system: System, topic: str, key: bytes | None
) -> None:
    event = good(f"astray-{next(numbers)}")
    if topic == "prepare":
        event = replace(event, version=1, sequence=1)
    record = as_record(event, topic)
    wrong = (partition_of(record.key, 4) + 1) % 4
    await system.put_raw(topic, record.value, key, record.headers, wrong)
    await system.worker.reaches(event.task, "finished")
    await nothing_is_left(system)
    # Once: nobody else than the topic's own service has sent it on.
    calls = await system.stub.task(TENANT, event.task)
    assert calls["calls"] == 1
    mine = await (await system.tail(topic)).of_task(event.task, "callstream.task")
    assert sorted(one.partition == wrong for one in mine) == [False, True]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_of_other_producers_are_read(system: System, codec: str) -> None:
    record = as_record(good(f"packed-{codec}", remarks="x" * 10_000), "intake")
    async with AIOKafkaProducer(bootstrap_servers=system.bootstrap, compression_type=codec) as producer:
        await producer.send_and_wait(record.topic, record.value, key=record.key, headers=record.headers)
    await system.worker.reaches(f"packed-{codec}", "finished")
    await nothing_is_left(system)


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"bomb", bytes(60_000_000)), (bytes(60_000_000), b"{}")],
    ids=["value", "key"],
)
async def test_a_batch_that_unpacks_to_60_mb_is_a_letter_that_can_be_sent(
    system: System, key: bytes, value: bytes
) -> None:
    # given a record of some kilobytes on the wire
    async with AIOKafkaProducer(
        bootstrap_servers=system.bootstrap, compression_type="zstd", max_request_size=100_000_000
    ) as producer:
        sent = await producer.send_and_wait(topic_of("intake"), value, key=key, partition=0)
    # then its letter has what can be kept, and where it stands
    origin = f"{sent.topic}/{sent.partition}/{sent.offset}".encode()
    (letter,) = await (await system.tail("dead")).find(lambda one: headers(one).get("ce_id") == origin, origin.decode())
    assert letter.key == (key if len(key) < 100 else origin)
    if len(value) > 100:
        assert headers(letter)["ce_cutfrom"] == b"60000000"
        assert letter.value == value[: 256 * 1024]
    else:
        assert letter.value == value
    await nothing_is_left(system)


async def test_a_reference_to_a_blob_that_is_too_large_is_a_dead_letter(system: System) -> None:
    # given a blob that came into the store past the door
    blobs = BlobStore(BlobOptions(url=f"file://{system.folder}/blobs", max_bytes=100_000_000))
    reference = await blobs.put(bytes(30_000_000))
    record = as_record(good("too-large"), "intake")
    told = [*record.headers, ("ce_dataref", reference.encode())]
    partition, offset = await system.put_raw("intake", b"", record.key, told)
    await unreadable(system, ("intake", partition, offset), Put("", "at most 20,971,520 are read", b""), record.key)


async def test_a_record_at_the_brokers_limit_passes_and_one_beyond_it_is_not_taken(system: System) -> None:
    record = as_record(good("large", remarks="x" * (MAX_BODY - 1_000)), "intake")
    await system.put("intake", record)
    await system.worker.reaches("large", "finished")
    with pytest.raises(MessageSizeTooLargeError):
        await system.put("intake", as_record(good("larger", remarks="x" * 2_000_000), "intake"))
    await nothing_is_left(system)


TERMINAL = replace(good("ended"), version=1, sequence=5, type="callstream.task.finished")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (changed('"digest"', b'"end": "exploded", "digest"'), "body: end"),
        (changed('"digest"', b'"end": 5, "digest"'), "body: end"),
        (changed('"digest"', b'"result": [], "end": "finished", "digest"'), "body: result"),
        (changed('"digest"', b'"failure": {"kind": "NO"}, "end": "failed", "digest"'), "body: failure"),
    ],
    ids=["an unknown end", "an end that is a number", "a result that is a list", "half a failure"],
)
async def test_a_terminal_event_with_garbage_is_a_dead_letter(system: System, value: bytes, says: str) -> None:
    record = as_record(TERMINAL, "finished")
    partition, offset = await system.put_raw("finished", value, record.key, record.headers)
    await unreadable(system, ("finished", partition, offset), Put("", says, value), record.key)


async def test_a_terminal_event_without_an_end_ends_nothing(system: System) -> None:
    event = replace(TERMINAL, task="no-end")
    await system.put("finished", as_record(event, "finished"))
    (letter,) = await (await system.tail("dead")).of_task("no-end", BURIED)
    assert "has not ended" in body(letter)["failure"]["message"]
    await nothing_is_left(system)


@pytest.mark.parametrize(
    "outputs",
    [{}, {"verdict": {}}, {"verdict": {"verdict": "explode"}}, {"verdict": {"verdict": "edit", "reviewer": "x"}}],
    ids=["nothing", "an empty one", "an unknown one", "an edit of nothing"],
)
async def test_a_verdict_that_is_none_decides_nothing(system: System, outputs: Json) -> None:
    # given a held task
    task = f"held-{next(numbers)}"
    held = replace(good(task), version=1, sequence=4, type="callstream.task.held").with_body(held="look at it")
    await system.put("review", as_record(held, "review"))
    await system.worker.reaches(task, "held")
    # when something that is no verdict names it
    verdict = replace(held, type="callstream.review.verdict").with_body(held=None, outputs=outputs)
    await system.put("verdicts", as_record(verdict, "verdicts"))
    await nothing_is_left(system)
    # then it is held still, and a verdict decides it
    row = await system.worker.row(task)
    assert row is not None
    assert row["state"] == "held"
    said = {"verdict": "reject", "reviewer": "ann", "reason": "no"}
    async with system.worker.http.post(f"/v1/reviews/{task}", json=said) as answer:
        assert answer.status == 202, await answer.text()
    await system.worker.reaches(task, "rejected")


@pytest.mark.parametrize(
    "profile",
    [b"\xff\xfe", b"[]", b'{"tone": NaN}', b"x" * 200_000, b""],
    ids=["not UTF-8", "no object", "NaN", "too large", "nothing"],
)
async def test_a_profile_that_is_none_is_taken_for_none(system: System, profile: bytes) -> None:
    # given whatever somebody put onto the topic of profiles
    user = f"user-{next(numbers)}"
    topic = changelog_of("prepare", "profiles")
    await system.producer.send_and_wait(topic, profile, key=profile_key(TENANT, user))
    shown = {"prefix": profile_key(TENANT, user).decode()}

    async def arrived() -> bool:
        async with system.worker.http.get("/tables/profiles", params=shown) as answer:
            assert answer.status == 200, await answer.text()
            return shown["prefix"] in await answer.text()

    await until(arrived, "the table has the row")
    # then a task of that user passes without it
    told = await system.worker.submit("product-copy", {**MUG, "user": user})
    row = await system.worker.reaches(told["id"], "finished")
    assert [step["step"] for step in row["steps"]][-1] == "catalogue"
    await nothing_is_left(system)


async def test_verdicts_and_notes_about_tasks_that_nobody_knows_do_no_harm(system: System) -> None:
    event = replace(good("nobody"), version=1, sequence=4)
    for topic, kind in (("verdicts", "callstream.review.verdict"), ("notified", "callstream.task.notified")):
        await system.put(topic, as_record(replace(event, type=kind), topic))
    await nothing_is_left(system)


async def test_the_worker_said_nothing_of_a_bug(system: System) -> None:
    log = system.worker.log()
    assert "request failed, reference" not in log
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4_000]
