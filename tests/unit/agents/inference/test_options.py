from typing import Any

import pytest
from pydantic import ValidationError

from callstream.agents.inference.options import EndpointOptions, InferenceOptions, PoolOptions


def endpoint(**changes: Any) -> dict[str, Any]:
    return {"name": "local", "base_url": "http://127.0.0.1:8000/v1", "model": "writer", **changes}


def test_endpoints_are_found_by_name_over_all_pools() -> None:
    options = InferenceOptions.model_validate(
        {"pools": {"a": {"endpoints": [endpoint()]}, "b": {"endpoints": [endpoint(name="other")]}}}
    )

    assert list(options.endpoints()) == ["local", "other"]


def test_no_pool_at_all_is_fine() -> None:
    assert InferenceOptions().endpoints() == {}


@pytest.mark.parametrize(
    ("pools", "told"),
    [
        ({"a": {"endpoints": []}}, "at least 1"),
        ({"A pool": {"endpoints": [endpoint()]}}, "pattern"),
        ({"a": {"endpoints": [endpoint(), endpoint()]}}, "used more than once: local"),
        ({"a": {"endpoints": [endpoint()]}, "b": {"endpoints": [endpoint()]}}, "used more than once: local"),
        ({"a": {"endpoints": [endpoint()], "weight": 3}}, "Extra inputs"),
    ],
)
def test_pools_that_make_no_sense_are_refused_with_the_reason(pools: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        InferenceOptions.model_validate({"pools": pools})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://host/v1",
        "http://",
        "http://host:0/v1",
        "http://host:99999/v1",
        "http://user:secret@host/v1",
        "http://host/v1?key=secret",
        "http://host/v1#here",
        "http://ho st/v1",
        "http://host/v1\r\nX-Evil: 1",
    ],
)
def test_a_url_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        EndpointOptions.model_validate(endpoint(base_url=url))


@pytest.mark.parametrize("url", ["http://host/v1", "http://host/v1/", "http://host/v1/chat/completions"])
def test_a_url_is_kept_up_to_its_version(url: str) -> None:
    assert EndpointOptions.model_validate(endpoint(base_url=url)).base_url == "http://host/v1"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**9, "many"])
@pytest.mark.parametrize("field", ["concurrency", "timeout_seconds"])
def test_a_bound_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        EndpointOptions.model_validate(endpoint(**{field: value}))


@pytest.mark.parametrize(
    "name", ["X A", "X-A\r\nX-B", "", "Idempotency-Key", "X-Callstream-Task", "traceparent", "x" * 65]
)
def test_a_header_that_is_ours_or_none_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="headers") as refusal:
        EndpointOptions.model_validate(endpoint(headers={name: "hidden-value"}))

    assert "hidden-value" not in str(refusal.value)


def test_a_key_is_sent_trimmed_as_a_bearer_and_an_empty_one_not_at_all() -> None:
    padded = EndpointOptions.model_validate(endpoint(api_key=" sk-1\n", headers={"api-key": "k"}))
    empty = EndpointOptions.model_validate(endpoint(api_key=" "))

    assert padded.secret_headers() == {"api-key": "k", "Authorization": "Bearer sk-1"}
    assert empty.secret_headers() == {}


def test_secrets_are_printed_nowhere() -> None:
    given = endpoint(api_key="sk-very-secret", headers={"api-key": "also-secret"})
    options = InferenceOptions(
        pools={"a": PoolOptions(endpoints=(EndpointOptions.model_validate(given),))},
    )

    shown = f"{options!r} {options} {options.model_dump()} {options.model_dump_json()}"
    assert "secret" not in shown.replace("SecretStr", "")


@pytest.mark.parametrize("secret", ["sk-gehéim", "sk-1\r\nX-Evil: 1", "k" * 5000])
def test_a_secret_that_no_header_can_hold_is_refused_without_being_shown(secret: str) -> None:
    keyed = EndpointOptions.model_validate(endpoint(api_key=secret))
    headed = EndpointOptions.model_validate(endpoint(headers={"X-A": secret}))

    for options, where in ((keyed, "api_key"), (headed, "header X-A")):
        with pytest.raises(ValueError, match=f"endpoint local: {where}") as refusal:
            options.secret_headers()
        assert secret not in str(refusal.value)
