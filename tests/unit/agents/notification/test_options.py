from base64 import b64encode

import pytest
from pydantic import SecretStr, ValidationError

from callstream.agents.notification import NotifyOptions


def secret(letter: str = "k", length: int = 32) -> SecretStr:
    return SecretStr("whsec_" + b64encode(letter.encode() * length).decode())


def test_a_tenants_own_secret_comes_first() -> None:
    options = NotifyOptions(secret=secret("a"), tenant_secrets={"acme": secret("b")})
    assert options.secret_of("acme") == secret("b").get_secret_value()
    assert options.secret_of("other") == secret("a").get_secret_value()
    assert NotifyOptions().secret_of("acme") is None


@pytest.mark.parametrize(
    "given", ["hush", "whsec_", "whsec_!!!!hush", "whsec_aHVzaA==", secret(length=65).get_secret_value(), "aHVzaA" * 8]
)
def test_a_weak_or_broken_secret_is_refused_and_not_repeated(given: str) -> None:
    for options in ({"secret": given}, {"tenant_secrets": {"acme": given}}):
        with pytest.raises(ValidationError, match="openssl rand") as refused:
            NotifyOptions.model_validate(options)
        assert "input_value" not in str(refused.value)


def test_secrets_are_masked() -> None:
    options = NotifyOptions(secret=secret(), tenant_secrets={"acme": secret()})
    assert secret().get_secret_value() not in repr(options)
