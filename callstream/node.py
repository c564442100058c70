"""Builds the services of one process and joins them: the composition root, which alone knows all parts."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.actor import Actor
from callstream.agents.alarms.incident import as_event as alarm_event
from callstream.agents.alarms.refusals import Refusals
from callstream.agents.aside import Aside
from callstream.agents.control.holding import Holds, cancelled_timers
from callstream.agents.control.pausing import MOST_PAUSED, PausedAside, PausedRole
from callstream.agents.control.room import ControlRoom
from callstream.agents.control.stopping import Stops
from callstream.agents.delivery import Deliver, Sinks, make_engine, prepare_database
from callstream.agents.hosting import AppPorts, claim_of, host, parked, sender
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.agents.inference.switch import rules_by_pool
from callstream.agents.intake import Intake
from callstream.agents.joining.desk import JoinDesk
from callstream.agents.joining.due import DueLook
from callstream.agents.joining.rows import expired as expired_join
from callstream.agents.joining.rows import rows_of
from callstream.agents.letters.desk import LetterDesk
from callstream.agents.letters.jobs import JobDesk, JobRunner
from callstream.agents.letters.rehearsal import Rehearsal, no_model
from callstream.agents.lot import Lot
from callstream.agents.masking import Mask
from callstream.agents.notification import Notifier
from callstream.agents.ports import Role
from callstream.agents.recorder import Recorder
from callstream.agents.retry_collector import RetryCollector
from callstream.agents.review import ReviewDesk
from callstream.agents.roles import ActRole
from callstream.agents.schedules.scheduler import Scheduler
from callstream.agents.spending import TableSpending
from callstream.agents.steps import StepRole
from callstream.agents.timer import Releaser, TimerRole
from callstream.agents.timer_app import Outlet, TimerPorts, host_timer
from callstream.agents.tools import Tools, no_profile
from callstream.agents.workers import Workers
from callstream.alarming import Alarms
from callstream.known_secrets import known_secrets, model_secrets
from callstream.services import GATEWAY, check_services
from callstream.settings import Settings
from callstream.streams import topics
from callstream.streams.blobs import BlobStore
from callstream.streams.broadcast import hear_all, listen
from callstream.streams.chain import Chains
from callstream.streams.clock import Clock
from callstream.streams.declare import plan
from callstream.streams.engine import Layout, ServiceApp
from callstream.streams.event import Event, Json
from callstream.streams.ownership import Claim
from callstream.streams.topics import NOTIFY, SCHEDULE, TIMER, changelog_of, is_changelog, lanes_of, topic_of
from callstream.streams.tracing import Tracing
from callstream.streams.wire import encode
from callstream.tables.durable import DurableTable, Readable, store_options
from callstream.tables.journal import Journal
from callstream.tables.profiles import Profiles
from callstream.tables.recovery import Tables
from callstream.tables.sweep import (
    Expired,
    Sweeper,
    ended_before,
    letter_over,
    older_than,
    seen_before,
    usage_before,
    window_over,
)
from callstream.tables.timers import Timers
from callstream.tables.usage_book import UsageBook
from callstream.upkeep import (
    HOUR,
    run_others,
    sweep_blobs,
    sweep_commands,
    sweep_logs,
    sweep_pauses,
    tell_pools,
    tell_refusals,
    tell_sinks,
)
from callstream.web.app import build_web
from callstream.web.letters import LetterBox
from callstream.web.live import LivePort
from callstream.web.replays import Recorded
from callstream.web.serve import WebServer

INTAKE, REVIEW, PREPARE = "intake", "review", "prepare"
MAX_CHANGE_BYTES = 9 * 1024 * 1024
WIDE_FACTOR = 16
"""The gateway folds what every other service sends, many events in one write, and infer lets calls wait from which the
next one is chosen: these take so many times more at once."""


class Node:
    """The services that run in this process, as Faust apps: `main` starts and stops the others with itself."""

    def __init__(self, settings: Settings, chains: Chains, bootstrap: str, services: Sequence[str] = ()) -> None:
        known = check_services(chains, services)
        self.settings = settings
        self.chains = chains
        self.bootstrap = bootstrap
        self.tracing = Tracing(settings.tracing)
        self.blobs = BlobStore(settings.blobs)
        self.clock = Clock()
        self._alarms = Alarms(settings, chains, bootstrap, self.clock)
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
        self._sinks = Sinks(settings.sinks, REGISTRY)
        self._workers = Workers(settings.worker_processes)
        self.room = ControlRoom()
        self._model.gates.paused = lambda pool: self.room.controls.paused(None, pool=pool) is not None
        self._rules_set = 0
        self.room.on_change += [self._switch, self._model.gates.pump]
        self._mask = Mask(known_secrets(settings))
        REGISTRY.register(RetryCollector(self.actors))
        self._profile: Callable[[str, str], Json | None] = no_profile
        self.apps = {name: self._build(name) for name in known if not services or name in services}
        self.main, *others = self.apps.values()
        self._others = others
        for app in others:
            app.outlet = self.main
        self.main.opening[:0] = [self._open_room, self._open_outlet]
        self.main.background.append(partial(run_others, self.main, others))
        self.main.background.append(partial(tell_refusals, self.main, Refusals(self.actors, self._model.refused)))
        self.main.draining.append(self._stop_others)
        self.main.closing.append(self._close)

    def _build(self, service: str) -> ServiceApp:
        options = self.settings.engine
        if service in (GATEWAY, topics.INFER):
            wide = {name: getattr(options, name) * WIDE_FACTOR for name in ("concurrency", "max_unfinished")}
            options = options.model_copy(update=wide)
        kinds = {"Table": DurableTable, "TableManager": Tables}
        app = ServiceApp(service, options, self._layout, canonical_url=self._url(), **kinds)
        app.opening.append(self.room.caught_up)
        match service:
            case "gateway":
                self._build_gateway(app)
            case "intake":
                seen = self._table(app, topics.SEEN, seen_before(self.settings.seen_hours * HOUR))
                ports = self._host(app, Intake(self.chains, self.clock), seen, topics.INTAKE)
                self._obeys(app, Stops(service, self.room.controls, ports, self.chains))
            case "review":
                reviews = self._table(app, topics.REVIEWS, older_than("decided", self.settings.finished_hours * HOUR))
                self._build_review(app, reviews)
            case "schedule":
                self._build_schedule(app)
            case topics.JOIN:
                self._build_join(app)
            case "notify":
                self._build_notify(app)
            case "timer":
                self._build_timer(app)
            case topics.PAUSED:
                self._build_paused(app)
            case _:
                self._build_steps(app, service)
        return app

    def _build_notify(self, app: ServiceApp) -> None:
        notifier = Notifier(self.settings.notify)
        app.opening.append(notifier.open)
        app.closing.append(notifier.close)
        # Whoever reads the ends of tasks is not told of one again because its caller is.
        policy = replace(
            notifier.policy, held_pause_seconds=app.options.held_pause_seconds, comes_back_to=topic_of(NOTIFY)
        )
        role = ActRole(NOTIFY, notifier.act, stateful=False, policy=policy)
        ports = self._host(app, role, None, topics.FINISHED, NOTIFY)
        self._obeys(app, Stops(NOTIFY, self.room.controls, ports, self.chains, ends=False))
        self._host_webhooks(app, notifier)

    def _build_timer(self, app: ServiceApp) -> None:
        table = self._table(app, topics.TIMERS, None)
        timers = Timers(table)
        settings = self.settings
        plans = plan(self.chains, settings.partitions, settings.replicas, settings.retention_hours * HOUR)
        destinations = frozenset(one.name for one in plans if one.ours and not is_changelog(one.name)) - {
            topic_of(TIMER)
        }
        ports = TimerPorts(app, table, self.blobs, self.tracing.named(TIMER), self.clock)
        role = TimerRole(timers, destinations, self.blobs, self.clock)
        releaser = Releaser(timers, Outlet(app, self.blobs).send, self.clock, app.fail)
        self.actors[TIMER] = actor = host_timer(app, role, ports, self.chains, releaser)
        releaser.resting = lambda: actor.resting
        stops = Stops(TIMER, self.room.controls, ports, self.chains, ends=False)
        stops.waiting, stops.partitions = partial(cancelled_timers, releaser), table.open_partitions
        self._obeys(app, stops)

    def _build_review(self, app: ServiceApp, reviews: DurableTable) -> None:
        controls = self.room.controls
        desk = ReviewDesk(controls.cancelled, self.chains)
        app.opening.append(partial(desk.open, self._tools(no_profile)))
        app.closing.append(desk.close)
        role = ActRole(app.service_name, desk.review, stateful=True)
        ports = self._host(app, role, reviews, topics.REVIEW, topics.VERDICTS)
        stops = Stops(app.service_name, controls, ports, self.chains, ends=False)
        stops.waiting, stops.partitions = Holds(reviews, sender(app, self.blobs)).cancelled, reviews.open_partitions
        self._obeys(app, stops)

    def _build_paused(self, app: ServiceApp) -> None:
        controls, table = self.room.controls, self._table(app, topics.PAUSED, None)
        lot = Lot(table, lambda _chain, _version, _sequence: None, MOST_PAUSED)
        role = PausedRole(controls, lambda: any(map(lot.full, lot.partitions())))
        ports = self._host(app, role, None, topics.PAUSED)
        actor = self.actors[topics.PAUSED]
        actor.aside = aside = PausedAside(lot, actor.has_place, parked, controls)
        app.background.append(actor.keep_lot)
        stops = Stops(app.service_name, controls, ports, self.chains)
        stops.waiting, stops.partitions = aside.cancelled, lot.partitions
        # What does not fit into the table any more waits, however long it has to.
        self._obeys(app, stops, lambda: bool(controls.pauses_in_force()))

    def _obeys(self, app: ServiceApp, stops: Stops, rests: Callable[[], bool] = lambda: False) -> None:
        """Have a service's actor hear of commands; it may do nothing while its service is paused, or it `rests`."""
        actor = self.actors[stops.service]
        actor.stops = stops
        app.resting = lambda: actor.resting or rests()
        app.background.append(actor.keep_stopped)
        self.room.on_change.append(actor.commanded)

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
        role = StepRole(service, self.chains, remembers, app.options.held_pause_seconds)
        profiles = Profiles(app, store_options()) if service == PREPARE else None
        if profiles is not None:
            self._tables[topics.PROFILES] = (profiles, service)
            self._profile = profiles.get
        tools = self._tools(profiles.get if profiles is not None else no_profile)

        async def opening() -> None:
            if service == "deliver":
                await prepare_database(self.settings.delivery)
            await role.open(tools)

        app.opening.append(opening)
        app.closing.append(role.close)
        lanes = lanes_of(service)
        ports = self._host(app, role, table, *lanes)
        stops = Stops(service, self.room.controls, ports, self.chains, role, self._model)
        delivers = any(isinstance(step, Deliver) for step in self.chains.steps_of(service))
        self._obeys(app, stops, lambda: self._model.gates.resting or (delivers and self._sinks.resting))
        if delivers:
            app.background.append(partial(tell_sinks, app, self._sinks))
        if service == "deliver" and (days := self.settings.delivery.log_days) is not None:
            app.background.append(partial(sweep_logs, self._database, days, self.clock))
        # A backlog of one lane leaves room for the others.
        actor = self.actors[service]
        actor.most_of_a_topic = -(-app.options.concurrency // len(lanes))
        if service == topics.INFER and table is not None:
            lot = Lot(self._table(app, topics.PARKED, None), role.queue_of)
            actor.aside = aside = Aside(lot, actor.most_of_a_topic, actor.has_place, parked)
            stops.waiting, stops.partitions = aside.cancelled, lot.partitions
            app.background.append(actor.keep_lot)
            app.background.append(partial(tell_pools, app, self._model.gates, aside.report))
            finished = app.progress
            app.progress = lambda: finished() + self._model.gates.looks

    def _tools(self, profile: Callable[[str, str], Json | None]) -> Tools:
        return Tools(self._model, self.blobs, self._database, self._workers, profile, self._sinks)

    def _build_join(self, app: ServiceApp) -> None:
        joins = self._table(app, topics.JOINS, expired_join)
        controls = self.room.controls
        desk = JoinDesk(self.chains, rows_of, self.clock, controls.cancelled)
        ports = self._host(app, desk, joins, topics.JOIN)
        look = DueLook(joins, sender(app, self.blobs), self.clock, controls.cancelled)
        stops = Stops(topics.JOIN, controls, ports, self.chains, ends=False)
        stops.waiting, stops.partitions = lambda _wanted: look.cancelled(), joins.open_partitions
        self._obeys(app, stops)
        app.background.append(look.run)

    def _build_schedule(self, app: ServiceApp) -> None:
        async def submit(event: Event, claim: Claim) -> None:
            await app.produce(encode(event, topic_of(INTAKE)), claim)

        rows = self._table(app, topics.SCHEDULES, None)
        scheduler = Scheduler(rows, submit, self.chains, self.clock)
        app.revoked.append(scheduler.forget)
        app.background.append(scheduler.run)
        role = ActRole(SCHEDULE, scheduler.act, stateful=False, policy=scheduler.policy)
        self._host(app, role, rows, topics.SCHEDULES)

    def reconfigured(self, options: InferenceOptions) -> None:
        """Other pools of models, limits and weights from now on."""
        self._mask.learn(model_secrets(options))
        self._model.reconfigured(options)

    def _switch(self) -> None:
        """Have the rules of pools obeyed as they are by now."""
        controls = self.room.controls
        if controls.rules_set != self._rules_set:
            self._rules_set = controls.rules_set
            self._model.switch(
                rules_by_pool([(one.pool, one.name, one.rule) for one in controls.pool_rules() if one.rule is not None])
            )

    def _build_gateway(self, app: ServiceApp) -> None:
        rows = self._table(app, topics.TASKS, ended_before(self.settings.finished_hours * HOUR))
        latencies = self._table(app, topics.LATENCY, window_over)
        port = LivePort(app, rows, latencies, self.blobs, self.tracing)
        usage = self._table(app, topics.USAGE, usage_before(self.settings.usage_days))
        port.usage_rows = usage
        book = UsageBook(usage, time.time)
        journal = Journal(rows, latencies, self.chains, time.time, port.changed, book)
        port.journal, port.shown, port.room = journal, self._tables, self.room
        port.pools_set = lambda: {name: gate.models for name, gate in self._model.gates.items()}
        port.recorded = Recorded(self.bootstrap, self.blobs, self.chains)
        port.queue_of = StepRole(topics.INFER, self.chains, stateful=False).queue_of
        app.revoked += [journal.forget, port.waiting_for_people.forget]
        services = [lane for service in self.chains.services() for lane in lanes_of(service)]
        read = (topics.INTAKE, *services, TIMER, topics.REVIEW, topics.FINISHED, topics.NOTIFIED)
        self._host(app, Recorder(journal), rows, *read)
        # Nobody else reads the remarks about ended tasks.
        self.actors[GATEWAY].handling.observed = frozenset(map(topic_of, read)) - {topic_of(topics.NOTIFIED)}
        self._host_letters(app, port, journal)
        port.alarms = self._alarms.judge(app, rows)
        server = WebServer(build_web(port, self.settings.web, self.chains, REGISTRY, self.clock), self.settings.web)
        app.opening.append(server.start)
        app.closing.append(server.stop)
        app.background.append(partial(sweep_blobs, self.blobs))
        app.background.append(partial(sweep_commands, app, self.room.controls, self.settings.retention_hours * HOUR))
        app.background.append(partial(sweep_pauses, app, self.room.controls, journal.row))
        app.background.append(partial(listen, self.bootstrap, topic_of(topics.POOLS), app.partitions, port.hear))
        changes = changelog_of(SCHEDULE, topics.SCHEDULES)
        told = port.schedules.hear, port.schedules.caught_up
        app.background.append(partial(hear_all, self.bootstrap, changes, app.partitions, *told))

    def _host_letters(self, app: ServiceApp, port: LivePort, journal: Journal) -> None:
        """The desk for dead letters beside the recorder, on the same app: so that its rows are where the task's are."""
        options, jobs = self.settings.letters, JobDesk()
        table = self._table(app, topics.LETTERS, letter_over(options.kept_hours * HOUR))
        desk = LetterDesk(self.chains, journal.row, jobs, self.clock)
        self._host(app, desk, table, topics.DEAD, topics.REDRIVES)
        actor = self.actors[desk.service]
        # What stands there unreadable was buried already, and would be buried again for ever.
        actor.handling.observed = frozenset([topic_of(topics.DEAD)])
        actor.handling.unreadable = lambda delivery: desk.unreadable(delivery, table, claim_of(delivery))

        async def send(event: Event, claim: Claim | None = None) -> None:
            await app.produce(encode(event, topic_of(topics.REDRIVES)), claim)

        app.background.append(JobRunner(table, app.partitions, jobs, send, self.chains).run)
        tools = replace(self._tools(lambda *who: self._profile(*who)), model=no_model)
        rehearsal = Rehearsal(self.chains, tools)
        port.letters = LetterBox(
            table,
            app.partitions,
            port.sends(topics.REDRIVES),
            journal.row,
            rehearsal,
            rate=options.redrives_per_second,
        )

    def _host_webhooks(self, app: ServiceApp, notifier: Notifier) -> None:
        """Who tells others of alarms, beside who tells callers of their tasks."""
        role = self._alarms.webhooks(notifier)
        self._host(app, role, None, topics.ALARMS)
        self.actors[role.service].handling.decode = alarm_event

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

    def _host(self, app: ServiceApp, role: Role, table: DurableTable | None, *names: str) -> AppPorts:
        ports = AppPorts(app, table, self.blobs, self.tracing.named(role.service), self.clock)
        actor = host(app, role, ports, self.chains, [topic_of(name) for name in names])
        actor.trying.mask = self._mask
        self.actors[role.service] = actor
        return ports

    def _url(self) -> str:
        web = self.settings.web
        return web.public_url or f"http://{web.host}:{web.port}"

    async def _open_room(self) -> None:
        topic = topic_of(topics.CONTROL)
        await self.room.open(partial(hear_all, self.bootstrap, topic, self.settings.partitions), self.main.fail)

    async def _open_outlet(self) -> None:
        """Start what all services send with, before the first of them has anything to send."""
        await self.main.producer.maybe_start()

    async def _stop_others(self, _seconds: float) -> None:
        await asyncio.gather(*(app.stop() for app in self._others), return_exceptions=True)

    async def _close(self) -> None:
        await self.room.close()
        await self._model.close()
        await self._sinks.close()
        await self._database.dispose()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self.tracing.close()
