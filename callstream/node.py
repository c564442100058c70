"""Builds the services of one process and joins them: the composition root, which alone knows all parts."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import cast

from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.actor import Actor
from callstream.agents.aside import Aside
from callstream.agents.delivery import make_engine, prepare_database
from callstream.agents.hosting import AppPorts, host, parked
from callstream.agents.inference.admission.report import TELL_SECONDS
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.agents.intake import Intake
from callstream.agents.joining.desk import JoinDesk
from callstream.agents.joining.due import DueLook
from callstream.agents.joining.rows import JoinRows
from callstream.agents.joining.rows import expired as expired_join
from callstream.agents.lot import Lot
from callstream.agents.notification import Notifier
from callstream.agents.ports import Role
from callstream.agents.recorder import Recorder
from callstream.agents.review import ReviewDesk
from callstream.agents.roles import ActRole
from callstream.agents.spending import TableSpending
from callstream.agents.steps import StepRole
from callstream.agents.tools import Tools
from callstream.agents.workers import Workers
from callstream.settings import Settings
from callstream.streams import strict_json, topics
from callstream.streams.blobs import BlobError, BlobStore, check_in
from callstream.streams.broadcast import listen
from callstream.streams.chain import Cell, Chains
from callstream.streams.engine import Layout, ServiceApp
from callstream.streams.event import Json
from callstream.streams.keys import partition_of
from callstream.streams.ownership import Claim
from callstream.streams.topics import lanes_of, topic_of
from callstream.streams.tracing import Tracing
from callstream.streams.wire import LogUnavailable, Record
from callstream.tables.durable import DurableTable, Readable, TableCell, store_options
from callstream.tables.journal import Journal
from callstream.tables.profiles import Profiles
from callstream.tables.sweep import Expired, Sweeper, ended_before, older_than, window_over
from callstream.web.app import build_web
from callstream.web.live import LivePort
from callstream.web.serve import WebServer

log = logging.getLogger("callstream.node")

GATEWAY, INTAKE, REVIEW, NOTIFY, PREPARE = "gateway", "intake", "review", "notify", "prepare"
MAX_CHANGE_BYTES = 9 * 1024 * 1024
HOUR = 3_600.0
LOOK_SECONDS = 0.25
WIDE_FACTOR = 16
"""The gateway folds what every other service sends, many events in one write, and infer lets calls wait from which the
next one is chosen: these take so many times more at once."""


class UnknownService(ValueError):
    """No such service; the message says which there are."""


def services_of(chains: Chains) -> tuple[str, ...]:
    """Every service that these chains need, in the order of a task's way."""
    return tuple(dict.fromkeys((GATEWAY, INTAKE, *chains.services(), REVIEW, NOTIFY)))


def check_services(chains: Chains, names: Sequence[str]) -> tuple[str, ...]:
    """Every service of these chains, those that were named among them. Raises UnknownService."""
    known = services_of(chains)
    if unknown := [name for name in names if name not in known]:
        raise UnknownService(f"no service is called {unknown[0]!r}; there are: {', '.join(known)}")
    return known


