import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.streams.strict_json import MAX_DEPTH, BadJson, dumps, loads, readable
from tests.support.events import VALUES

LIMIT = 1_000_000


def deep(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert loads(dumps(value), LIMIT) == value


@given(VALUES)
def test_the_quick_way_gives_what_the_careful_one_gives(value: Any) -> None:
    raw = dumps(value)
    # The space is none of ours, so that document goes the careful way.
    assert repr(loads(raw, LIMIT)) == repr(loads(b" " + raw, LIMIT))


@pytest.mark.parametrize("depth", range(MAX_DEPTH - 2, MAX_DEPTH + 1))
@pytest.mark.parametrize("inner", [b"", b"{}", b"[],{}", b'{"a":{}}', b'"[[["'])
def test_depth_is_counted_alike_both_ways(depth: int, inner: bytes) -> None:
    raw = b"[" * depth + inner + b"]" * depth
    results = []
    for document in (raw, b" " + raw):
        try:
            results.append(repr(loads(document, LIMIT)))
        except BadJson as error:
            results.append(str(error))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"1e999", "1e999 is out of range"),
        (b"[-1E999]", "-1E999 is out of range"),
        (b"9" * 5_000, "an integer of 5,000 digits; at most 19"),
        (b"-" + b"9" * 20, "an integer of 20 digits"),
        (rb'"\ud800"', "half of a surrogate pair"),
        (rb'{"\udfff": 1}', "half of a surrogate pair"),
        (rb'["\ud83d", "\ude00"]', "half of a surrogate pair"),
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a' stands twice"),
        (b'[{"x": {"y": 1, "\\u0079": 2}}]', "key 'y' stands twice"),
        (deep(10_000), f"nested deeper than {MAX_DEPTH}"),
        (b'{"a":' * 10_000, f"nested deeper than {MAX_DEPTH}"),
        (deep(MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH}"),
        (b"", "not JSON: Expecting value at line 1, column 1"),
        (b"{'a': 1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"[1] [2]", "Extra data"),
        (b'"a\nb"', "Invalid control character"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b'"' + b"x" * LIMIT, "1,000,001 bytes; at most 1,000,000"),
    ],
)
def test_what_is_refused_is_told_why(raw: bytes, said: str) -> None:
    with pytest.raises(BadJson) as refused:
        loads(raw, LIMIT)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("value", [deep(MAX_DEPTH), rb'"\ud83d\ude00"', b"9" * 19, b"-0", b"1e308", rb'"[[[[\"[[[["'])
def test_what_is_at_the_bound_is_taken(value: bytes) -> None:
    assert loads(value, LIMIT) == json.loads(value)


def test_brackets_in_texts_are_no_depth() -> None:
    text = '\\"[' * 50 + "\\\\"
    assert loads(f'{{"a": "{text}", "b": [1]}}'.encode(), LIMIT)["b"] == [1]


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 800_000,
        b"[" * 40 + b'"' + rb"\"" * 400_000,
        b"[" * 40 + b'"' + rb"\"" * 400_000 + b"\\",
        b"[" * 40 + b'"",' * 260_000,
        b"1" * 800_000,
        b"0." + b"1" * 800_000,
        b"1e" + b"9" * 800_000,
        b'{"a":1,' * 30 + b'"b":[' + b"{}," * 200_000,
    ],
    ids=["brackets", "quotes", "backslash", "texts", "integer", "fraction", "exponent", "objects"],
)
def test_no_document_takes_more_time_than_its_length_is_worth(raw: bytes) -> None:
    started = time.process_time()
    with suppress(BadJson):
        loads(raw, LIMIT)
    assert time.process_time() - started < 5


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0d8e1-.NaIf ', max_size=60).map(str.encode))
def test_nothing_but_bad_json_is_raised(raw: bytes) -> None:
    try:
        value = loads(raw, LIMIT)
    except BadJson:
        return
    assert loads(dumps(value), LIMIT) == value


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], "\ud800", {"\udc00": 1}, {1, 2}, object(), b"x", 10**5_000],
    ids=["nan", "inf", "half", "half key", "set", "object", "bytes", "digits"],
)
def test_what_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        dumps(value)


def test_what_holds_itself_or_is_too_deep_is_not_written() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="Circular"):
        dumps(loop)
    nested: Any = 1
    for _ in range(5_000):
        nested = [nested]
    with pytest.raises(BadJson, match="no JSON"):
        dumps(nested)


@pytest.mark.parametrize("value", [10**19, {1: "a", "1": "b"}, json.loads(deep(MAX_DEPTH + 1)), "x" * 101])
def test_what_a_reader_would_refuse_is_not_readable(value: Any) -> None:
    with pytest.raises(BadJson):
        readable(value, 100)


def test_a_readable_value_is_as_its_reader_has_it() -> None:
    assert readable({"a": (1, 2), 3: None}, 100) == {"a": [1, 2], "3": None}
