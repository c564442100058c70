import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.letters import MAX_HEADER_BYTES, MAX_HEADERS, is_unreadable, unreadable
from callstream.streams.wire import BadEvent, decode, encode
from tests.support.events import an_event

ORIGIN = ("callstream.infer", 3, 41)
PLACE = b"callstream.infer/3/41"


@given(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=9),
    st.text(max_size=9) | st.just("\ud800"),
)
def test_a_letter_keeps_the_record_as_it_came(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], reason: str
) -> None:
    letter = unreadable(ORIGIN, key, value, headers, reason)
    assert letter.topic == "callstream.dead"
    assert letter.key == (key or PLACE)
    assert letter.value == (value or b"")
    kept = [(name, raw) for name, raw in letter.headers if name.startswith("was_")]
    assert kept == [(f"was_{name}", raw or b"") for name, raw in headers]
    assert (("ce_tombstone", b"true") in letter.headers) == (value is None)
    assert is_unreadable(letter.headers)


def test_a_letter_says_where_and_why() -> None:
    headers = dict(unreadable(ORIGIN, b"k", b"v", [], "not UTF-8 at byte 0").headers)
    assert headers["ce_reason"] == b"not UTF-8 at byte 0"
    assert (headers["ce_id"], headers["ce_subject"]) == (PLACE, PLACE)
    assert headers["content-type"] == b"application/octet-stream"


def test_a_letter_has_bounds() -> None:
    many = [(f"{number}{'x' * 5_000}", b"y" * 50_000) for number in range(1_000)]
    letter = unreadable(ORIGIN, b"k", b"v", many, "z" * 50_000)
    kept = [(name, raw) for name, raw in letter.headers if name.startswith("was_")]
    assert len(kept) == MAX_HEADERS
    assert max(len(raw) for _, raw in letter.headers) == MAX_HEADER_BYTES
    assert max(len(name) for name, _ in letter.headers) <= 204


def test_a_letter_is_no_event_and_an_event_is_no_letter() -> None:
    letter = unreadable(ORIGIN, b"k", b"v", [("ce_type", b"callstream.task")], "why")
    with pytest.raises(BadEvent):
        decode(letter.value, letter.headers)
    assert not is_unreadable(encode(an_event(), "callstream.dead").headers)


def test_a_letter_can_be_sent_however_large_its_record_is() -> None:
    # when a record unpacks to more than any event can have
    letter = unreadable(("callstream.infer", 3, 42), b"k" * 70_000, b"x" * 5_000_000, [], "5,000,000 bytes")
    # then its letter says how much, and keeps the beginning under a key of its own
    assert ("ce_cutfrom", b"5000000") in letter.headers
    assert letter.value == b"x" * 256 * 1024
    assert letter.key == b"callstream.infer/3/42"
    # and what fits is kept whole
    whole = unreadable(("callstream.infer", 3, 42), b"k" * 60_000, b"x" * 4_000_000, [], "not JSON")
    assert whole.value == b"x" * 4_000_000
    assert whole.key == b"k" * 60_000
    assert "ce_cutfrom" not in dict(whole.headers)
