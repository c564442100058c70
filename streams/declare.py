"""All topics are declared before any service starts, and a topic that exists and differs is said, never changed."""

import asyncio
from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)

from callstream.streams.chain import Chains
from callstream.streams.foreseen import Foreseen
from callstream.streams.topics import (
    ALARMS,
    CONTROL,
    DEAD,
    FINISHED,
    INFER,
    INTAKE,
    JOIN,
    JOINS,
    NOTIFIED,
    NOTIFY,
    OWN_TABLES,
    PARKED,
    PAUSED,
    POOLS,
    RECEIPTS,
    REDRIVES,
    REVIEW,
    SCHEDULES,
    SPENDING,
    TIMER,
    VERDICTS,
    TopicPlan,
    changelog_of,
    group_of,
    lanes_of,
    topic_of,
)
from callstream.streams.wire import MAX_RECORD_BYTES

TIMEOUT_SECONDS = 30.0
POOLS_SECONDS = 600.0
"""How long what replicas tell of their pools is kept: they tell it every second."""
COORDINATOR_POLL_SECONDS = 0.1
MAX_DEAD_RECORD_BYTES = 2 * MAX_RECORD_BYTES


class TopicsDiffer(Foreseen):
    """A topic on the broker is not as the settings want it; the message names each difference and the ways out."""


class BrokerUnreachable(Foreseen):
    """No broker answers at that address."""


def plan(
    chains: Chains, partitions: int, replicas: int, retention_seconds: float, others: Iterable[str] = ()
) -> list[TopicPlan]:
    """Every topic that these chains need: one for each service, callstream's own, each table's changelog, and those of
    others that routes, steps and settings (`others`) name.

    Faust would declare the changelogs too, but late: its assignor leaves out a topic that is not there yet.
    """
    services = [lane for service in chains.services() for lane in lanes_of(service)]
    own = TIMER, REVIEW, VERDICTS, FINISHED, NOTIFY, NOTIFIED, SCHEDULES, PAUSED, REDRIVES
    names = dict.fromkeys((INTAKE, *services, *own))
    plans = [TopicPlan(topic_of(name), partitions, replicas, retention_seconds) for name in names]
    plans.append(TopicPlan(topic_of(POOLS), partitions, replicas, POOLS_SECONDS))
    plans.append(TopicPlan(topic_of(CONTROL), partitions, replicas, retention_seconds, compacted=True))
    plans.append(TopicPlan(topic_of(ALARMS), partitions, replicas, retention_seconds, compacted=True))
    plans.append(TopicPlan(topic_of(DEAD), partitions, replicas, retention_seconds, False, MAX_DEAD_RECORD_BYTES))
    foreign = dict.fromkeys((*chains.topics(), *others))
    plans += [TopicPlan(name, partitions, replicas, retention_seconds, ours=False) for name in foreign]
    plans += [
        TopicPlan(changelog_of(service, table), partitions, replicas, retention_seconds, True, MAX_DEAD_RECORD_BYTES)
        for service, table in tables_of(chains)
    ]
    return plans


def tables_of(chains: Chains) -> list[tuple[str, str]]:
    """Every table as (service, table): callstream's own, `receipts` of each service with a step that remembers, and
    `spending` and `parked` of the one that calls models, and `joins` where there is a join.
    """
    remembering = dict.fromkeys(step.service for chain in chains for step in chain.steps if step.remembers)
    calling = [(INFER, SPENDING), (INFER, PARKED)] if INFER in remembering else []
    joining = [(JOIN, JOINS)] if JOIN in chains.services() else []
    return [*OWN_TABLES, *calling, *joining, *((service, RECEIPTS) for service in remembering)]


def differences(wanted: TopicPlan, partitions: int, config: dict[str, str]) -> list[str]:
    """What of an existing topic differs from the plan, each in a phrase."""
    if not wanted.ours:
        return []
    found = []
    if partitions != wanted.partitions:
        found.append(f"{partitions} partitions, not {wanted.partitions}")
    for name, value in wanted.config().items():
        if config.get(name, value) != value:
            found.append(f"{name} is {config[name]}, not {value}")
    return found


async def declare(bootstrap: str, plans: Iterable[TopicPlan]) -> None:
    """Create what is missing, compare what is there. Raises TopicsDiffer, BrokerUnreachable."""
    wanted = list(plans)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(TIMEOUT_SECONDS * 1000))
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await admin.start()
            existing = set(await admin.list_topics())
            await _compare(admin, [topic for topic in wanted if topic.name in existing])
            await _create(admin, [topic for topic in wanted if topic.name not in existing])
            await _await_coordinator(admin)
    except (KafkaError, TimeoutError, OSError) as error:
        raise BrokerUnreachable(f"no Kafka broker answers at {bootstrap}: {error!r}") from error
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, missing: list[TopicPlan]) -> None:
    if not missing:
        return
    new = [NewTopic(topic.name, topic.partitions, topic.replicas, topic_configs=topic.config()) for topic in missing]
    answer = await admin.create_topics(new, timeout_ms=int(TIMEOUT_SECONDS * 1000))
    raced = set()
    for name, code, *message in answer.topic_errors:
        if code and for_code(code) is TopicAlreadyExistsError:
            raced.add(name)
        elif code:
            raise TopicsDiffer(f"topic {name} cannot be created: {for_code(code).__name__} {message}")
    await _compare(admin, [topic for topic in missing if topic.name in raced])


async def _await_coordinator(admin: AIOKafkaAdminClient) -> None:
    """A new broker has to make its topic of offsets first; consumers that ask before are told to wait much longer."""
    while True:
        try:
            await admin.list_consumer_group_offsets(group_of(INTAKE))
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
            await asyncio.sleep(COORDINATOR_POLL_SECONDS)
        else:
            return


async def _compare(admin: AIOKafkaAdminClient, wanted: list[TopicPlan]) -> None:
    if not wanted:
        return
    names = [topic.name for topic in wanted]
    described = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(names)}
    configs = await _configs(admin, names)
    faults = []
    for topic in wanted:
        found = differences(topic, described.get(topic.name, topic.partitions), configs.get(topic.name, {}))
        faults += [f"topic {topic.name} has {fault}" for fault in found]
    if faults:
        ways = "change the settings to match, change the topic with Kafka's tools, or use another broker"
        raise TopicsDiffer(f"{'; '.join(faults)}. Nothing was changed: {ways}.")


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for _, _, _, name, entries in answer.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found
