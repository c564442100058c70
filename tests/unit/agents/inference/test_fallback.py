"""Another endpoint where this one never will do, each asked once."""

import pytest

from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.inference.failures import Kind, failed
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.fallback import fallback
from callstream.agents.inference.options import PoolOptions

SIZES = {"small": 1_000, "same": 1_000, "large": 8_000, "unsaid": None}


def pool(on_refused_by_policy: str = "stop") -> PoolOptions:
    endpoints = [
        {"name": name, "base_url": "http://h/v1", "model": "m", "context_tokens": size} for name, size in SIZES.items()
    ]
    return PoolOptions.model_validate({"endpoints": endpoints, "on_refused_by_policy": on_refused_by_policy})


class Endpoints:
    """Sends each call to the first endpoint that it need not avoid, and fails it with what that one is told to."""

    def __init__(self, failures: dict[str, Kind]) -> None:
        self.failures = failures
        self.asked: list[str] = []

    async def __call__(self, call: Call) -> Reply:
        name = next(name for name in SIZES if name not in call.avoid)
        self.asked.append(name)
        if (kind := self.failures.get(name)) is None:
            return Reply(f"from {name}")
        failure = failed(kind, "no")
        failure.endpoint = name
        raise failure


async def test_a_prompt_too_long_goes_to_those_that_take_more() -> None:
    endpoints = Endpoints({"small": Kind.CONTEXT_TOO_LONG})
    reply = await fallback({"copywriter": pool()})(endpoints)(a_call())
    assert (reply.text, endpoints.asked) == ("from large", ["small", "large"])


async def test_it_fails_when_it_is_too_long_for_all() -> None:
    endpoints = Endpoints(dict.fromkeys(SIZES, Kind.CONTEXT_TOO_LONG))
    with pytest.raises(CallFailed) as failure:
        await fallback({"copywriter": pool()})(endpoints)(a_call())
    assert failure.value.kind == Kind.CONTEXT_TOO_LONG
    assert endpoints.asked == ["small", "large", "unsaid"]


@pytest.mark.parametrize(("told", "asked"), [("stop", ["small"]), ("next", ["small", "same"])])
async def test_what_a_filter_refuses_goes_on_only_where_the_settings_say_so(told: str, asked: list[str]) -> None:
    endpoints = Endpoints({"small": Kind.REFUSED_BY_POLICY})
    model = fallback({"copywriter": pool(told)})(endpoints)
    if told == "stop":
        with pytest.raises(CallFailed):
            await model(a_call())
    else:
        assert (await model(a_call())).text == "from same"
    assert endpoints.asked == asked


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.DEADLINE])
async def test_other_failures_are_for_others_to_mend(kind: Kind) -> None:
    endpoints = Endpoints({"small": kind})
    with pytest.raises(CallFailed):
        await fallback({"copywriter": pool()})(endpoints)(a_call())
    assert endpoints.asked == ["small"]
