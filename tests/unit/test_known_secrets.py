from pathlib import Path

import pytest

from callstream.agents.masking import Mask
from callstream.known_secrets import known_secrets
from callstream.settings import Settings


def settings(**inference: object) -> Settings:
    return Settings.model_validate(
        {
            "delivery": {"database_url": "postgresql://shop:row-house-9@db.test/catalogue"},
            "inference": {"pools": {"copywriter": {"endpoints": [{"name": "a", "model": "m", **inference}]}}},
        }
    )


def test_keys_secret_headers_and_the_databases_password_are_known(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file-1\n")
    given = settings(
        base_url="http://h/v1", api_key_file=str(tmp_path / "key"), headers={"X-Team": "plain-team-secret"}
    )
    assert set(known_secrets(given)) == {"from-a-file-1", "plain-team-secret", "row-house-9"}
    mask = Mask(known_secrets(given))
    assert mask("KeyError: 'from-a-file-1 plain-team-secret row-house-9'") == "KeyError: '*** *** ***'"


def test_the_password_of_a_sink_is_known(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of-the-cache\n")
    redis = {"kind": "redis", "url": "redis://cache:6379", "api_key_file": str(tmp_path / "key")}
    gone = {"kind": "http", "url": "https://shop.test", "api_key_file": str(tmp_path / "none")}
    found = set(known_secrets(Settings.model_validate({"sinks": {"cache": redis, "gone": gone}})))
    assert found - {""} == {"of-the-cache"}


def test_a_key_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    given = settings(base_url="http://h/v1", api_key_file=str(tmp_path / "none"))
    assert set(known_secrets(given)) == {"row-house-9"}


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it() -> None:
    mask = Mask(["abcdef", "abcdefghi"])
    mask.learn(["xyzxyz"])
    assert mask("abcdefghi abcdef xyzxyz") == "*** *** ***"


@pytest.mark.parametrize("short", ["", "a", "abcde"])
def test_what_is_too_short_to_be_a_secret_masks_no_words(short: str) -> None:
    assert Mask([short])("abcde a b") == "abcde a b"
