import asyncio

import pytest

from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.inference.timeout import timeout

NOW = 1000.0


async def never(call: Call) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError("woke up")


@pytest.mark.parametrize(
    ("deadline", "step_seconds", "end"), [(None, 60.0, 1060.0), (1005.0, 60.0, 1005.0), (2000.0, 60.0, 1060.0)]
)
async def test_inner_layers_are_told_the_nearer_end(deadline: float | None, step_seconds: float, end: float) -> None:
    model = ScriptedModel([Reply("ok")])

    await timeout(lambda: NOW)(model)(a_call(deadline=deadline, timeout_seconds=step_seconds))

    assert model.calls[0].deadline == end


async def test_late_work_is_not_started() -> None:
    model = ScriptedModel([Reply("ok")])

    with pytest.raises(CallFailed) as failure:
        await timeout(lambda: NOW)(model)(a_call(deadline=NOW))

    assert (failure.value.kind, failure.value.retryable, model.calls) == ("deadline", False, [])


async def test_the_steps_time_out_may_be_retried() -> None:
    with pytest.raises(CallFailed) as failure:
        await timeout(lambda: NOW)(never)(a_call(timeout_seconds=0.01))

    assert (failure.value.kind, failure.value.retryable) == ("timeout", True)


async def test_the_tasks_deadline_is_final() -> None:
    with pytest.raises(CallFailed) as failure:
        await timeout(lambda: NOW)(never)(a_call(deadline=NOW + 0.01))

    assert (failure.value.kind, failure.value.retryable) == ("deadline", False)


async def test_a_time_out_of_something_else_is_not_taken_for_ours() -> None:
    with pytest.raises(TimeoutError):
        await timeout(lambda: NOW)(ScriptedModel([TimeoutError("the log")]))(a_call())
