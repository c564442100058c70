"""The points of the code at which a worker is killed: where each is, under which load it is come to, and how often.

A *before* kills as a function is called, an *after* when it has returned, a *during* a moment after it has begun, when
it waits for others. `unlogged` points lie within the write of a row: this disk has it, and the log does not.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from callstream.streams.event import TASK_UNDO
from callstream.streams.topics import is_ours, topic_of

Arguments = Mapping[str, Any]
Of = Callable[[Arguments], bool]


class Moment(StrEnum):
    """When, about a call of a function."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"


def any_call(_: Arguments) -> bool:
    """Whatever the arguments are."""
    return True


@dataclass(frozen=True, slots=True)
class Point:
    """One point. `target` is `module:Class.method`; only calls whose arguments are as in `of` count as hits.

    `load` names the load under which it is come to, `most` how often it surely is; at which of these times the worker
    dies is drawn from a seed. `short`: it is among the few that are tried with every other test.
    """

    name: str
    target: str
    moment: Moment
    load: str
    most: int = 1
    of: Of = any_call
    short: bool = False

    def hit(self, seed: int) -> int:
        """At which hit the worker dies."""
        return random.Random(f"{seed}/{self.name}").randint(1, self.most)


PRODUCE = "callstream.streams.engine:ServiceApp.produce"
DELIVERED = "callstream.streams.engine:ServiceApp.delivered"
WRITE = "callstream.tables.durable:DurableTable.write"


def around(name: str, target: str, load: str, most: int = 1, of: Of = any_call, short: bool = False) -> list[Point]:
    """Before and after the calls of a function."""
    return [
        Point(f"{name}-{moment}", target, moment, load, most, of, short) for moment in (Moment.BEFORE, Moment.AFTER)
    ]


def sent(service: str, topic: str, of: Of = any_call) -> Of:
    """A record of a service for a topic, by its short name."""

    def fits(arguments: Arguments) -> bool:
        app, record = arguments["self"], arguments["record"]
        return bool(app.service_name == service and record.topic == topic_of(topic) and of(arguments))

    return fits


def produce(service: str, topic: str, load: str, most: int = 1, of: Of = any_call, what: str = "") -> list[Point]:
    """Before and after the sending of a record: not sent, and on the log with its cause not yet acknowledged."""
    return around(f"send-{what or f'{service}-{topic}'}", PRODUCE, load, most, sent(service, topic, of))


def written(service: str, table: str, of: Of) -> Of:
    """A change of a service's table."""

    def fits(arguments: Arguments) -> bool:
        one = arguments["self"]
        return bool(one.app.service_name == service and one.name == table and of(arguments))

    return fits


def write(service: str, table: str, load: str, most: int = 1, of: Of = any_call, what: str = "") -> list[Point]:
    """Before and after a change of a table."""
    return around(f"table-{what or table}", WRITE, load, most, written(service, table, of))


def unlogged(service: str, table: str, load: str, most: int = 1, short: bool = False) -> Point:
    """Within a change of a table: it is on this disk, and the producer has it still in memory."""

    def fits(arguments: Arguments) -> bool:
        return bool(arguments["self"].service_name == service and arguments["where"] == f"table {table}")

    return Point(f"table-{table}-unlogged", DELIVERED, Moment.BEFORE, load, most, fits, short)


def has_prefix(prefix: bytes) -> Of:
    """Of rows whose keys begin so."""
    return lambda arguments: bool(arguments["key"].startswith(prefix))


def is_deleted(arguments: Arguments) -> bool:
    """The row goes."""
    return arguments["value"] is None


def is_kept(arguments: Arguments) -> bool:
    """The row stays or changes."""
    return arguments["value"] is not None


def is_claimed(arguments: Arguments) -> bool:
    """Sent for a partition, and not for a client."""
    return arguments.get("claim") is not None


def is_asked(arguments: Arguments) -> bool:
    """Sent for a client."""
    return arguments.get("claim") is None


def is_undo(arguments: Arguments) -> bool:
    """The event that undoes a step."""
    return ("ce_type", TASK_UNDO.encode()) in arguments["record"].headers


def of_service(service: str) -> Of:
    """Of one service's actor."""
    return lambda arguments: bool(arguments["self"].role.service == service)


def commits(arguments: Arguments) -> bool:
    """Of offsets of the calls' topic."""
    return any(place.topic == topic_of("infer") for place in arguments["offsets"])


