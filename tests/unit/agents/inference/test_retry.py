from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.call import CallFailed, Reply
from callstream.agents.inference.fakes import ScriptedModel, a_call
from callstream.agents.inference.options import RetryOptions
from callstream.agents.inference.retry import Sources, pause_seconds, retry
from callstream.streams.event import Usage

LATER = CallFailed("overloaded", "later")
NEVER = CallFailed("refused", "never", retryable=False)
REPLY = Reply("A mug.", usage=Usage(calls=1))


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def sources(self) -> Sources:
        return Sources(clock=lambda: self.now, chance=lambda: 0.5, sleep=self.sleep)


def options(**changes: Any) -> RetryOptions:
    return RetryOptions.model_validate({"attempts": 4, "first_pause_seconds": 1, "longest_pause_seconds": 3, **changes})


async def test_a_passing_failure_is_tried_again_with_growing_pauses() -> None:
    time, model = Time(), ScriptedModel([LATER, LATER, LATER, REPLY])

    reply = await retry(options(), time.sources)(model)(a_call())

    assert time.slept == [0.5, 1.0, 1.5]
    assert [call.attempt for call in model.calls] == [1, 2, 3, 4]
    assert reply.usage.calls == 4


async def test_attempts_are_bounded() -> None:
    time, model = Time(), ScriptedModel([LATER])

    with pytest.raises(CallFailed):
        await retry(options(attempts=3), time.sources)(model)(a_call())

    assert len(model.calls) == 3


async def test_a_lasting_failure_is_not_tried_again() -> None:
    time, model = Time(), ScriptedModel([NEVER])

    with pytest.raises(CallFailed):
        await retry(options(), time.sources)(model)(a_call())

    assert (len(model.calls), time.slept) == (1, [])


async def test_what_the_endpoint_asks_for_is_waited() -> None:
    time = Time()

    await retry(options(), time.sources)(ScriptedModel([CallFailed("overloaded", "", 20.0), REPLY]))(a_call())

    assert time.slept == [20.5]


async def test_a_longer_wait_is_left_to_the_step() -> None:
    time = Time()

    with pytest.raises(CallFailed) as failure:
        await retry(options(), time.sources)(ScriptedModel([CallFailed("overloaded", "", 600.0)]))(a_call())

    assert (failure.value.after_seconds, time.slept) == (600.0, [])


async def test_no_pause_goes_past_the_end_of_the_call() -> None:
    time = Time()

    with pytest.raises(CallFailed):
        await retry(options(), time.sources)(ScriptedModel([LATER]))(a_call(deadline=1001.2))

    assert time.slept == [0.5]


@given(
    st.integers(1, 10**9),
    st.none() | st.floats(0, 3600),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 60),
    st.floats(0, 600),
)
def test_a_pause_is_never_shorter_than_asked_and_never_longer_than_the_caps(
    attempt: int, asked: float | None, chance: float, first: float, longest: float
) -> None:
    given_options = options(attempts=20, first_pause_seconds=first, longest_pause_seconds=longest)

    pause = pause_seconds(given_options, attempt, CallFailed("overloaded", "", asked), chance)

    if pause is None:
        assert attempt >= 20 or (asked or 0) > 60
    else:
        assert (asked or 0) <= pause <= (asked or 0) + longest
        assert pause - (asked or 0) <= first * 2**attempt + 1e-6
