from callstream.streams import topics
from callstream.streams.topics import TopicPlan, changelog_of, group_of, is_changelog, topic_of


def test_names_are_a_storage_format() -> None:
    assert [topic_of(name) for name in (topics.INTAKE, topics.FINISHED, topics.DEAD, topics.REVIEW)] == [
        "callstream.intake",
        "callstream.finished",
        "callstream.dead",
        "callstream.review",
    ]
    assert [topic_of(name) for name in (topics.VERDICTS, topics.NOTIFIED, "infer")] == [
        "callstream.verdicts",
        "callstream.notified",
        "callstream.infer",
    ]
    assert group_of("infer") == "callstream-infer"
    assert changelog_of("intake", "seen") == "callstream-intake-seen-changelog"


def test_a_changelog_is_told_from_a_topic() -> None:
    assert is_changelog(changelog_of("gateway", "tasks"))
    assert not is_changelog(topic_of("changelog"))


def test_a_plan_in_the_words_of_kafka() -> None:
    assert TopicPlan("t", 8, 1, 3_600.5).config() == {"cleanup.policy": "delete", "retention.ms": "3600500"}
    assert TopicPlan("t", 8, 1, 60.0, compacted=True, max_record_bytes=7).config() == {
        "cleanup.policy": "compact",
        "retention.ms": "60000",
        "max.message.bytes": "7",
    }
