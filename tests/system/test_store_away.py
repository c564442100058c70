"""A database that is really stopped while tasks keep coming: nothing is lost or doubled, and it isn't hammered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import event as sql_events
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery import CatalogueSink, Deliver, DeliveryOptions, make_engine, prepare_database
from callstream.agents.delivery.schema import catalogue, chain_log
from callstream.agents.steps import StepRole
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import Event
from callstream.streams.keys import partition_of
from callstream.streams.topics import topic_of
from callstream.streams.wire import encode
from tests.support.delivering import Tools
from tests.support.kafka import Send, produce
from tests.support.postgres import Postgres, postgres
from tests.support.services import (
    OPTIONS,
    PARTITIONS,
    Acting,
    AnyInput,
    Hosted,
    Workshop,
    declare_for,
    next_of,
    pass_on,
    running,
    step_event,
    unique,
    until,
)

__all__ = ["postgres"]

AT_ONCE, PAUSE_SECONDS = 50, 0.25
LEAD_SECONDS = 2.0
"""For which tasks come before it is stopped, and after it is back."""


@pytest.fixture
async def engine(postgres: Postgres) -> AsyncIterator[AsyncEngine]:
    """An empty catalogue on a server that runs again when the test is over."""
    options = DeliveryOptions(database_url=SecretStr(postgres.create(unique("away"))))
    await prepare_database(options)
    engine = make_engine(options)
    yield engine
    await engine.dispose()
    if not postgres.running:
        await asyncio.to_thread(postgres.start)


async def hosted(bootstrap: str, folder: Path, step: Deliver) -> Hosted:
    """A service that runs that step, and sends on to one that nobody runs."""
    chain = Chain("shop", AnyInput, (step, Acting("second", next_of(step.service), pass_on)))
    chains = Chains([chain])
    await declare_for(bootstrap, chains)
    workshop = Workshop(bootstrap, folder)
    role = StepRole(step.service, chains, stateful=False)
    return workshop.join(workshop.app(step.service, OPTIONS), role, None, chains, (step.service,), chain.name)


async def feed(bootstrap: str, service: str, done: asyncio.Event) -> int:
    """Hand in tasks until `done`; gives how many."""
    numbers = count()
    while not done.is_set():
        events = [step_event("shop", f"t-{next(numbers)}", {}) for _ in range(AT_ONCE)]
        records = [encode(event, topic_of(service)) for event in events]
        sends = [Send(one.value, one.key, one.headers, partition_of(one.key, PARTITIONS)) for one in records]
        await produce(bootstrap, topic_of(service), sends)
        await asyncio.sleep(PAUSE_SECONDS)
    return next(numbers)


def row(event: Event) -> dict[str, Any]:
    return {"key": f"product of {event.task}", "value": {"text": event.task}}


async def texts(engine: AsyncEngine, column: Any) -> Counter[str]:
    async with engine.connect() as connection:
        return Counter((await connection.execute(select(column))).scalars())


@pytest.mark.parametrize(
    "seconds", [6.0, pytest.param(60.0, marks=[pytest.mark.long, pytest.mark.timeout(400)])], ids=["short", "minute"]
)
async def test_a_database_that_is_stopped_under_load(
    kafka_broker: str, postgres: Postgres, engine: AsyncEngine, tmp_path: Path, seconds: float
) -> None:
    # given a service that writes what comes, and tasks that come without a pause
    connections: Counter[str] = Counter()
    sql_events.listen(engine.sync_engine, "do_connect", lambda *_: connections.update(["tried"]))
    tools, service = Tools(engine), unique("shelf")
    step = Deliver("first", sink=CatalogueSink(engine), row=row, service=service)
    await step.open(tools)
    [lane] = tools.sinks.lanes
    one, done = await hosted(kafka_broker, tmp_path, step), asyncio.Event()
    one.app.resting = lambda: tools.sinks.resting
    async with running(one):
        feeding = asyncio.create_task(feed(kafka_broker, service, done))
        await until(lambda: one.actor.finished > AT_ONCE, "tasks are written")
        await asyncio.sleep(LEAD_SECONDS)
        # when the database is stopped
        await asyncio.to_thread(postgres.stop)
        tries, tried = lane.tries, connections["tried"]
        await asyncio.sleep(seconds)
        tries, tried = lane.tries - tries, connections["tried"] - tried
        in_hand = one.actor.taken - one.actor.finished
        await asyncio.to_thread(postgres.start)
        await asyncio.sleep(LEAD_SECONDS)
        done.set()
        tasks = await feeding
        # then all is written once it is back
        await until(lambda: one.actor.finished == tasks, "all is written", 60 + seconds)
        passed = Counter(record.key for record in await one.passed())
    await tools.sinks.close()
    print(f"{tasks:,} tasks; away for {seconds:g} s: asked {tries} times, {tried} connections tried, {in_hand} in hand")
    names = {f"t-{number}" for number in range(tasks)}
    assert await texts(engine, catalogue.c.task) == Counter(names)
    assert set(await texts(engine, chain_log.c.task)) == names
    # and each task went on, once
    assert (len(passed), set(passed.values())) == (tasks, {1})
    # and the database was asked now and then only, while no more was taken than is worked on at once
    assert 1 <= tries <= 4 + seconds / 8
    assert tried <= 2 * tries
    assert in_hand <= OPTIONS.concurrency
