from dataclasses import dataclass
from typing import Any, cast

import pytest

from callstream.agents.haste import Haste, hasten
from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel
from callstream.agents.inference.shaped import UnusableReply
from callstream.agents.inference.step import Infer, call_id
from callstream.agents.tools import Tools
from callstream.streams.chain import Late
from callstream.streams.event import Body, Event, Json, Submission, Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.outcome import Bury, Forward, Outcome, Retry
from callstream.streams.review import with_note

MESSAGES = [{"role": "user", "content": "Brand: Kilnrow"}]
REPLY = Reply("A mug.", "stop", Usage(model="writer", calls=1, tokens_in=12, tokens_out=3), ("a note",))


@dataclass
class OnlyModel:
    """Tools of which the step takes the model and nothing else."""

    model: ScriptedModel


def event(outputs: dict[str, Json] | None = None, **changes: Any) -> Event:
    body = Body(
        submission=Submission(chain="copy", input={}),
        digest="0" * 64,
        outputs={"prompt": {"messages": MESSAGES}} if outputs is None else outputs,
    )
    fields: dict[str, Any] = {"deadline": 99.0, "traceparent": "00-trace", **changes}
    return Event("acme", "mug-1", "copy", 1, 3, body, **fields)


async def act(step: Infer, model: ScriptedModel, given: Event | None = None) -> Outcome:
    await step.open(cast(Tools, OnlyModel(model)))
    return await step.act(given or event(), MemoryCell())


async def test_an_answer_goes_on_with_its_usage_and_notes() -> None:
    outcome = await act(Infer(name="copy", pool="copywriter"), ScriptedModel([REPLY]))

    assert outcome == Forward({"text": "A mug.", "finish_reason": "stop"}, REPLY.usage, ("a note",))


async def test_the_call_says_who_asks_what_until_when() -> None:
    model = ScriptedModel([REPLY])

    await act(Infer(name="copy", pool="copywriter", params={"temperature": 0.4}, timeout_seconds=20.0), model)

    call = model.calls[0]
    assert (call.tenant, call.task, call.pool) == ("acme", "mug-1", "copywriter")
    assert (call.deadline, call.traceparent, call.timeout_seconds) == (99.0, "00-trace", 20.0)
    assert call.request == {"temperature": 0.4, "messages": MESSAGES}


def test_a_call_id_does_not_depend_on_the_attempt() -> None:
    assert call_id(event(attempt=1)) == call_id(event(attempt=2)) == "4:acme:mug-1/3/call-1"
    assert call_id(event(), 2) != call_id(event(), 1)


async def test_a_passing_failure_is_an_attempt_and_a_lasting_one_the_end() -> None:
    step = Infer(name="copy", pool="copywriter")

    later = await act(step, ScriptedModel([CallFailed("overloaded", "later", 7.0)]))
    never = await act(step, ScriptedModel([CallFailed("refused", "x" * 9000, retryable=False)]))

    assert isinstance(later, Retry)
    assert (later.failure.kind, later.failure.step, later.after_seconds) == ("overloaded", "copy", 7.0)
    assert isinstance(never, Bury)
    assert never.failure.kind == "refused"


async def test_parameters_of_the_prompt_win_over_those_of_the_step() -> None:
    model = ScriptedModel([REPLY])
    prompt = {"messages": MESSAGES, "parameters": {"temperature": 0.9}}

    await act(Infer(name="copy", pool="p", params={"temperature": 0.4, "top_p": 0.5}), model, event({"prompt": prompt}))

    assert model.calls[0].request == {"temperature": 0.9, "top_p": 0.5, "messages": MESSAGES}


@pytest.mark.parametrize("outputs", [{}, {"prompt": {}}, {"prompt": {"messages": []}}, {"prompt": {"messages": "hi"}}])
async def test_a_task_without_a_prompt_is_buried_with_the_reason(outputs: dict[str, Json]) -> None:
    outcome = await act(Infer(name="copy", pool="copywriter"), ScriptedModel([REPLY]), event(outputs))

    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "no-prompt"
    assert 'outputs["prompt"]' in outcome.failure.message


def as_title(text: str, event: Event) -> Json:
    if len(text) > 10:
        raise UnusableReply(f"a title of {len(text)} characters")
    return {"title": text, "task": event.task}


async def test_the_output_is_what_parse_makes_of_the_text() -> None:
    outcome = await act(Infer(name="title", pool="copywriter", parse=as_title), ScriptedModel([REPLY]))

    assert isinstance(outcome, Forward)
    assert outcome.output == {"title": "A mug.", "task": "mug-1"}


async def test_an_unusable_answer_is_asked_for_again_and_all_are_paid_for() -> None:
    model = ScriptedModel([Reply("far too long a title", usage=REPLY.usage), REPLY])

    outcome = await act(Infer(name="title", pool="copywriter", parse=as_title, asks=2), model)

    assert isinstance(outcome, Forward)
    assert outcome.usage is not None
    assert (outcome.usage.calls, outcome.usage.tokens_in, outcome.usage.model) == (2, 24, "writer")
    assert [call.id[-6:] for call in model.calls] == ["call-1", "call-2"]


async def test_answers_that_stay_unusable_are_buried() -> None:
    outcome = await act(Infer(name="title", pool="p", parse=as_title, asks=2), ScriptedModel([Reply("x" * 11)]))

    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "unusable-reply"
    assert "a title of 11 characters" in outcome.failure.message


