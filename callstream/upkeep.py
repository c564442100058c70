"""What a process does beside its events, for ever: it runs its services, tells of its pools, forgets what is old."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.alarms.refusals import Refusals
from callstream.agents.control.controls import Controls
from callstream.agents.delivery import Sinks
from callstream.agents.delivery.store import CatalogueStore
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.report import TELL_SECONDS
from callstream.streams import strict_json
from callstream.streams.blobs import BlobError, BlobStore
from callstream.streams.engine import ServiceApp
from callstream.streams.event import Json
from callstream.streams.keys import partition_of, task_key
from callstream.streams.topics import CONTROL, POOLS, topic_of
from callstream.streams.wire import LogUnavailable
from callstream.tables.tasks import ENDED

log = logging.getLogger("callstream.node")

HOUR = 3_600.0
DAY = 24 * HOUR
BREATH = 0.1
"""Seconds between two transactions that delete: writers come in between."""
LOOK_SECONDS = 0.25
PAUSES_SECONDS = 10.0


async def run_others(main: ServiceApp, others: Sequence[ServiceApp]) -> None:
    """Start the other services side by side with the main one, and end it when one of them ends."""
    for app in others:
        app.finalize()
    starting = [asyncio.create_task(app.maybe_start()) for app in others]
    while True:
        for app, start in zip(others, starting, strict=True):
            failed = app.failure or app.crash_reason or (start.exception() if start.done() else None)
            if failed is not None:
                main.fail(failed)
                return
        await asyncio.sleep(LOOK_SECONDS)


async def tell_pools(app: ServiceApp, gates: Gates, aside: Callable[[str], list[Json]]) -> None:
    """Tell every gateway what this replica has and why calls wait here; a broker that is away hears nothing.

    `aside` gives what is put aside of a pool.
    """
    while True:
        await asyncio.sleep(TELL_SECONDS)
        gates.pump()
        with suppress(LogUnavailable):
            report = gates.report()
            for pool in report["pools"]:
                pool["aside"] = aside(pool["pool"])
            await _tell_all(app, strict_json.pack(report), "the report of this replica's pools")


async def tell_sinks(app: ServiceApp, sinks: Sinks) -> None:
    """Tell every gateway which tasks wait for stores that are away, and once more when none is."""
    told = False
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if sinks.resting or told:
            told = sinks.resting
            with suppress(LogUnavailable):
                await _tell_all(app, strict_json.pack(sinks.report()), "what waits for stores", f" {app.service_name}")


async def tell_refusals(app: ServiceApp, refusals: Refusals) -> None:
    """Let whoever judges alarms know what this process's budgets refuse, for ever."""
    await refusals.run(lambda told: _tell_all(app, told, "what budgets refused"))


async def _tell_all(app: ServiceApp, told: bytes, what: str, of: str = "") -> None:
    """Tell every gateway something of this process, or a part `of` it. Raises LogUnavailable."""
    name = f"{socket.gethostname()}:{os.getpid()}{of}".encode()
    sent = await app.enqueue(topic_of(POOLS), partition_of(name, app.partitions), name, told)
    await app.delivered(sent, what)


async def sweep_commands(app: ServiceApp, controls: Controls, kept_seconds: float) -> None:
    """Forget the commands about tasks whose events are gone, once an hour."""
    while True:
        await asyncio.sleep(HOUR)
        await _forget(app, controls.expired(time.time() - kept_seconds))


async def sweep_pauses(app: ServiceApp, controls: Controls, row_of: Callable[[int, bytes], Json | None]) -> None:
    """Forget the pauses of tasks that have ended, soon. `row_of` gives the rows of tasks that this gateway has."""

    def has_ended(tenant: str, task: str) -> bool:
        key = task_key(tenant, task)
        row = row_of(partition_of(key, app.partitions), key)
        return row is not None and row["state"] in ENDED

    while True:
        await asyncio.sleep(PAUSES_SECONDS)
        await _forget(app, controls.pauses_over(has_ended))


async def _forget(app: ServiceApp, commands: Iterable[str]) -> None:
    for key in commands:
        partition = partition_of(key.encode(), app.partitions)
        with suppress(LogUnavailable):
            await app.enqueue(topic_of(CONTROL), partition, key.encode(), None)


async def sweep_logs(engine: AsyncEngine, days: int, clock: Callable[[], float]) -> None:
    """Delete rows of the inference log and the chain log that are old, once an hour; what fails is tried then."""
    store = CatalogueStore(engine)
    while True:
        deleted = 0
        try:
            while now := await store.forget(clock() - days * DAY):
                deleted += now
                await asyncio.sleep(BREATH)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("old rows of the logs are not deleted: %s", str(error).partition("\n")[0][:300])
        if deleted:
            log.info("old rows of the logs deleted: %d", deleted)
        await asyncio.sleep(HOUR)


async def sweep_blobs(blobs: BlobStore) -> None:
    """Delete the blobs that no event can need any more, once an hour."""
    while True:
        try:
            deleted = await blobs.sweep(datetime.now(UTC))
        except BlobError as error:
            log.warning("old blobs are not deleted: %s", error)
        else:
            log.info("old blobs deleted: %d", deleted)
        await asyncio.sleep(HOUR)
