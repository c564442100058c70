"""Ways to hand in tasks: over HTTP with pictures first, or straight onto the intake topic."""

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from callstream.cli.client import Api
from callstream.cli.errors import CliError
from callstream.cli.orders import Order, media_type
from callstream.streams.blobs import BlobStore
from callstream.streams.event import Submission
from callstream.streams.keys import id_from_idempotency_key
from callstream.streams.submission import Order as Envelope
from callstream.streams.submission import check_start, new_event, parse_deadline, parse_run_at
from callstream.streams.topics import INTAKE, topic_of
from callstream.streams.wire import MAX_RECORD_BYTES, encode

REMEMBERED = 10_000


class Sender(Protocol):
    """Hands in one task and gives its id."""

    async def send(self, order: Order) -> str:
        """Raises CliError when the task was not taken."""


class HttpSender:
    """POST /v1/tasks, each picture by POST /v1/blobs before it, once a file."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._pictures: dict[Path, asyncio.Task[str]] = {}

    async def send(self, order: Order) -> str:
        """The id of the task that the gateway took."""
        reference = await self._reference(order.picture) if order.picture else None
        answer = await self._api.submit(order.body(reference), order.idempotency_key)
        return str(answer["id"])

    async def _reference(self, picture: Path) -> str:
        upload = self._pictures.get(picture)
        if upload is None:
            if len(self._pictures) >= REMEMBERED:
                self._pictures.clear()
            upload = self._pictures[picture] = asyncio.create_task(self._upload(picture))
        return await asyncio.shield(upload)

    async def _upload(self, picture: Path) -> str:
        data = await asyncio.to_thread(picture.read_bytes)
        return await self._api.put_blob(data, media_type(picture))


class KafkaSender:
    """A record on the intake topic, with no gateway between; pictures go into the blob store of these settings."""

    def __init__(self, bootstrap: str, blobs: BlobStore, tenant: str, topic: str = topic_of(INTAKE)) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._blobs = blobs
        self._tenant = tenant

    async def __aenter__(self) -> Self:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True, max_request_size=MAX_RECORD_BYTES
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise CliError(f"no broker answers at {self._bootstrap}: {error}") from None
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def send(self, order: Order) -> str:
        """The id of the task, once the log has its record."""
        if self._producer is None:
            raise RuntimeError("the producer is not open: use `async with KafkaSender(…)`")
        reference = await self._blobs.put(await asyncio.to_thread(order.picture.read_bytes)) if order.picture else None
        body, now = order.body(reference), time.time()
        task = order.line.id or id_from_idempotency_key(order.idempotency_key or f"{now}")
        deadline, run_at = _times(order, now)
        submission = Submission(chain=body["chain"], input=body["input"], callback=body.get("callback"))
        event = new_event(submission, Envelope(self._tenant, task, order.line.priority, deadline, run_at=run_at), now)
        record = encode(event, self._topic)
        try:
            await self._producer.send_and_wait(
                record.topic, record.value, key=record.key, headers=[(name, raw) for name, raw in record.headers]
            )
        except KafkaError as error:
            raise CliError(f"{record.topic}: the broker did not take task {task}: {error}") from None
        return task


def _times(order: Order, now: float) -> tuple[float | None, float | None]:
    """Deadline and start of a task, epoch seconds. Raises CliError naming its line."""
    line = order.line
    try:
        deadline = None if line.deadline is None else parse_deadline(line.deadline, now)
        run_at = parse_run_at(line.run_at if line.delay_seconds is None else line.delay_seconds, now)
        check_start(run_at, deadline)
    except ValueError as error:
        raise CliError(f"task {order.number}: its times do not fit: {error}") from None
    return deadline, run_at