async def test_a_bug_in_a_users_function_is_not_hidden() -> None:
    def broken(event: Event) -> Json:
        raise KeyError("copy")

    with pytest.raises(KeyError):
        await act(Infer(name="copy", pool="p", request=broken), ScriptedModel([REPLY]))


@pytest.mark.parametrize("asks", [0, 9])
def test_asks_are_bounded(asks: int) -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        Infer(name="copy", pool="p", asks=asks)


LATE = CallFailed("deadline", "it would wait 90 s more for tokens of large", retryable=False)


async def test_what_would_be_late_is_asked_of_another_pool_under_an_id_of_its_own() -> None:
    model = ScriptedModel([LATE, REPLY])

    outcome = await act(Infer(name="copy", pool="large", late_pool="small"), model)

    assert outcome == Forward({"text": "A mug.", "finish_reason": "stop"}, REPLY.usage, ("a note",))
    assert [call.pool for call in model.calls] == ["large", "small"]
    assert model.calls[0].id != model.calls[1].id


async def test_a_step_that_may_be_skipped_is_when_every_pool_would_be_late() -> None:
    model = ScriptedModel([LATE])

    outcome = await act(Infer(name="copy", pool="large", late_pool="small", skip_late=True), model)

    assert isinstance(outcome, Forward)
    assert (outcome.output, outcome.usage) == ({}, None)
    assert outcome.notes == (f"copy was skipped: {LATE.message}",)
    assert [call.pool for call in model.calls] == ["large", "small"]


@pytest.mark.parametrize("kind", ["overloaded", "refused"])
async def test_another_failure_is_no_reason_to_skip_or_to_change_pools(kind: str) -> None:
    model = ScriptedModel([CallFailed(kind, "no", retryable=False)])

    outcome = await act(Infer(name="copy", pool="large", late_pool="small", skip_late=True), model)

    assert isinstance(outcome, Bury)
    assert len(model.calls) == 1


async def test_without_another_pool_and_not_to_be_skipped_the_late_one_ends() -> None:
    outcome = await act(Infer(name="copy", pool="large"), ScriptedModel([LATE]))

    assert isinstance(outcome, Bury)
    assert outcome.failure.kind == "deadline"


DECLARED = Late(first=True, pool="small", skip=True)


async def test_a_call_says_what_its_step_declares_for_short_time() -> None:
    model = ScriptedModel([REPLY])

    with hasten(Haste(needs_seconds=3.0)):
        await act(Infer(name="copy", pool="large", late=DECLARED), model, event(attempt=2))
        await act(Infer(name="copy", pool="large"), model)

    assert [(call.first, call.needs_seconds, call.again) for call in model.calls] == [
        (True, 3.0, True),
        (False, 0, False),
    ]


async def test_when_time_is_short_the_other_pool_is_asked_at_once() -> None:
    model = ScriptedModel([REPLY])

    with hasten(Haste(needs_seconds=3.0, short=True)):
        await act(Infer(name="copy", pool="large", late=DECLARED), model)

    assert [(call.pool, call.id[-6:], call.needs_seconds) for call in model.calls] == [("small", "call-2", 0.0)]


async def test_late_and_the_older_words_for_it_mean_the_same() -> None:
    older = Infer(name="copy", pool="large", late_pool="small", skip_late=True)

    assert older.late == Late(pool="small", skip=True)
    with pytest.raises(ValueError, match="say with late alone"):
        Infer(name="copy", pool="large", late=Late(), skip_late=True)


async def test_a_writer_is_told_what_was_said_about_its_text() -> None:
    model = ScriptedModel([REPLY])
    told = {"moderate": {"guides": "copy", "guidance": "No 'best'."}, "other": {"guides": "title", "guidance": "x"}}
    given = event({"prompt": {"messages": MESSAGES}, "copy": {"text": "The best mug."}, **told})

    await act(Infer(name="copy", pool="copywriter"), model, given)

    assert model.calls[0].request["messages"] == [
        *MESSAGES,
        {"role": "assistant", "content": "The best mug."},
        {"role": "user", "content": "No 'best'."},
    ]
    assert (await Infer(name="copy", pool="copywriter").rehearse(given))["would_send"]["request"] == {
        "messages": model.calls[0].request["messages"]
    }


@pytest.mark.parametrize("said", [{"guides": "copy"}, {"guides": "copy", "guidance": 7}, {"guidance": "No."}])
async def test_what_is_no_guidance_changes_nothing(said: Json) -> None:
    model = ScriptedModel([REPLY])

    await act(Infer(name="copy", pool="copywriter"), model, event({"prompt": {"messages": MESSAGES}, "other": said}))

    assert model.calls[0].request["messages"] == MESSAGES


async def test_what_a_reviewer_asks_for_follows_the_messages_of_the_step_that_is_to_write_again() -> None:
    model, given = ScriptedModel([REPLY, REPLY]), with_note(event(), "copy", "shorter", "A long mug.")

    await act(Infer(name="copy", pool="large"), model, given)
    await act(Infer(name="title", pool="large"), model, given)

    said = [
        {"role": "assistant", "content": "A long mug."},
        {"role": "user", "content": "A reviewer asks you to write it again: shorter"},
    ]
    assert [call.request["messages"] for call in model.calls] == [[*MESSAGES, *said], MESSAGES]
