"""Profiles over HTTP: put, erased, and what is refused."""

from urllib.parse import quote

import pytest

from callstream.tables.profiles import MAX_PROFILE_BYTES
from callstream.web.fake import FakePort
from tests.unit.web.conftest import Client

ANN = "/v1/profiles/ann"


async def test_a_profile_is_put_replaced_and_erased(client: Client, port: FakePort) -> None:
    for profile in ({"name": "Ann", "language": "en"}, {"language": "zh"}):
        said = await client.put(ANN, json=profile)
        assert (said.status, await said.json()) == (202, {"user": "ann"})
        assert list(port.profiles.values()) == [profile]
    for _ in range(2):
        assert (await client.delete(ANN)).status == 202
        assert port.profiles == {}


@pytest.mark.parametrize("user", ["李伟", "a b", "kim@example.com", "x" * 128, "a/b"])
async def test_users_have_many_names(client: Client, port: FakePort, user: str) -> None:
    assert (await client.put(f"/v1/profiles/{quote(user, safe='')}", json={})).status == 202
    assert [whose for _, whose in port.profiles] == [user]


@pytest.mark.parametrize("user", ["x" * 129, " a", "a ", "a\u0000b", "\u200b", "\n"])
async def test_what_is_no_name_is_refused(client: Client, port: FakePort, user: str) -> None:
    said = await client.put(f"/v1/profiles/{quote(user, safe='')}", json={})
    assert said.status == 400
    assert "1 to 128 printable characters" in (await said.json())["detail"]
    assert port.profiles == {}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"[]", 422),
        (b"{", 400),
        (b'{"a": NaN}', 400),
        (b'"x"', 422),
        (b'{"a": "' + b"x" * MAX_PROFILE_BYTES + b'"}', 413),
        (b"", 400),
    ],
)
async def test_what_is_no_profile_is_refused(client: Client, port: FakePort, raw: bytes, status: int) -> None:
    said = await client.put(ANN, data=raw, headers={"content-type": "application/json"})
    assert said.status == status
    assert port.profiles == {}
