"""Answers in pieces from endpoints that break off, refuse to go on, or answer otherwise than they were asked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from callstream.agents.inference.call import Call, CallFailed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.inference.receipts_state import CALLS
from callstream.agents.inference.stack import ModelStack, build_model
from callstream.streams.event import Json
from callstream.streams.fakes import MemoryCell
from tests.support.scripted import DONE, Answer, Scripted, at_once, pieces, refused, scripted, whole

GOES_ON = {"continue_final_message": True}
BEGUN = "A blue mug, "
CUT = Answer(pieces(BEGUN), cut=True)


@asynccontextmanager
async def asked(
    answers: Sequence[Answer], endpoint: Json | None = None, **more: Any
) -> AsyncIterator[tuple[Scripted, ModelStack]]:
    """A server with that script, and a model of one endpoint that leads there."""
    async with scripted(answers) as server:
        only = {"name": "own", "base_url": server.url, "model": "writer", "continue_with": GOES_ON, **(endpoint or {})}
        told = {
            "pools": {"copywriter": {"endpoints": [only]}},
            "retry": {"attempts": 3, "first_pause_seconds": 0.01},
            "part_seconds": 0.1,
            **more,
        }
        model = build_model(InferenceOptions.model_validate(told))
        try:
            yield server, model
        finally:
            await model.close()


def streamed(**changes: Any) -> Call:
    return a_call(cell=MemoryCell(), **{"stream": True, **changes})


def draft_in(call: Call) -> str:
    """What the call's receipt has of an answer."""
    found: str = (call.cell.value or {})[CALLS][call.id].get("draft", "")
    return found


async def test_the_rest_of_an_answer_may_come_at_once() -> None:
    async with asked([CUT, at_once("with a handle.")]) as (server, model):
        reply = await model(streamed())

    assert server.bodies[1]["messages"][-1] == {"role": "assistant", "content": BEGUN}
    assert reply.text == f"{BEGUN}with a handle."
    assert reply.notes == (f"went on from {len(BEGUN)} characters that an earlier request had brought",)


async def test_an_answer_that_comes_at_once_may_take_the_place_of_what_had_come() -> None:
    async with asked([CUT, at_once("A red mug.")], {"continue_with": None}) as (_, model):
        reply = await model(streamed())

    assert reply.text == "A red mug."
    assert reply.notes == (f"asked anew: {len(BEGUN)} characters that earlier requests had brought are not used",)


async def test_an_answer_with_its_last_mark_is_whole_however_the_connection_ends() -> None:
    async with asked([Answer(pieces("A mug.", finish="stop", done=True), cut=True)]) as (server, model):
        reply = await model(streamed())

    assert (reply.text, len(server.bodies)) == ("A mug.", 1)


@pytest.mark.parametrize(
    "answer",
    [refused("context_length_exceeded"), refused("invalid_request_error"), refused("content_policy_violation")],
)
async def test_an_endpoint_that_does_not_go_on_after_all_is_asked_anew(answer: Answer) -> None:
    async with asked([CUT, answer, whole("A red mug.")]) as (server, model):
        reply = await model(streamed())

    assert [len(body["messages"]) for body in server.bodies] == [1, 2, 1]
    assert (reply.text, reply.usage.calls) == ("A red mug.", 3)
    assert reply.notes[0].startswith(f"asked anew: {len(BEGUN)} characters")


async def test_an_endpoint_that_fails_whenever_it_is_to_go_on_is_asked_anew() -> None:
    retry = {"attempts": 5, "first_pause_seconds": 0.01}
    broken = refused("template_error", status=500)
    script = [CUT, broken, broken, whole("A red mug.")]
    async with asked(script, retry=retry) as (server, model):
        reply = await model(streamed())

    assert [len(body["messages"]) for body in server.bodies] == [1, 2, 2, 1]
    assert reply.text == "A red mug."


async def test_an_answer_that_grew_too_long_is_not_gone_on_with_when_it_is_asked_for_again() -> None:
    async with asked([whole("x" * 60, "x" * 60), whole("short")], max_text_bytes=100) as (_, model):
        call = streamed()
        with pytest.raises(CallFailed) as failed:
            await model(call)
        assert (failed.value.kind, failed.value.retryable, draft_in(call)) == ("reply-too-long", False, "")
        assert (await model(call)).text == "short"


async def test_what_had_come_is_kept_until_another_answer_takes_its_place() -> None:
    async with asked([CUT, refused("server_error")], {"continue_with": None}) as (_, model):
        call = streamed()
        with pytest.raises(CallFailed):
            await model(call)

    assert draft_in(call) == BEGUN


async def test_an_answer_of_a_given_shape_is_not_gone_on_with() -> None:
    shape: Json = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
    begun = Answer(pieces('{"name": "A'), cut=True)
    async with asked([begun, whole('{"name": "A mug"}')]) as (server, model):
        reply = await model(streamed(request={"messages": [], "response_format": shape}))

    assert server.bodies[1]["messages"] == []
    assert reply.text == '{"name": "A mug"}'


@pytest.mark.parametrize(
    "body", [pieces(finish="stop", done=True), DONE, pieces("A mug.", done=True), b"data: null\n\n"]
)
async def test_what_is_no_answer_at_once_is_none_in_pieces(body: bytes) -> None:
    async with asked([Answer(body), whole("A mug.")], {"continue_with": None}) as (server, model):
        reply = await model(streamed())

    assert (reply.text, len(server.bodies)) == ("A mug.", 2)


async def test_the_events_around_a_text_do_not_count_as_the_text_does() -> None:
    async with asked([whole(*["word "] * 500)], max_response_bytes=2048) as (_, model):
        reply = await model(streamed())

    assert reply.text == "word " * 500


async def test_what_came_before_an_error_in_the_midst_may_have_been_paid() -> None:
    error = b'data: {"error": {"code": "busy", "message": "over"}}\n\n'
    async with asked([Answer(pieces("A mug") + error), whole(", blue.")]) as (_, model):
        reply = await model(streamed())

    assert reply.text == "A mug, blue."
    assert [spend.tokens_out > 0 for spend in reply.spends] == [True, True], reply.spends
