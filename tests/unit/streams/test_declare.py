import pytest

from callstream.streams.chain import Chain, Chains
from callstream.streams.declare import differences, plan, tables_of
from callstream.streams.routes import END, Routes, Rule
from callstream.streams.topics import TopicPlan
from callstream.streams.wire import MAX_RECORD_BYTES
from tests.support.events import Input, Say

PLAN = TopicPlan("callstream.infer", 8, 1, 3_600.0, max_record_bytes=1_000)
AS_PLANNED = {"cleanup.policy": "delete", "retention.ms": "3600000", "max.message.bytes": "1000", "more": "x"}


class Remember(Say):
    """A step that keeps a row."""

    remembers = True


CHAINS = Chains(
    [
        Chain("shop", Input, (Say("facts", "prepare"), Remember("copy", "infer"))),
        Chain("talk", Input, (Say("facts", "prepare"), Remember("say", "speak"))),
    ]
)


def test_every_topic_of_every_service_is_planned_once() -> None:
    names = [topic.name for topic in plan(CHAINS, 8, 1, 60.0)]
    assert len(names) == len(set(names))
    own = ("intake", "review", "verdicts", "finished", "notified", "dead")
    assert set(names) >= {f"callstream.{name}" for name in (*own, "prepare", "infer", "speak")}
    assert {"callstream-infer-receipts-changelog", "callstream-speak-receipts-changelog"} <= set(names)
    assert "callstream-prepare-receipts-changelog" not in names


def test_all_topics_have_the_same_partitions_and_tables_are_compacted_only() -> None:
    plans = plan(CHAINS, 12, 3, 60.0)
    assert {(topic.partitions, topic.replicas) for topic in plans} == {(12, 3)}
    assert {topic.name for topic in plans if topic.compacted} == {
        "callstream.alarms",
        "callstream.control",
        *(f"callstream-{service}-{table}-changelog" for service, table in tables_of(CHAINS)),
    }


def test_a_topic_that_a_route_names_is_made_if_it_is_missing_and_else_left_as_it_is() -> None:
    routes = {"facts": Routes((Rule("true", "copy", topic="audit"), Rule("true", END, topic="audit")))}
    steps = Say("facts", "prepare"), Say("copy", "infer")
    [audit] = [one for one in plan(Chains([Chain("shop", Input, steps, routes=routes)]), 8, 1, 60.0) if not one.ours]
    assert (audit.name, audit.partitions, audit.compacted) == ("audit", 8, False)
    assert differences(audit, 3, {"cleanup.policy": "compact"}) == []


def test_a_dead_letter_has_room_for_any_record_and_its_reason() -> None:
    [dead] = [topic for topic in plan(CHAINS, 1, 1, 60.0) if topic.name == "callstream.dead"]
    assert dead.max_record_bytes is not None
    assert dead.max_record_bytes > MAX_RECORD_BYTES


@pytest.mark.parametrize(
    ("partitions", "config", "found"),
    [
        (8, {}, []),
        (4, {}, ["4 partitions, not 8"]),
        (8, {"cleanup.policy": "compact"}, ["cleanup.policy is compact, not delete"]),
        (9, {"retention.ms": "1"}, ["9 partitions, not 8", "retention.ms is 1, not 3600000"]),
    ],
)
def test_what_differs_is_said(partitions: int, config: dict[str, str], found: list[str]) -> None:
    assert differences(PLAN, partitions, AS_PLANNED | config) == found


def test_what_the_broker_does_not_tell_is_no_difference() -> None:
    assert differences(PLAN, 8, {}) == []
