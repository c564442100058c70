import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.answer import Bounds, reply_in
from callstream.agents.inference.call import CallFailed, Draft, Reply
from callstream.agents.inference.streamed import Streamed
from callstream.streams.event import Json

BOUNDS = Bounds(response=100_000, text=1_000)
USED = {"prompt_tokens": 12, "completion_tokens": 3}
DONE = b"data: [DONE]\n\n"


def piece(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"model": "writer", "choices": choices, **more}).encode() + b"\n\n"


def usage(used: Json = USED) -> bytes:
    return b"data: " + json.dumps({"model": "writer", "choices": [], "usage": used}).encode() + b"\n\n"


def read(raw: bytes, size: int = 1 << 20, begun: str = "") -> tuple[Reply, Draft]:
    draft = Draft(begun)
    draft.begin(goes_on=True)
    streamed = Streamed(draft, BOUNDS, ("sk-a-secret",))
    for start in range(0, len(raw), size):
        if streamed.take(raw[start : start + size]):
            break
    return reply_in(streamed.whole(), "writer", "stub", BOUNDS), draft


def failure(raw: bytes) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        read(raw)
    return failed.value


WHOLE = b": hello\n\n" + piece("A ") + piece("杯子.") + piece(finish="stop") + usage() + DONE


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_an_answer_is_the_same_however_its_bytes_are_cut(size: int, ends: bytes) -> None:
    reply, draft = read(WHOLE.replace(b"\n", ends), size)

    assert (reply.text, reply.finish_reason, draft.text) == ("A 杯子.", "stop", "A 杯子.")
    assert (reply.usage.tokens_in, reply.usage.tokens_out, reply.usage.endpoint) == (12, 3, "stub")


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20), st.integers(1, 50))
def test_any_text_comes_through(texts: list[str], size: int) -> None:
    raw = b"".join(map(piece, texts)) + piece(finish="stop") + DONE

    assert read(raw, size)[0].text == "".join(texts)


def test_what_was_begun_is_a_part_of_the_answer() -> None:
    reply, _ = read(piece("mug.") + piece(finish="length") + usage() + DONE, begun="A blue ")

    assert (reply.text, reply.finish_reason) == ("A blue mug.", "length")


def test_one_that_has_nothing_to_add_has_said_all_and_one_that_refuses_has_not() -> None:
    assert read(piece(finish="stop") + DONE, begun="A mug.")[0].text == "A mug."
    with pytest.raises(CallFailed, match="left no text"):
        read(b'data: {"choices": [{"delta": {"refusal": "no"}, "finish_reason": "stop"}]}\n\n', begun="A ")


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_a_mark_of_the_byte_order_is_none_of_the_first_event(size: int) -> None:
    assert read(b"\xef\xbb\xbf" + WHOLE, size)[0].text == "A 杯子."
    assert read(b"\xef\xbb\xbf" + WHOLE.removeprefix(b": hello\n\n"), size)[0].text == "A 杯子."


def test_an_answer_without_the_last_mark_is_whole_once_it_has_said_why_it_stopped() -> None:
    assert read(piece("A mug.") + piece(finish="stop"))[0].text == "A mug."


def test_other_choices_and_other_events_are_passed_over() -> None:
    other = b'data: {"choices": [{"index": 1, "delta": {"content": "no"}}]}\n\nevent: ping\nid: 7\n\n'

    assert read(other + piece("A mug.") + other + piece(finish="stop") + DONE)[0].text == "A mug."


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (piece("A mug"), "broken-reply", "broke off after 5 characters"),
        (b"", "broken-reply", "broke off after 0 characters"),
        (b"data: {\n\n", "broken-reply", "a piece of the answer is"),
        (b"data: 7\n\n", "broken-reply", "not a JSON object"),
        (b"x" * 100_001, "broken-reply", "a piece of the answer is larger than 100,000 bytes"),
        (b"data:\n" * 30_000, "broken-reply", "a piece of the answer is larger than 100,000 bytes"),
        (b"data:\n\n" * 40_000, "broken-reply", "the answer is larger than 228,000 bytes"),
        (piece("A mug") + DONE, "broken-reply", "broke off after 5 characters"),
        (DONE, "broken-reply", "broke off after 0 characters"),
        (piece(finish="tool_calls") + DONE, "broken-reply", "no text"),
        (piece("x" * 1_001), "reply-too-long", "more than 1,000 bytes"),
        (piece("杯" * 200) * 2, "reply-too-long", "more than 1,000 bytes"),
        (
            piece("A") + b'data: {"error": {"code": "busy", "message": "sk-a-secret is over"}}\n\n',
            "broken-reply",
            "broke off its answer (busy): *** is over",
        ),
        (b'data: {"error": {"code": "busy"}}\n\n', "unavailable", "broke off its answer (busy)"),
        (
            b'data: {"choices": [{"delta": {"refusal": "I will not"}, "finish_reason": "stop"}]}\n\n',
            "refused-by-policy",
            "",
        ),
    ],
)
def test_what_is_no_answer_is_a_failure_that_says_why(raw: bytes, kind: str, said: str) -> None:
    found = failure(raw)

    assert found.kind == kind
    assert said in found.message


@pytest.mark.parametrize("used", [None, 7, {}, {"prompt_tokens": -1, "completion_tokens": 3}])
def test_a_usage_that_makes_no_sense_is_not_taken(used: object) -> None:
    raw = piece("A mug.") + piece(finish="stop", usage=used) + DONE

    reply, _ = read(raw)

    assert reply.usage.tokens_in == 0
    assert "the endpoint reported no" in reply.notes[0] or "not taken" in reply.notes[0]


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_fail(raw: bytes) -> None:
    with suppress(CallFailed):
        read(raw)