def acknowledges(arguments: Arguments) -> bool:
    """Of an event of the calls' topic."""
    return bool(arguments["self"].topic == topic_of("infer"))


def is_app(service: str) -> Of:
    """Of one service."""
    return lambda arguments: bool(arguments["self"].service_name == service)


def is_row_of(state: bytes) -> Of:
    """A letter in that state."""
    told = b'"state":"' + state + b'"'
    return lambda arguments: arguments["key"].startswith(b"l/") and told in (arguments["value"] or b"")


def _plain() -> Iterator[Point]:
    """A task with a model call, its row in the catalogue, its caller told."""
    yield from produce("gateway", "intake", "plain", 6)
    yield from produce("intake", "prepare", "plain", 6)
    yield from produce("prepare", "infer", "plain", 6)
    yield from produce("infer", "moderate", "plain", 6)
    yield from produce("moderate", "deliver", "plain", 6)
    yield from produce("deliver", "finished", "plain", 6)
    yield from produce("notify", "notified", "plain", 6)
    yield from write("intake", "seen", "plain", 6)
    yield unlogged("intake", "seen", "plain", 6)
    yield from write("infer", "receipts", "plain", 12)
    yield unlogged("infer", "receipts", "plain", 12, short=True)
    yield from write("infer", "spending", "plain", 2)
    yield unlogged("infer", "spending", "plain", 2)
    yield from write("gateway", "tasks", "plain", 8)
    yield unlogged("gateway", "tasks", "plain", 8)
    yield from write("gateway", "latency", "plain", 4)
    yield from write("gateway", "usage", "plain", 2)
    yield unlogged("gateway", "usage", "plain", 2)
    client = "callstream.agents.inference.client:Client.__call__"
    yield from around("call", client, "plain", 6)
    yield Point("call-during", client, Moment.DURING, "plain", 6)
    yield from around("settle", "callstream.agents.trying:Trying._settle", "plain", 30)
    yield from around("ack", "callstream.streams.engine:FaustDelivery.ack", "plain", 6, acknowledges)
    yield from around("commit", "callstream.streams.transport:OwningConsumer._commit", "plain", 1, commits)
    yield Point("catalogue-before", f"{STORE}.write", Moment.BEFORE, "plain", 1)
    yield Point("catalogue-after", f"{STORE}.write", Moment.AFTER, "plain", 1, short=True)
    yield from around("callback", "callstream.agents.notification.notifier:Notifier._post", "plain", 6)


def is_for_others(arguments: Arguments) -> bool:
    """A record for a topic that is not ours."""
    return not is_ours(arguments["record"].topic)


STORE = "callstream.agents.delivery.store:CatalogueStore"


def _later() -> Iterator[Point]:
    """Retries that the timer waits for, tasks that start later, a schedule that is triggered, records for others."""
    yield from produce("unsteady", "timer", "later", 8)
    yield from around("send-told", PRODUCE, "told", 4, is_for_others)
    yield from produce("intake", "timer", "later", 2)
    yield from write("timer", "timers", "later", 10, is_kept)
    yield unlogged("timer", "timers", "later", 10)
    yield from write("timer", "timers", "later", 10, is_deleted, what="timers-removal")
    outlet = "callstream.agents.timer_app:Outlet.send"
    yield Point("release-before", outlet, Moment.BEFORE, "later", 3)
    yield Point("release-after", outlet, Moment.AFTER, "later", 3, short=True)
    yield from produce("gateway", "schedules", "schedule", 3)
    yield from produce("schedule", "intake", "schedule", 2)
    yield from write("schedule", "schedules", "schedule", 3)
    yield unlogged("schedule", "schedules", "schedule", 3)
    yield from produce("schedule", "intake", "overdue", 3, what="overdue")
    yield from write("schedule", "schedules", "overdue", 1, what="schedules-overdue")
    yield from write("gateway", "tasks", "swept", 1, is_deleted, what="sweep")


