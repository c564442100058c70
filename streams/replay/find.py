"""The recorded input of one step of one task, where its time is known: a part of one partition is read."""

from collections.abc import Iterable
from typing import Any

from callstream.streams.blobs import BlobMissing, BlobStore, BlobTooLarge, check_out
from callstream.streams.event import Event
from callstream.streams.keys import partition_of, task_key
from callstream.streams.replay.recorded import Topics
from callstream.streams.replay.selection import Selection
from callstream.streams.wire import BadEvent, decode


async def find_input(
    topics: Topics, blobs: BlobStore, selection: Selection, task: str, times: tuple[float, float | None]
) -> tuple[Event, str] | None:
    """The event and its topic; None if it is not there. `times` are epoch seconds between which it was recorded.

    With an end to that time the last such event counts, else the first. Raises UnknownChain, UnknownStep, BadEvent,
    BlobMissing, BlobError, TopicsUnreadable.
    """
    since, until = times
    key = task_key(selection.tenant or "", task)
    found: tuple[Event, str] | None = None
    for topic in selection.topics():
        partition = partition_of(key, await topics.partitions(topic))
        for span in await topics.spans(topic, since, partition):
            async for records in topics.read(span):
                for record in records:
                    if _is_wanted(record, key, until) and selection.may_be(record.headers):
                        event = decode(await check_out(record.value, record.headers, blobs), record.headers)
                        found = (event, topic) if selection.is_input(event) else found
                if (found and until is None) or (until is not None and records and _time(records[-1]) >= until):
                    break
    return found


async def find_event(topics: Topics, blobs: BlobStore, names: Iterable[str], key: bytes, since: float) -> Event | None:
    """The first event of a task on one of these topics since a time; None where it, or its body, is no more.

    Raises BlobError, TopicsUnreadable.
    """
    for topic in names:
        partition = partition_of(key, await topics.partitions(topic))
        for span in await topics.spans(topic, since, partition):
            async for records in topics.read(span):
                for record in records:
                    if record.key != key:
                        continue
                    try:
                        return decode(await check_out(record.value, record.headers, blobs), record.headers)
                    except (BadEvent, BlobMissing, BlobTooLarge):
                        continue
    return None


def _is_wanted(record: Any, key: bytes, until: float | None) -> bool:
    return record.key == key and (until is None or _time(record) < until)


def _time(record: Any) -> float:
    return float(record.timestamp / 1000)
