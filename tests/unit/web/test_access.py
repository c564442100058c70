"""The key says who asks; without keys only this machine may, and no page of another site."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from callstream.web.fake import FakePort
from callstream.web.options import ApiKey, Role, WebOptions
from tests.unit.web.conftest import Client, Start, submission

SUBMIT, REVIEW, OPERATE = ({"key": f"{role}-0123456789abcdef", "tenant": "acme", "role": role} for role in
                           ("submit", "review", "operate"))  # fmt: skip
KEYS: tuple[dict[str, Any], ...] = (SUBMIT, REVIEW, OPERATE)


def bearer(entry: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {entry['key']}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-0123456789abcdef"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff").decode()},
        {"Authorization": "Digest submit-0123456789abcdef"},
        {"Authorization": "Bearer submit-0123456789abcde\xe4"},
    ],
)
async def test_an_unknown_key_is_refused(start: Start, port: FakePort, headers: dict[str, str]) -> None:
    client = await start(api_keys=KEYS)

    response = await client.post("/v1/tasks", json=submission(), headers=headers)

    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic")
    assert port.events == []


async def test_the_key_says_the_tenant(start: Start, port: FakePort) -> None:
    client = await start(api_keys=KEYS)

    response = await client.post("/v1/tasks", json=submission(), headers=bearer(SUBMIT))

    assert response.status == 202
    assert port.events[0].tenant == "acme"


async def test_a_browser_shows_the_key_as_password(start: Start) -> None:
    client = await start(api_keys=KEYS)
    shown = base64.b64encode(f"me:{OPERATE['key']}".encode()).decode()

    assert (await client.get("/v1/chains", headers={"Authorization": f"Basic {shown}"})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "lowest"),
    [
        ("GET", "/v1/chains", Role.SUBMIT),
        ("GET", "/v1/reviews", Role.REVIEW),
        ("GET", "/metrics", Role.OPERATE),
        ("HEAD", "/metrics", Role.OPERATE),
        ("GET", "/tables", Role.OPERATE),
        ("GET", "/v1/latency", Role.OPERATE),
    ],
)
async def test_a_role_allows_what_lower_ones_do(start: Start, method: str, path: str, lowest: Role) -> None:
    client = await start(api_keys=KEYS)

    statuses = [(await client.request(method, path, headers=bearer(entry))).status for entry in KEYS]

    assert statuses == [200 if role >= lowest else 403 for role in Role]


@pytest.mark.parametrize("path", ["/v1/health", "/v1/health/live", "/v1/health/ready"])
async def test_health_needs_no_key(start: Start, path: str) -> None:
    client = await start(api_keys=KEYS)

    assert (await client.get(path)).status == 200


async def test_another_tenants_tasks_do_not_exist(start: Start) -> None:
    other = {"key": "other-0123456789abcdef", "tenant": "other", "role": "operate"}
    client = await start(api_keys=(*KEYS, other))
    await client.post("/v1/tasks", json=submission(id="mug-1"), headers=bearer(SUBMIT))

    for path in ("/v1/tasks/mug-1", "/v1/tasks/mug-1/events", "/v1/reviews/mug-1"):
        assert (await client.get(path, headers=bearer(other))).status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1", ""])
async def test_without_keys_a_foreign_name_is_refused(client: Client, host: str) -> None:
    response = await client.get("/v1/chains", headers={"Host": host})

    assert response.status in (400, 403)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_pages_of_other_sites_are_refused(client: Client, port: FakePort, origin: str) -> None:
    response = await client.post("/v1/tasks", json=submission(), headers={"Origin": origin})

    assert response.status == 403
    assert port.events == []


async def test_pages_of_this_gateway_are_not(client: Client) -> None:
    origin = str(client.make_url("/")).rstrip("/")

    assert (await client.get("/v1/chains", headers={"Origin": origin})).status == 200


def test_a_host_that_others_reach_needs_keys() -> None:
    with pytest.raises(ValidationError, match=r"'0\.0\.0\.0' can be reached from other machines"):
        WebOptions(host="0.0.0.0")

    key = ApiKey(key="0123456789abcdef", tenant="acme")  # type: ignore[arg-type]
    assert WebOptions(host="0.0.0.0", api_keys=(key,)).api_keys[0].role is Role.SUBMIT
    assert WebOptions(host="::1").host == "::1"


def test_keys_are_long_distinct_and_never_shown() -> None:
    with pytest.raises(ValidationError, match="at least 16"):
        ApiKey.model_validate({"key": "short", "tenant": "acme"})
    with pytest.raises(ValidationError, match="same key"):
        WebOptions.model_validate({"api_keys": [SUBMIT, SUBMIT]})
    with pytest.raises(ValidationError, match="submit, review or operate"):
        ApiKey.model_validate(SUBMIT | {"role": "god"})
    assert "0123456789" not in repr(WebOptions.model_validate({"api_keys": [SUBMIT]}))
