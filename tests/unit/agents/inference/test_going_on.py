from typing import Any

import pytest

from callstream.agents.inference.admission.tokens import Estimator
from callstream.agents.inference.call import Draft
from callstream.agents.inference.fakes import a_call
from callstream.agents.inference.going_on import can_go_on, reserved
from callstream.agents.inference.options import EndpointOptions

USER = {"role": "user", "content": "A mug?"}
BEGUN = "word " * 1000


def endpoint(**more: Any) -> EndpointOptions:
    return EndpointOptions.model_validate({"name": "own", "base_url": "http://h/v1", "model": "m", **more})


@pytest.mark.parametrize(
    ("request_", "can"),
    [
        ({"messages": [USER]}, True),
        ({"messages": []}, True),
        ({"input": ["a"]}, False),
        ({"messages": [USER, {"role": "assistant", "content": "It is"}]}, False),
        ({"messages": [USER], "response_format": {"type": "json_object"}}, False),
        ({"messages": [USER], "guided_json": {}}, False),
    ],
)
def test_what_has_no_shape_and_no_beginning_of_its_own_can_go_on(request_: dict[str, Any], can: bool) -> None:
    assert can_go_on(request_) is can


def test_what_is_gone_on_with_is_reserved_as_a_part_of_the_prompt() -> None:
    call = a_call(stream=True, draft=Draft(BEGUN))
    able, unable = endpoint(continue_with={}), endpoint(name="other")
    plain = reserved(Estimator(), "m", call, [unable])

    for going_on in (reserved(Estimator(), "m", call, [unable, able]), reserved(Estimator(), "m", call, [able])):
        assert going_on.tokens_in > plain.tokens_in + 1000
        assert going_on.size is None
    for other in (
        a_call(draft=Draft(BEGUN)),
        a_call(stream=True),
        a_call(stream=True, second=True, draft=Draft(BEGUN)),
    ):
        assert reserved(Estimator(), "m", other, [able]) == plain
    assert plain.size is not None


def test_what_would_fit_no_endpoint_that_goes_on_is_reserved_as_if_it_were_asked_anew() -> None:
    call = a_call(stream=True, draft=Draft(BEGUN))
    small = endpoint(continue_with={}, context_tokens=1200)

    assert reserved(Estimator(), "m", call, [small]) == Estimator().reserve("m", call.request)
