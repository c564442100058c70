import math
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from callstream.agents.inference.options import (
    EndpointOptions,
    InferenceOptions,
    LimitOptions,
    PoolOptions,
)
from callstream.agents.secret import UnusableSecret

LIMITS = sorted(LimitOptions.model_fields)


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
        ({"a": {"endpoints": [endpoint(weight=0), endpoint(name="b", weight=0)]}}, "pools.a\n.*weights .* sum to 0"),
        ({"a": {"endpoints": [endpoint()], "on_refused_by_policy": "retry"}}, "'stop' or 'next'"),
        ({"a": {"endpoints": [endpoint()], "hedge_after_quantile": 1}}, "hedge_after_quantile"),
        ({"a": {"endpoints": [endpoint()], "hedge_after_quantile": True}}, "must be a number"),
        ({"a": {"endpoints": [endpoint()], "most_hedged": -0.1}}, "most_hedged"),
        ({"a": {"endpoints": [endpoint()], "most_hedged": 0.6}}, "most_hedged"),
        ({"a": {"endpoints": [endpoint()], "most_hedged": math.nan}}, "most_hedged"),
        ({"a": {"endpoints": [endpoint()], "most_hedged": True}}, "must be a number"),
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
        "http://host/v1/chat/completions",
        "http://host/v1/Chat/Completions/",
        "http://host/v1/completions",
    ],
)
def test_a_url_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        EndpointOptions.model_validate(endpoint(base_url=url))


def test_a_url_that_says_too_much_is_told_where_to_end() -> None:
    with pytest.raises(ValidationError, match=r"must end before /chat/completions: give http://host/v1 ") as refusal:
        EndpointOptions.model_validate(endpoint(base_url="http://host/v1/chat/completions"))
    assert refusal.value.error_count() == 1


@pytest.mark.parametrize("url", ["http://host/v1", "http://host/v1/"])
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


def test_a_key_is_sent_trimmed_as_a_bearer_and_without_one_nothing_is() -> None:
    padded = EndpointOptions.model_validate(endpoint(api_key=" sk-1\n", headers={"api-key": "k"}))

    assert padded.secret_headers() == {"api-key": "k", "Authorization": "Bearer sk-1"}
    assert EndpointOptions.model_validate(endpoint()).secret_headers() == {}


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_header_that_the_key_makes_is_refused_with_where_the_key_belongs(name: str) -> None:
    with pytest.raises(ValidationError, match="set api_key or api_key_file") as refusal:
        EndpointOptions.model_validate(endpoint(headers={name: "Bearer sk-very-secret"}))
    assert "very-secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "is empty: set it to the key, or leave it unset"),
        (" \n", "is empty"),
        ("sk-hush\nsk-two", "has a line break at character 8"),
        ("sk-hush two", "has a space at character 8"),
        ("sk-hushé", "has a character that no header can carry at character 8"),
        ("sk-hush\x00", "has a character that no header can carry at character 8"),
        ("Bearer sk-hush", "begins with Bearer"),
        ("k" * 4097, "has 4,097"),
    ],
)
def test_a_key_that_is_none_is_told_with_what_is_wrong_with_it(key: str, told: str) -> None:
    with pytest.raises(UnusableSecret, match=f"endpoint local: api_key .*{told}") as refusal:
        EndpointOptions.model_validate(endpoint(api_key=key)).secret_headers()
    assert refusal.value.place == ("api_key",)
    assert "hush" not in str(refusal.value)


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


@pytest.mark.parametrize("value", [0, -1, math.nan, 1e999, True, False, 0.5, "many", 10**13, None])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_is_a_whole_number_from_1_or_unset(limit: str, value: object) -> None:
    for given in (
        {"accounts": {"a": {limit: value}}},
        {"pools": {"a": {"endpoints": [endpoint(limits={limit: value})]}}},
    ):
        if value is None:
            InferenceOptions.model_validate(given)
        else:
            with pytest.raises(ValidationError, match=limit):
                InferenceOptions.model_validate(given)


def test_an_endpoint_has_limits_of_its_own_and_those_of_its_account() -> None:
    options = InferenceOptions.model_validate(
        {
            "accounts": {"acme": {"tokens_per_minute": 90_000, "requests_per_day": 10_000}},
            "pools": {"a": {"endpoints": [endpoint(account="acme", limits={"requests_per_minute": 60})]}},
        }
    )

    (only,) = options.endpoints().values()
    assert only.account == "acme"
    assert only.limits == LimitOptions(requests_per_minute=60)
    assert options.accounts["acme"] == LimitOptions(tokens_per_minute=90_000, requests_per_day=10_000)


@pytest.mark.parametrize(("declared", "told"), [({}, "there are: none"), ({"b": {}, "acme": {}}, "there are: acme, b")])
def test_an_account_that_is_not_declared_is_named_with_those_that_are(declared: Any, told: str) -> None:
    pools = {"a": {"endpoints": [endpoint(account="acmee")]}}
    with pytest.raises(ValidationError, match=f"endpoint local names the account 'acmee', .* {told}"):
        InferenceOptions.model_validate({"pools": pools, "accounts": declared})


