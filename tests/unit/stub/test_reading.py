"""Bodies, callers and numbers from outside."""

import pytest

from callstream.stub.errors import ApiError
from callstream.stub.reading import read_caller, read_json, read_number
from callstream.stub.witness import Caller


@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense", b"[1]", b'"x"', b"\xff\xfe", b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 100_000, b"9" * 5000],
)
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(raw)
    assert caught.value.status == 400


def test_the_caller_is_named_by_headers() -> None:
    headers = {"Idempotency-Key": "4:acme:mug-1/2/0", "X-Callstream-Task": "mug-1", "X-Callstream-Tenant": "acme"}

    assert read_caller(headers, "prompt-1") == Caller("mug-1", "acme", "4:acme:mug-1/2/0")
    assert read_caller({"Idempotency-Key": "4:acme:mug-1/2/0"}, "prompt-1").task == "4:acme:mug-1"
    assert read_caller({"X-Task": "t"}, "prompt-1") == Caller("t", "(none)", None)
    assert read_caller({}, "prompt-1") == Caller("prompt-1", "(none)", None)
    assert len(read_caller({"X-Task": "t" * 9000}, "").task) == 512


def test_numbers_in_queries_are_bounded() -> None:
    assert read_number({}, "offset", 3, 10) == 3
    assert read_number({"offset": "10"}, "offset", 3, 10) == 10
    for text in ("-1", "11", "x", "", "²", "9" * 5000):
        with pytest.raises(ApiError, match="offset must be a whole number"):
            read_number({"offset": text}, "offset", 3, 10)