class Node:
    """The services that run in this process, as Faust apps: `main` starts and stops the others with itself."""

    def __init__(self, settings: Settings, chains: Chains, bootstrap: str, services: Sequence[str] = ()) -> None:
        known = check_services(chains, services)
        self.settings = settings
        self.chains = chains
        self.bootstrap = bootstrap
        self.tracing = Tracing(settings.tracing)
        self.blobs = BlobStore(settings.blobs)
        self.actors: dict[str, Actor] = {}
        self._tables: dict[str, tuple[Readable, str]] = {}
        self._layout = Layout(
            bootstrap=bootstrap,
            folder=settings.data_folder / "tables",
            partitions=settings.partitions,
            replicas=settings.replicas,
        )
        self._model: ModelStack = build_model(settings.inference, self.tracing.named("model").span, REGISTRY)
        self._database: AsyncEngine = make_engine(settings.delivery)
        self._workers = Workers(settings.worker_processes)
        self.apps = {name: self._build(name) for name in known if not services or name in services}
        self.main, *others = self.apps.values()
        self._others = others
        for app in others:
            app.outlet = self.main
        self.main.opening.insert(0, self._open_outlet)
        self.main.background.append(self._run_others)
        self.main.draining.append(self._stop_others)
        self.main.closing.append(self._close)

    def _build(self, service: str) -> ServiceApp:
        options = self.settings.engine
        if service in (GATEWAY, topics.INFER):
            options = options.model_copy(
                update={
                    "concurrency": options.concurrency * WIDE_FACTOR,
                    "max_unfinished": options.max_unfinished * WIDE_FACTOR,
                }
            )
        app = ServiceApp(service, options, self._layout, Table=DurableTable, canonical_url=self._url())
        match service:
            case "gateway":
                self._build_gateway(app)
            case "intake":
                seen = self._table(app, topics.SEEN, older_than("at", self.settings.seen_hours * HOUR))
                self._host(app, Intake(self.chains, time.time), seen, topics.INTAKE)
            case "review":
                reviews = self._table(app, topics.REVIEWS, older_than("decided", self.settings.finished_hours * HOUR))
                role = ActRole(service, ReviewDesk().act, stateful=True)
                self._host(app, role, reviews, topics.REVIEW, topics.VERDICTS)
            case topics.JOIN:
                self._build_join(app)
            case "notify":
                notifier = Notifier(self.settings.notify)
                app.opening.append(notifier.open)
                app.closing.append(notifier.close)
                self._host(
                    app, ActRole(service, notifier.act, stateful=False, policy=notifier.policy), None, topics.FINISHED
                )
            case _:
                self._build_steps(app, service)
        return app

    def _build_steps(self, app: ServiceApp, service: str) -> None:
        remembers = any(step.remembers for step in self.chains.steps_of(service))
        table = (
            self._table(app, topics.RECEIPTS, older_than("at", self.settings.retention_hours * HOUR))
            if remembers
            else None
        )
        if service == topics.INFER and table is not None:
            spending = self._table(app, topics.SPENDING, older_than("at", self.settings.retention_hours * HOUR))
            self._model.share(TableSpending(spending), app.partitions)
        role = StepRole(service, self.chains, remembers)
        profiles = Profiles(app, store_options()) if service == PREPARE else None
        if profiles is not None:
            self._tables[topics.PROFILES] = (profiles, service)
        tools = Tools(
            model=self._model,
            blobs=self.blobs,
            database=self._database,
            workers=self._workers,
            profile=profiles.get if profiles is not None else _no_profile,
        )

        async def opening() -> None:
            if service == "deliver":
                await prepare_database(self.settings.delivery)
            await role.open(tools)

        app.opening.append(opening)
        app.closing.append(role.close)
        lanes = lanes_of(service)
        self._host(app, role, table, *lanes)
        # A backlog of one lane leaves room for the others.
        actor = self.actors[service]
        actor.most_of_a_topic = -(-app.options.concurrency // len(lanes))
        if service == topics.INFER and table is not None:
            lot = Lot(self._table(app, topics.PARKED, None), role.queue_of)
            actor.aside = Aside(lot, actor.most_of_a_topic, actor.has_place, parked)
            app.background.append(actor.keep_lot)
            app.background.append(partial(self._tell_pools, app))
            finished = app.progress
            app.progress = lambda: finished() + self._model.gates.looks

    def _build_join(self, app: ServiceApp) -> None:
        joins = self._table(app, topics.JOINS, expired_join)
        desk = JoinDesk(self.chains, join_rows, time.time)
        self._host(app, desk, joins, topics.JOIN)

        async def send(record: Record, claim: Claim) -> None:
            await app.produce(await check_in(record, self.blobs), claim)

        app.background.append(DueLook(joins, send, time.time).run)

    def reconfigured(self, options: InferenceOptions) -> None:
        """Other pools of models, limits and weights from now on."""
        self._model.reconfigured(options)

    def _build_gateway(self, app: ServiceApp) -> None:
        rows = self._table(app, topics.TASKS, ended_before(self.settings.finished_hours * HOUR))
        latencies = self._table(app, topics.LATENCY, window_over)
        port = LivePort(app, rows, latencies, self.blobs, self.tracing)
        journal = Journal(rows, latencies, self.chains, time.time, port.changed)
        port.journal, port.shown = journal, self._tables
        port.queue_of = StepRole(topics.INFER, self.chains, stateful=False).queue_of
        app.revoked.append(journal.forget)
        services = [lane for service in self.chains.services() for lane in lanes_of(service)]
        read = (topics.INTAKE, *services, topics.REVIEW, topics.FINISHED, topics.NOTIFIED)
        self._host(app, Recorder(journal), rows, *read)
        # Nobody else reads the remarks about ended tasks.
        self.actors[GATEWAY].observed = frozenset(map(topic_of, read)) - {topic_of(topics.NOTIFIED)}
        server = WebServer(build_web(port, self.settings.web, self.chains, REGISTRY), self.settings.web)
        app.opening.append(server.start)
        app.closing.append(server.stop)
        app.background.append(self._sweep_blobs)
        app.background.append(partial(listen, self.bootstrap, topic_of(topics.POOLS), app.partitions, port.hear))

    def _table(self, app: ServiceApp, name: str, expired: Expired | None) -> DurableTable:
        table = app.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=app.partitions,
            options=store_options(),
            extra_topic_configs={"max.message.bytes": MAX_CHANGE_BYTES},
        )
        durable = cast(DurableTable, table)
        # Each service that remembers has a table of receipts.
        shown = name if name not in self._tables else f"{app.service_name}-{name}"
        self._tables[shown] = (durable, app.service_name)
        if expired is not None:
            app.background.append(Sweeper(durable, expired, time.time).run)
        return durable

    def _host(self, app: ServiceApp, role: Role, table: DurableTable | None, *names: str) -> None:
        ports = AppPorts(app, table, self.blobs, self.tracing.named(role.service))
        self.actors[role.service] = host(app, role, ports, self.chains, [topic_of(name) for name in names])

    def _url(self) -> str:
        web = self.settings.web
        return web.public_url or f"http://{web.host}:{web.port}"

    async def _open_outlet(self) -> None:
        """Start what all services send with, before the first of them has anything to send."""
        await self.main.producer.maybe_start()

    async def _run_others(self) -> None:
        """Start the other services side by side with the main one, and end it when one of them ends."""
        for app in self._others:
            app.finalize()
        starting = [asyncio.create_task(app.maybe_start()) for app in self._others]
        while True:
            for app, start in zip(self._others, starting, strict=True):
                failed = app.failure or app.crash_reason or (start.exception() if start.done() else None)
                if failed is not None:
                    self.main.fail(failed)
                    return
            await asyncio.sleep(LOOK_SECONDS)

    async def _stop_others(self, _seconds: float) -> None:
        await asyncio.gather(*(app.stop() for app in self._others), return_exceptions=True)

    async def _tell_pools(self, app: ServiceApp) -> None:
        """Tell every gateway what this replica has and why calls wait here; a broker that is away hears nothing."""
        name = f"{socket.gethostname()}:{os.getpid()}".encode()
        partition = partition_of(name, app.partitions)
        while True:
            await asyncio.sleep(TELL_SECONDS)
            self._model.gates.pump()
            with suppress(LogUnavailable):
                report = self._model.gates.report()
                aside = self.actors[app.service_name].aside
                for pool in report["pools"]:
                    pool["aside"] = aside.report(pool["pool"]) if aside is not None else []
                sent = await app.enqueue(topic_of(topics.POOLS), partition, name, strict_json.pack(report))
                await app.delivered(sent, "the report of this replica's pools")

    async def _sweep_blobs(self) -> None:
        """Delete the blobs that no event can need any more, once an hour."""
        while True:
            try:
                deleted = await self.blobs.sweep(datetime.now(UTC))
            except BlobError as error:
                log.warning("old blobs are not deleted: %s", error)
            else:
                log.info("old blobs deleted: %d", deleted)
            await asyncio.sleep(HOUR)

    async def _close(self) -> None:
        await self._model.close()
        await self._database.dispose()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self.tracing.close()


def join_rows(cell: Cell) -> JoinRows:
    """The rows of a task's join, under the claim of its cell."""
    if not isinstance(cell, TableCell):
        raise TypeError("a join needs a table")
    return JoinRows(cell.table, cell.claim, cell.key)


def _no_profile(_tenant: str, _user: str) -> Json | None:
    return None