def test_all_that_does_not_fit_together_is_told_at_once() -> None:
    pools = {
        "a": {"endpoints": [endpoint(account="x"), endpoint()]},
        "b": {"endpoints": [endpoint(name="c", account="y")]},
    }
    with pytest.raises(ValidationError, match=r"more than once: local; .* account 'y'"):
        InferenceOptions.model_validate({"pools": pools})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("weight", value) for value in (-1, 1001, True, math.nan, 1.5)),
        *(("price_in_per_million", value) for value in (-1, math.nan, 1e999, True, "free", 10**7)),
        *(("price_out_per_million", value) for value in (-0.01, math.inf, False)),
        *(("context_tokens", value) for value in (0, -1, True, 1e999)),
        *(("max_answer_tokens", value) for value in (0, -1, True, None)),
        *(("least_concurrency", value) for value in (0, -1, True, 17)),
        *(("start_concurrency", value) for value in (0, True, 17)),
        ("account", "An account"),
        ("limits", {"requests_per_hour": 1}),
    ],
)
def test_what_an_endpoint_cannot_be_told_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        EndpointOptions.model_validate(endpoint(**{field: value}))


def test_what_is_learned_begins_within_its_bounds() -> None:
    bounds = {"concurrency": 8, "least_concurrency": 2}

    assert EndpointOptions.model_validate(endpoint(**bounds, start_concurrency=2)).start_concurrency == 2
    with pytest.raises(ValidationError, match=r"start_concurrency \(1\) must be from .* \(2\) to concurrency \(8\)"):
        EndpointOptions.model_validate(endpoint(**bounds, start_concurrency=1))


def test_a_price_is_taken_as_it_is_written() -> None:
    assert EndpointOptions.model_validate(endpoint(price_in_per_million=0.15)).price_in_per_million == Decimal("0.15")
    assert EndpointOptions.model_validate(endpoint(price_in_per_million="0.6")).price_in_per_million == Decimal("0.6")


def test_without_shares_lanes_have_16_4_and_1() -> None:
    assert InferenceOptions().lanes == {"high": 16, "normal": 4, "low": 1}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lanes": {"high": 3, "low": 1}}, "missing: normal"),
        ({"lanes": {}}, "missing: high, normal, low"),
        ({"lanes": {"high": 3, "normal": 2, "low": 1, "urgent": 9}}, "urgent"),
        ({"lanes": {"high": 3, "normal": 2, "low": 0}}, "low"),
        ({"lanes": {"high": 3, "normal": 2, "low": True}}, "low"),
        ({"tenants": {"acme": 0}}, "acme"),
        ({"tenants": {"acme": 1001}}, "acme"),
        ({"tenants": {"acme": math.nan}}, "acme"),
        ({"tenants": {"acme": True}}, "acme"),
        ({"tenants": {"no tenant": 1}}, "pattern"),
        ({"accounts": {"No account": {}}}, "pattern"),
        ({"window_margin_seconds": 0.4}, "window_margin_seconds"),
        ({"window_margin_seconds": 31}, "window_margin_seconds"),
        ({"window_margin_seconds": math.nan}, "window_margin_seconds"),
        ({"window_margin_seconds": True}, "window_margin_seconds"),
    ],
)
def test_shares_that_make_no_sense_are_refused(given: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        InferenceOptions.model_validate(given)


def test_a_key_can_come_from_a_file_and_is_read_when_it_is_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    options = EndpointOptions.model_validate(endpoint(api_key_file=file))

    file.write_text(" sk-1\n")
    assert options.secret_headers() == {"Authorization": "Bearer sk-1"}
    file.write_text("sk-2")
    assert options.secret_headers() == {"Authorization": "Bearer sk-2"}


def test_a_key_from_two_places_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="api_key and api_key_file are both set") as refusal:
        EndpointOptions.model_validate(endpoint(api_key="sk-very-secret", api_key_file=tmp_path / "key"))

    assert "very-secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda file: None, "cannot be read: No such file"),
        (lambda file: file.mkdir(), "cannot be read: it is not a regular file"),
        (lambda file: os.mkfifo(file), "cannot be read: it is not a regular file"),
        (lambda file: file.write_text(""), "is empty"),
        (lambda file: file.write_text(" \n"), "is empty"),
        (lambda file: file.write_bytes(b"sk-\xff"), "must be printable ASCII"),
        (lambda file: file.write_text("k" * 5000), "at most 4,096 characters"),
        (lambda file: file.write_text("sk-one\nsk-two\n"), "must be printable ASCII"),
    ],
)
def test_a_key_file_that_gives_no_key_is_named_and_not_quoted(tmp_path: Path, made: Any, told: str) -> None:
    file = tmp_path / "key"
    made(file)

    with pytest.raises(UnusableSecret, match=f"endpoint local: .*api_key_file {file} .*{told}") as refusal:
        EndpointOptions.model_validate(endpoint(api_key_file=file)).secret_headers()
    assert "sk-" not in str(refusal.value)
    assert "kkkk" not in str(refusal.value)
