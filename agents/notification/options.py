"""How callers are told of their tasks' end: secrets, attempts, time-outs and which addresses may be called."""

import base64
import binascii
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from callstream.streams.keys import Tenant

PREFIX = "whsec_"
FEWEST_SECRET_BYTES = 24
MOST_SECRET_BYTES = 64


class NotifyOptions(BaseModel):
    """Callbacks by Standard Webhooks. Without a secret no callback is sent: an unsigned one could be anybody's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: SecretStr | None = Field(
        default=None, description="Signs callbacks: `whsec_` and the base64 of 24 to 64 random bytes."
    )
    tenant_secrets: dict[Tenant, SecretStr] = Field(
        default_factory=dict, max_length=10_000, description="Secrets of single tenants, instead of `secret`."
    )
    attempts: Annotated[int, Field(ge=1, le=50)] = Field(default=8, description="Tries for one callback.")
    first_pause_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        default=1.0, description="Longest pause before the second try; it doubles with each one."
    )
    longest_pause_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=60.0, description="Where the pause stops growing."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        default=10.0, description="Most time for one try, from the name's look-up to the answer's headers."
    )
    connections: Annotated[int, Field(ge=1, le=1000)] = Field(default=64, description="Callbacks sent at once.")
    allow_private: bool = Field(
        default=False, description="Whether loopback, private and other non-public addresses may be called."
    )

    @field_validator("secret")
    @classmethod
    def _one(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            check_secret(secret)
        return secret

    @field_validator("tenant_secrets")
    @classmethod
    def _each(cls, secrets: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for tenant, secret in secrets.items():
            try:
                check_secret(secret)
            except ValueError as error:
                raise ValueError(f"{tenant}: {error}") from None
        return secrets

    def secret_of(self, tenant: str) -> str | None:
        """The secret that a tenant's callbacks are signed with."""
        secret = self.tenant_secrets.get(tenant, self.secret)
        return None if secret is None else secret.get_secret_value()


def check_secret(secret: SecretStr) -> None:
    """Raises ValueError for one that signs nothing."""
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or not FEWEST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES:
        raise ValueError(f"a secret is {PREFIX} and the base64 of 24 to 64 bytes; `openssl rand -base64 32` makes some")
