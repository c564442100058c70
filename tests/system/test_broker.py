"""The embedded broker as a real process."""

import uuid

from tests.support.kafka import Send, committed, create_topics, lag, produce, read_all


async def test_records_come_back_as_sent(kafka_broker: str) -> None:
    # given a topic with two partitions
    topic = f"records-{uuid.uuid4().hex}"
    await create_topics(kafka_broker, {topic: 2})
    # when records are produced to both
    places = await produce(
        kafka_broker,
        topic,
        [Send(b"one", b"k", [("h", b"1")], partition=0), Send(None, b"k", partition=1), Send(b"two", partition=0)],
    )
    # then they are read by partition and offset
    found = await read_all(kafka_broker, topic)
    assert places == [(0, 0), (1, 0), (0, 1)]
    assert [(one.partition, one.key, one.value) for one in found] == [
        (0, b"k", b"one"),
        (0, None, b"two"),
        (1, b"k", None),
    ]
    assert found[0].headers == (("h", b"1"),)
    # and a group that never committed is behind by all of them
    assert await lag(kafka_broker, f"group-{topic}", [topic]) == {topic: 3}
    assert await committed(kafka_broker, f"group-{topic}") == {}
