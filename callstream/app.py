"""Starts the services of one process: finds the broker, declares the topics, builds the node and runs it."""

import asyncio
import atexit
import gc
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import faust
import uvloop

from callstream.node import Node, check_services
from callstream.settings import Settings, load
from callstream.streams.broker import EmbeddedKafka, control
from callstream.streams.broker.classpath import Progress
from callstream.streams.broker.embedded import silent
from callstream.streams.chain import Chains
from callstream.streams.declare import declare, plan
from callstream.streams.loading import load_chains

log = logging.getLogger("callstream.worker")

HOUR = 3_600.0
LOOK_SECONDS = 0.25
STOP_SECONDS = 10.0
FAILED = 1
GC_THRESHOLD = (50_000, 20, 20)


@contextmanager
def broker(settings: Settings, progress: Progress = silent) -> Iterator[str]:
    """The address of the broker to use: the one that is set, the embedded one that runs, or one started for as long."""
    if settings.broker is not None:
        yield settings.broker
    elif running := control.status(settings.embedded):
        yield running.bootstrap
    else:
        with EmbeddedKafka(settings.embedded, progress) as embedded:
            yield embedded.bootstrap


async def declare_topics(settings: Settings, chains: Chains, bootstrap: str) -> None:
    """Create every topic that is missing. Raises TopicsDiffer, BrokerUnreachable."""
    retention = settings.retention_hours * HOUR
    await declare(bootstrap, plan(chains, settings.partitions, settings.replicas, retention))


def run_worker(settings: Settings, services: Sequence[str] = (), progress: Progress = silent) -> int:
    """Run these services (all by default) until a signal or a failure; gives the exit code of the process.

    SIGTERM and SIGINT end it with 0 after what runs is finished or handed back; a failure of any service ends all of
    them with 1, for a supervisor to start the process again.
    """
    chains = load_chains(settings.chains)
    # Before a broker is started or a topic made for it.
    check_services(chains, services)
    # Faust's consumers make event loops of their own, in threads: they get the fast kind too.
    uvloop.install()
    # Events make much short-lived garbage and few cycles: collecting as often as by default costs a tenth of the CPU.
    gc.set_threshold(*GC_THRESHOLD)
    with broker(settings, progress) as bootstrap:
        return asyncio.run(_serve(settings, chains, bootstrap, services))


def faust_app() -> faust.App:
    """The app that `faust -A callstream worker` starts: the gateway's, with every other service joined to it."""
    settings = load()
    chains = load_chains(settings.chains)
    held = ExitStack()
    atexit.register(held.close)
    bootstrap = held.enter_context(broker(settings))
    asyncio.run(declare_topics(settings, chains, bootstrap))
    return Node(settings, chains, bootstrap).main


async def _serve(settings: Settings, chains: Chains, bootstrap: str, services: Sequence[str]) -> int:
    await declare_topics(settings, chains, bootstrap)
    node = Node(settings, chains, bootstrap, services)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("starting %s on %s", ", ".join(node.apps), bootstrap)
    starting = asyncio.create_task(node.main.start())
    starting.add_done_callback(_freeze)
    failure = await _until(node, starting, stop)
    patience = settings.engine.drain_seconds + STOP_SECONDS
    try:
        async with asyncio.timeout(patience):
            await node.main.stop()
    except TimeoutError:
        log.error("not stopped within %.0f s: leaving", patience)
        os._exit(FAILED)
    if failure is not None:
        log.error("ended: %s: %s", type(failure).__name__, failure)
        return FAILED
    log.info("stopped")
    return 0


def _freeze(_: "asyncio.Task[None]") -> None:
    """Leave what a worker has for good out of every collection: looking through it took a tenth of a second each."""
    gc.collect()
    gc.freeze()


async def _until(node: Node, starting: "asyncio.Task[None]", stop: asyncio.Event) -> BaseException | None:
    """Wait for a signal or a failure."""
    stopping = asyncio.create_task(stop.wait())
    while not stopping.done():
        for app in node.apps.values():
            if app.failure is not None or app.crashed:
                return app.failure or app.crash_reason or RuntimeError(f"{app.service_name} crashed")
        if starting.done() and (error := starting.exception()) is not None:
            return error
        await asyncio.wait([stopping], timeout=LOOK_SECONDS)
    return None
