"""What a process does beside its events, for ever: it runs its services, tells of its pools, forgets what is old."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from callstream.agents.alarms.refusals import Refusals
from callstream.agents.control.controls import Controls
from callstream.agents.inference.admission.gates import Gates
from callstream.agents.inference.admission.report import TELL_SECONDS
from callstream.streams import strict_json
from callstream.streams.blobs import BlobError, BlobStore
from callstream.streams.engine import ServiceApp
from callstream.streams.event import Json
from callstream.streams.keys import partition_of
from callstream.streams.topics import CONTROL, POOLS, topic_of
from callstream.streams.wire import LogUnavailable

log = logging.getLogger("callstream.node")

HOUR = 3_600.0
LOOK_SECONDS = 0.25


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


async def tell_refusals(app: ServiceApp, refusals: Refusals) -> None:
    """Let whoever judges alarms know what this process's budgets refuse, for ever."""
    await refusals.run(lambda told: _tell_all(app, told, "what budgets refused"))


async def _tell_all(app: ServiceApp, told: bytes, what: str) -> None:
    """Tell every gateway something of this process. Raises LogUnavailable."""
    name = f"{socket.gethostname()}:{os.getpid()}".encode()
    sent = await app.enqueue(topic_of(POOLS), partition_of(name, app.partitions), name, told)
    await app.delivered(sent, what)


async def sweep_commands(app: ServiceApp, controls: Controls, kept_seconds: float) -> None:
    """Forget the commands about tasks whose events are gone, once an hour."""
    while True:
        await asyncio.sleep(HOUR)
        for key in controls.expired(time.time() - kept_seconds):
            partition = partition_of(key.encode(), app.partitions)
            with suppress(LogUnavailable):
                await app.enqueue(topic_of(CONTROL), partition, key.encode(), None)


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
