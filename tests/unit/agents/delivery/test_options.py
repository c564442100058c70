import pytest
from pydantic import SecretStr, ValidationError

from callstream.agents.delivery import DeliveryOptions


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:///a/b.db", "sqlite+aiosqlite:///a/b.db"),
        ("sqlite+aiosqlite:////tmp/b.db", "sqlite+aiosqlite:////tmp/b.db"),
        ("postgres://u:p@h/n", "postgresql+asyncpg://u:***@h/n"),
        ("postgresql://u@/n?host=/run", "postgresql+asyncpg://u@/n?host=%2Frun"),
    ],
)
def test_a_plain_url_gets_the_driver_that_is_used(given: str, used: str) -> None:
    assert DeliveryOptions(database_url=SecretStr(given)).url.render_as_string(hide_password=True) == used


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("catalogue.db", "not a database URL"),
        ("mysql://u:hush@h/n", "'mysql' is not supported"),
        ("sqlite://", "names no database"),
        ("sqlite:///:memory:", "names no database"),
        ("postgresql://u:hush@h", "names no database"),
    ],
)
def test_other_urls_are_refused_without_repeating_the_password(given: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        DeliveryOptions.model_validate({"database_url": given})
    assert "hush" not in str(refused.value)


def test_the_password_is_masked() -> None:
    options = DeliveryOptions(database_url=SecretStr("postgresql://u:hush@h/n"))
    assert "hush" not in repr(options)
    assert "hush" not in repr(options.url)
