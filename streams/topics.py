"""Every topic's name, once. A service's topic holds the recorded inputs of its steps; names are a storage format."""

import re
from dataclasses import dataclass

PREFIX = "callstream"
INTAKE = "intake"
FINISHED = "finished"
DEAD = "dead"
REVIEW = "review"
VERDICTS = "verdicts"
NOTIFIED = "notified"
NOTIFY = "notify"
"""Its topic has the ends of which callers are to be told once more; the others it takes from `finished`."""
SEEN, RECEIPTS, REVIEWS, TASKS, LATENCY, PROFILES = "seen", "receipts", "reviews", "tasks", "latency", "profiles"
SPENDING, USAGE = "spending", "usage"
TIMER, TIMERS = "timer", "timers"
PARKED = "parked"
INFER = "infer"
POOLS = "pools"
JOIN = "join"
JOINS = "joins"
SCHEDULE, SCHEDULES = "schedule", "schedules"
CONTROL = "control"
PAUSED = "paused"
LETTERS = "letters"
REDRIVES = "redrives"
ALARMS = "alarms"
OWN_TABLES = (
    ("intake", SEEN),
    ("review", REVIEWS),
    ("gateway", TASKS),
    ("gateway", LATENCY),
    ("gateway", USAGE),
    ("gateway", LETTERS),
    ("prepare", PROFILES),
    (TIMER, TIMERS),
    (SCHEDULE, SCHEDULES),
    (PAUSED, PAUSED),
)
"""Tables that are there whatever the chains are, as (service, table)."""


def topic_of(service: str) -> str:
    """The topic that a service takes its events from.

    >>> topic_of("infer")
    'callstream.infer'
    """
    return f"{PREFIX}.{service}"


def lanes_of(service: str) -> tuple[str, ...]:
    """The names of a service's topics: one for each priority where calls of models wait, else its own.

    A topic is read in its order, so what is urgent would wait behind whatever came before it.

    >>> lanes_of("infer"), lanes_of("deliver")
    (('infer', 'infer.high', 'infer.low'), ('deliver',))
    """
    return (service, f"{service}.high", f"{service}.low") if service == INFER else (service,)


def lane_of(service: str, priority: str) -> str:
    """The name of the topic that a service takes an event of that priority from.

    >>> lane_of("infer", "low"), lane_of("infer", "normal"), lane_of("deliver", "low")
    ('infer.low', 'infer', 'deliver')
    """
    lane = f"{service}.{priority}"
    return lane if lane in lanes_of(service) else service


def lane_in(topic: str) -> str:
    """The priority of the events in a topic of a service with lanes.

    >>> lane_in("callstream.infer"), lane_in("callstream.infer.low")
    ('normal', 'low')
    """
    return topic.removeprefix(f"{PREFIX}.").partition(".")[2] or "normal"


def check_foreign(name: str) -> str:
    """The name of a topic that is not ours, for whoever reads it. Raises ValueError for what is none, and for ours."""
    if not _FOREIGN.match(name) or name in (".", ".."):
        raise ValueError(f"topic {name[:80]!r}: a name has 1 to 249 of A-Z a-z 0-9 . _ -")
    if name.startswith((f"{PREFIX}.", f"{PREFIX}-", "__")):
        raise ValueError(f"topic {name[:80]!r} is reserved: events go to a service by the name of its step")
    return name


def is_ours(topic: str) -> bool:
    """Whether a topic is one of a service here, whose records lie in the partition of their key."""
    return topic.startswith((f"{PREFIX}.", f"{PREFIX}-"))


def group_of(service: str) -> str:
    """The app id of a service, and so its consumer group and the prefix of its changelogs."""
    return f"{PREFIX}-{service}"


def changelog_of(service: str, table: str) -> str:
    """The changelog of a service's table, as Faust names it."""
    return f"{group_of(service)}-{table}-changelog"


def is_changelog(topic: str) -> bool:
    """Whether a topic is a table's changelog (Faust's own naming: app id, table, `-changelog`)."""
    return topic.endswith("-changelog")


_FOREIGN = re.compile(r"^[A-Za-z0-9._-]{1,249}\Z")


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it has to be on the broker.

    One that is not `ours` is made if it is missing, and else left as it is.
    """

    name: str
    partitions: int
    replicas: int
    retention_seconds: float
    compacted: bool = False
    max_record_bytes: int | None = None
    ours: bool = True

    def config(self) -> dict[str, str]:
        """Its settings in Kafka's own words."""
        config = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(int(self.retention_seconds * 1000)),
        }
        if self.max_record_bytes is not None:
            config["max.message.bytes"] = str(self.max_record_bytes)
        return config
