"""Records that no service can read, as dead letters: the bytes as they came, with where they stood and why."""

from collections.abc import Iterable, Sequence

from callstream.streams.topics import DEAD, topic_of
from callstream.streams.wire import CLAIM_CHECK_BYTES, MAX_RECORD_BYTES, SOURCE, SPEC_VERSION, Headers, Record

UNREADABLE = "callstream.record.unreadable"
MAX_HEADERS = 64
MAX_HEADER_BYTES = 8192
MAX_KEY_BYTES = 64 * 1024


def unreadable(
    origin: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    reason: str,
) -> Record:
    """The dead letter of a record at `origin` (topic, partition, offset).

    The value is kept byte for byte; the headers (the first 64, 8 KiB each) return as `was_*`, so that whoever puts
    the record right can send it again. The letter's id is the origin: a repeat is recognisable.

    A compressed record may unpack to any size. Of a value over `MAX_RECORD_BYTES`, which no event can have, the letter
    keeps the first `CLAIM_CHECK_BYTES` and says in `ce_cutfrom` how long it was, and a key over `MAX_KEY_BYTES` it
    leaves out: a letter that cannot be sent would stop every worker that reads the record.
    """
    topic, partition, offset = origin
    place = f"{topic}/{partition}/{offset}"
    letter: Headers = [
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_id", place.encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_type", UNREADABLE.encode()),
        ("ce_subject", place.encode()),
        ("ce_reason", reason[:2000].encode("utf-8", "replace")),
        ("content-type", b"application/octet-stream"),
    ]
    if value is None:
        letter.append(("ce_tombstone", b"true"))
    elif len(value) > MAX_RECORD_BYTES:
        letter.append(("ce_cutfrom", str(len(value)).encode()))
        value = value[:CLAIM_CHECK_BYTES]
    if key is not None and len(key) > MAX_KEY_BYTES:
        key = None
    letter += [(f"was_{name[:200]}", (raw or b"")[:MAX_HEADER_BYTES]) for name, raw in list(headers)[:MAX_HEADERS]]
    return Record(topic_of(DEAD), key or place.encode(), value or b"", letter)


def is_unreadable(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether a record on the dead-letter topic is one of these rather than a task's event."""
    return ("ce_type", UNREADABLE.encode()) in headers
