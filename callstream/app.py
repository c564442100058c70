"""Starts the services of one process: finds the broker, declares the topics, builds the node and runs it."""

import asyncio
import atexit
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import faust
import uvloop

from callstream.agents.inference.options import InferenceOptions
from callstream.alarming import check_rules
from callstream.node import Node
from callstream.presence import Presence
from callstream.services import check_budgets, check_services, load_steps, services_of
from callstream.settings import Settings, load
from callstream.settings.reload import Reloader
from callstream.streams import expressions
from callstream.streams.broker import EmbeddedKafka, control
from callstream.streams.broker.classpath import Progress
from callstream.streams.broker.embedded import silent
from callstream.streams.chain import Chains
from callstream.streams.declare import declare, plan
from callstream.streams.disk import DiskUnusable
from callstream.streams.loading import load_chains

log = logging.getLogger("callstream.worker")

HOUR = 3_600.0
LOOK_SECONDS = 0.25
STOP_SECONDS = 10.0
FAILED = 1
GC_THRESHOLD = (50_000, 20, 20)
TERMINAL = Path("/dev/tty")


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
    others = [sink.topic for sink in settings.sinks.values() if sink.topic is not None]
    await declare(bootstrap, plan(chains, settings.partitions, settings.replicas, retention, others))


def run_worker(settings: Settings, services: Sequence[str] = (), progress: Progress = silent) -> int:
    """Run these services (all by default) until a signal or a failure; gives the exit code of the process.

    SIGTERM and SIGINT end it with 0 after what runs is finished or handed back; a failure of any service ends all of
    them with 1, for a supervisor to start the process again. SIGHUP has it read its settings again. Raises
    UnknownService, UnknownBudget, BadAlarmRule, FolderInUse, and what a broker that cannot be had raises.
    """
    chains = load_chains(settings.chains)
    # Before a broker is started or a topic made for it.
    known = check_services(chains, services)
    check_rules(settings.alarms.rules, chains, known)
    check_budgets(settings.inference.budgets.chains, chains)
    # Faust's consumers make event loops of their own, in threads: they get the fast kind too.
    uvloop.install()
    expressions.library()
    load_steps(chains, services or known)
    # Events make much short-lived garbage and few cycles: collecting as often as by default costs a tenth of the CPU.
    gc.set_threshold(*GC_THRESHOLD)
    with Presence(settings.data_folder, services or known) as presence, broker(settings, progress) as bootstrap:
        return asyncio.run(_serve(settings, chains, bootstrap, services, presence))


def faust_app() -> faust.App:
    """The app that `faust -A callstream worker` starts: the gateway's, with every other service joined to it."""
    settings = load()
    chains = load_chains(settings.chains)
    check_rules(settings.alarms.rules, chains, services_of(chains))
    check_budgets(settings.inference.budgets.chains, chains)
    load_steps(chains, services_of(chains))
    held = ExitStack()
    atexit.register(held.close)
    bootstrap = held.enter_context(broker(settings))
    asyncio.run(declare_topics(settings, chains, bootstrap))
    node = Node(settings, chains, bootstrap)
    reloader = _reloader(node)

    async def reread() -> None:
        # Faust's other commands build the app too, beside a worker that runs.
        with Presence(settings.data_folder, tuple(node.apps)) as presence:
            await _reread(reloader, presence)

    node.main.background.append(reread)
    return node.main


def _reloader(node: Node) -> Reloader:
    """What reads the settings again; everything that takes new options of models while it runs is told of them here."""

    def check(options: InferenceOptions) -> None:
        check_budgets(options.budgets.chains, node.chains)

    return Reloader(node.settings, on_change=[check, node.reconfigured])


async def _serve(
    settings: Settings, chains: Chains, bootstrap: str, services: Sequence[str], presence: Presence
) -> int:
    await declare_topics(settings, chains, bootstrap)
    node = Node(settings, chains, bootstrap, services)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    rereading = asyncio.create_task(_reread(_reloader(node), presence))
    log.info("starting %s on %s", ", ".join(node.apps), bootstrap)
    starting = asyncio.create_task(node.main.start())
    starting.add_done_callback(_freeze)
    failure = await _until(node, starting, stop)
    rereading.cancel()
    if isinstance(failure, DiskUnusable):
        # What runs cannot be kept any more, and a database on a full disk takes half a minute to close.
        log.error("ended: %s: %s", type(failure).__name__, failure)
        os._exit(FAILED)
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


async def _reread(reloader: Reloader, presence: Presence) -> None:
    """Read the settings again at each SIGHUP, and answer in the data folder; goes on until it is cancelled."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _at_hangup(asked))
    presence.tell()
    while True:
        await asked.wait()
        asked.clear()
        began = time.time()
        outcome = await reloader.reload()
        log.log(logging.ERROR if outcome.problems else logging.INFO, "settings read again: %s", outcome)
        try:
            presence.answer(began, outcome)
        except OSError as error:
            log.warning("nobody can be told what came of reading the settings again: %s", error)


def _at_hangup(asked: asyncio.Event) -> Callable[[], None]:
    """What SIGHUP does: it asks for the settings to be read again.

    The kernel sends it too when a terminal is closed. A worker in the foreground of one ends then, as it would without
    a handler; one in the background, or under nohup, goes on.
    """
    in_front = _foreground() == os.getpgrp() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL

    def heard() -> None:
        if in_front and _foreground() is None:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            asked.set()

    return heard


def _foreground() -> int | None:
    """The process group in the foreground of this process's terminal; None without a terminal."""
    try:
        with TERMINAL.open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno())
    except OSError:
        return None


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
