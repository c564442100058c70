"""Onto a Kafka topic that is not callstream's: one record a write, and what its readers make of them. Pure.

The record is part of the step's outcome, so that the task goes on only when the broker has it. A topic keeps what it
gets in the order in which it comes, so it is the reader who lets nothing older replace what is newer: every record has
its version, and `Latest` reads them so.
"""

from collections.abc import Iterable

from callstream.agents.delivery.sink import Entry, Refused
from callstream.agents.delivery.versions import Version, Versions, put, standing, without
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.keys import split_key
from callstream.streams.topics import check_foreign
from callstream.streams.wire import BINARY_TYPE, CLAIM_CHECK_BYTES, SOURCE, SPEC_VERSION, Record, timestamp

WRITTEN, WITHDRAWN = "callstream.sink.written", "callstream.sink.withdrawn"


class TopicSink:
    """Makes the records of a topic.

    A record's key names the write (task and step), so that a compacted topic keeps the last of each.
    Raises ValueError for a name that is none, or one of callstream's own.
    """

    def __init__(self, topic: str) -> None:
        self.topic = check_foreign(topic)

    def record(self, entry: Entry) -> Record:
        """The record that writes. Raises Refused."""
        raw = entry.raw()
        if len(raw) > CLAIM_CHECK_BYTES:
            # It would go into the blob store, which readers of a topic need not have.
            raise Refused(f"value: {len(raw):,} bytes; at most {CLAIM_CHECK_BYTES:,} go onto a topic")
        return self._record(entry, WRITTEN, raw)

    def withdrawal(self, entry: Entry) -> Record:
        """The record that takes back what the step wrote."""
        return self._record(entry, WITHDRAWN, b"")

    def _record(self, entry: Entry, kind: str, value: bytes) -> Record:
        attributes = {
            "specversion": SPEC_VERSION,
            "id": entry.id if kind == WRITTEN else f"{entry.id}/withdrawn",
            "source": SOURCE,
            "type": kind,
            "subject": entry.key,
            "time": timestamp(entry.event.time),
            "partitionkey": entry.write,
            "tenant": entry.tenant,
            "writeversion": entry.order,
            "keep": "true" if entry.keeps else "false",
        }
        headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
        headers.append(("content-type", BINARY_TYPE.encode()))
        return Record(self.topic, entry.write.encode(), value, headers)


class Latest:
    """What stands under each key of a topic, whatever the order in which its records are taken in."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Versions] = {}

    def take(self, key: bytes, value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> None:
        """Take one record in."""
        found = {name.removeprefix("ce_"): (text or b"").decode() for name, text in headers}
        place = found["tenant"], found["subject"]
        versions = self._versions.get(place, ())
        write, _, step = key.decode().rpartition("/")
        task = split_key(write.encode())[1]
        if found["type"] == WITHDRAWN:
            self._versions[place] = without(versions, task, step)
        else:
            new = Version(found["writeversion"], task, step, found["keep"] == "true", strict_json.unpack(value))
            self._versions[place] = put(versions, new)

    def value(self, tenant: str, key: str) -> Json | None:
        """What stands under a key."""
        stands = standing(self._versions.get((tenant, key), ()))
        return None if stands is None else stands.value
