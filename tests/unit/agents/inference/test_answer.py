import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.answer import MOST_TOKENS, Bounds, failure_of, reply_of
from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.failures import RETRYABLE

BOUNDS = Bounds(response=100_000, text=1_000)


def completion(**changes: Any) -> dict[str, Any]:
    return {
        "model": "writer-2026-01-01",
        "choices": [{"message": {"role": "assistant", "content": "A mug."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
        **changes,
    }


def read(body: Any) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reply_of(raw, "writer", "local", BOUNDS)


def kind_of(body: Any) -> str:
    with pytest.raises(CallFailed) as failure:
        read(body)
    return failure.value.kind


def test_a_completion_is_text_reason_and_usage() -> None:
    reply = read(completion())

    assert (reply.text, reply.finish_reason, reply.notes) == ("A mug.", "stop", ())
    assert reply.usage.model_dump() == {
        "model": "writer",
        "endpoint": "local",
        "calls": 1,
        "repeated": 0,
        "tokens_in": 12,
        "tokens_out": 3,
        "tokens_cached": 0,
    }


@pytest.mark.parametrize(
    ("usage", "noted"),
    [
        (None, "no usage"),
        ("lots", "no usage"),
        ({}, "no prompt_tokens"),
        ({"prompt_tokens": 5}, "no completion_tokens"),
        ({"prompt_tokens": -5, "completion_tokens": 3}, "prompt_tokens = -5"),
        ({"prompt_tokens": 5, "completion_tokens": 10**18}, "completion_tokens = 1000000000000000000"),
        ({"prompt_tokens": 5, "completion_tokens": MOST_TOKENS + 1}, "completion_tokens = 10000001"),
        ({"prompt_tokens": 5, "completion_tokens": 1e18}, "completion_tokens = 1e+18"),
        ({"prompt_tokens": True, "completion_tokens": 3}, "no prompt_tokens"),
        ({"prompt_tokens": "5", "completion_tokens": 3.5}, "no prompt_tokens"),
    ],
)
def test_usage_of_which_a_part_is_missing_or_absurd_is_unknown_as_a_whole(usage: Any, noted: str) -> None:
    reply = read(completion(usage=usage))

    assert (reply.usage.tokens_in, reply.usage.tokens_out) == (0, 0)
    assert noted in "; ".join(reply.notes)


@pytest.mark.parametrize(
    ("answered_as", "noted"), [("writer", False), ("writer-0613", False), ("vendor/writer", False), ("cheap", True)]
)
def test_another_models_name_is_noted(answered_as: str, noted: bool) -> None:
    reply = read(completion(model=answered_as))

    assert bool(reply.notes) is noted
    assert reply.usage.model == "writer"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[]",
        b'{"choices": NaN}',
        b"[" * 100_000,
        {},
        completion(choices=[]),
        completion(choices=["text"]),
        completion(choices=[{}]),
        completion(choices=[{"message": {"content": None}}]),
        completion(choices=[{"message": {"content": ["part"]}}]),
        completion(choices=[{"message": "text"}]),
    ],
)
def test_what_is_no_completion_is_a_broken_reply(body: Any) -> None:
    assert kind_of(body) == "broken-reply"


def test_an_empty_text_is_an_answer_unless_the_filter_emptied_it() -> None:
    def empty(reason: str) -> dict[str, Any]:
        return completion(choices=[{"message": {"content": ""}, "finish_reason": reason}])

    assert read(empty("length")).text == ""
    assert kind_of(empty("content_filter")) == "refused-by-policy"


def test_a_text_longer_than_a_receipt_may_be_is_refused() -> None:
    body = completion(choices=[{"message": {"content": "字" * 334}}])

    assert kind_of(body) == "reply-too-long"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "finish_reason", "model"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_any_json_is_a_reply_or_a_failure_and_never_a_crash(body: Any) -> None:
    try:
        tokens = read(body).usage.tokens_in
    except CallFailed:
        tokens = 0

    assert 0 <= tokens <= MOST_TOKENS


@given(st.binary(max_size=200), st.integers(100, 999))
def test_any_error_body_is_a_failure_of_a_known_kind(raw: bytes, status: int) -> None:
    failure = failure_of(status, raw, None, ())

    assert failure.retryable == (failure.kind in RETRYABLE)


def error(code: str | None = None, message: str = "no", kind: str | None = None) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "type": kind}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, error(), "overloaded"),
        (429, error("insufficient_quota"), "refused"),
        (500, b"", "unavailable"),
        (503, b"<html>", "unavailable"),
        (599, b"", "unavailable"),
        (408, b"", "timeout"),
        (409, b"", "unavailable"),
        (302, b"", "refused"),
        (400, error(), "refused"),
        (401, error("invalid_api_key"), "refused"),
        (403, b"", "refused"),
        (404, error("model_not_found"), "refused"),
        (400, error("context_length_exceeded"), "context-too-long"),
        (400, error(message="This model's maximum context length is 8192 tokens."), "context-too-long"),
        (400, b'{"message": "the prompt exceeds the context window", "code": 400}', "context-too-long"),
        (400, b'{"error": "input is too long"}', "context-too-long"),
        (400, error("content_policy_violation"), "refused-by-policy"),
        (400, error(kind="content_filter"), "refused-by-policy"),
        (204, b"", "broken-reply"),
        (206, b"", "broken-reply"),
    ],
)
def test_each_status_has_its_kind(status: int, body: bytes, kind: str) -> None:
    assert failure_of(status, body, None, ()).kind == kind


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_asked_for_is_handed_on(status: int) -> None:
    assert failure_of(status, b"", 7.0, ()).after_seconds == 7.0


def test_an_error_text_is_short_printable_and_without_secrets() -> None:
    failure = failure_of(401, error("bad\nkey", "Incorrect key sk-secret\x1b[31m\n" + "x" * 5000), None, ("sk-secret",))

    assert failure.message.startswith("HTTP 401 (bad key): Incorrect key ***")
    assert "sk-secret" not in failure.message
    assert failure.message.isprintable()
    assert len(failure.message) < 400