def _undo() -> Iterator[Point]:
    """Tasks that fail for good, or are cancelled, after they have written the catalogue: what they wrote is undone."""
    yield from produce("obey", "dead", "undo", 3)
    yield from produce("obey", "obey", "undo", 3, is_undo, what="undo-first")
    yield from produce("obey", "deliver", "undo", 3, is_undo, what="undo-next")
    yield from around("undo", f"{STORE}.take_back", "undo", 3)
    yield from produce("deliver", "finished", "undo", 3, what="undone")
    yield from write("gateway", "letters", "undo", 3, has_prefix(b"l/"))
    yield from write("gateway", "letters", "undo", 3, has_prefix(b"e/"), what="letter-events")
    yield unlogged("gateway", "letters", "undo", 6)
    yield from produce("gateway", "control", "withdrawn", 3)
    yield from produce("obey", "obey", "withdrawn", 3, is_undo, what="undo-cancelled")
    yield from around("undo-cancelled", f"{STORE}.take_back", "withdrawn", 3)


def _redrive() -> Iterator[Point]:
    """Dead letters that are redriven by a job."""
    yield from produce("gateway", "redrives", "redrive", 2, is_asked, what="job")
    yield from produce("gateway", "redrives", "redrive", 4, is_claimed, what="redrive")
    yield from produce("gateway", "gate", "redrive", 4, what="redriven")
    yield from write("gateway", "letters", "redrive", 2, has_prefix(b"j/"), what="jobs")
    yield from write("gateway", "letters", "redrive", 4, is_row_of(b"redriven"), what="letters-redriven")
    yield from around("job-step", "callstream.agents.letters.jobs:JobRunner._take_on", "redrive", 2)


def _joins() -> Iterator[Point]:
    """Tasks that start sub-tasks and wait for them; and tasks whose time is over before all of them are there."""
    yield from produce("prepare", "intake", "spread", 8, what="subtask")
    yield from produce("prepare", "join", "spread", 2)
    yield from produce("double", "join", "spread", 8, what="subtask-end")
    yield from produce("join", "double", "spread", 2, what="joined")
    yield from write("join", "joins", "spread", 8, has_prefix(b"row/"))
    yield from write("join", "joins", "spread", 8, has_prefix(b"part/"), what="join-parts")
    yield unlogged("join", "joins", "spread", 12)
    yield from produce("join", "join", "in-time", 2, what="join-due")
    yield from produce("join", "finished", "in-time", 2, what="joined-in-time")
    yield from write("join", "joins", "in-time", 2, is_deleted, what="join-due-removal")


def _waits() -> Iterator[Point]:
    """Tasks that wait for a person, behind others, or because they are paused."""
    yield from produce("prepare", "review", "review", 4, what="hold")
    yield from produce("gateway", "verdicts", "review", 4, what="verdict")
    yield from produce("review", "deliver", "review", 2, what="reviewed")
    yield from produce("review", "notified", "review", 6, what="review-remark")
    yield from produce("review", "timer", "review", 1, what="review-due")
    yield from write("review", "reviews", "review", 8)
    yield unlogged("review", "reviews", "review", 8)
    yield from write("infer", "parked", "backlog", 3, is_kept)
    yield unlogged("infer", "parked", "backlog", 3)
    yield from write("infer", "parked", "backlog", 3, is_deleted, what="parked-removal")
    yield from produce("prepare", "paused", "paused", 4, what="pause")
    yield from produce("paused", "prepare", "paused", 4, what="resume")
    yield from write("paused", "paused", "paused", 4, is_kept)
    yield from write("paused", "paused", "paused", 4, is_deleted, what="paused-removal")


def _moves() -> Iterator[Point]:
    """Partitions that go to another worker or come back, at a stop, at a start, and as a worker joins."""
    engine = "callstream.streams.engine:ServiceApp"
    yield from around("drain", "callstream.agents.actor:Actor.drain", "stop", 1, of_service("infer"))
    yield from around("stop", f"{engine}.on_stop", "stop", 1, is_app("infer"))
    yield from around("hand-over", f"{engine}.handing_over", "join", 1, is_app("infer"))
    yield from around("revoke", f"{engine}.partitions_going", "join", 1, is_app("infer"))
    yield from around("assign", f"{engine}.partitions_coming", "start", 1, is_app("infer"))
    yield from around("recovered", "callstream.streams.transport:OwningConsumer.perform_seek", "start", 3)
    blobs = "callstream.streams.blobs:BlobStore.put"
    yield from around("claim-check", blobs, "large", 6)


POINTS = (
    *_plain(),
    *_later(),
    *_undo(),
    *_redrive(),
    *_joins(),
    *_waits(),
    *_moves(),
)
