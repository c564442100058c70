"""Settings of the web: where it listens, who may come in, and the bound of everything a caller can make grow."""

import ipaddress
from enum import IntEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from callstream.streams.keys import Tenant
from callstream.streams.review import LONGEST_LEASE_SECONDS, SHORTEST_LEASE_SECONDS

SHORTEST_KEY = 16


class Role(IntEnum):
    """What a key allows; each role allows what the ones below it do."""

    SUBMIT = 1
    REVIEW = 2
    OPERATE = 3


class ApiKey(BaseModel):
    """One key: whoever shows it acts for that tenant in that role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: SecretStr = Field(description=f"The secret, at least {SHORTEST_KEY} characters")
    tenant: Tenant = Field(description="Whose tasks its holder submits and sees")
    role: Role = Field(default=Role.SUBMIT, description="submit, review or operate")

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < SHORTEST_KEY:
            raise ValueError(f"an API key has at least {SHORTEST_KEY} characters")
        return key

    @field_validator("role", mode="before")
    @classmethod
    def _by_name(cls, role: object) -> object:
        if isinstance(role, str):
            if role.upper() not in Role.__members__:
                raise ValueError("must be submit, review or operate")
            return Role[role.upper()]
        return role


Seconds = Annotated[float, Field(gt=0, le=3600)]


class WebOptions(BaseModel):
    """Settings of the web. Without API keys it listens on loopback only, and everyone there is tenant "default"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on; other than loopback needs api_keys")
    port: int = Field(default=8420, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+$",
        description="Base URL under which other gateways reach this one; unset: http://HOST:PORT",
    )
    api_keys: tuple[ApiKey, ...] = Field(default=(), max_length=1000, description="Who may come in, and as whom")
    max_body_bytes: int = Field(default=1024**2, ge=1024, le=4 * 1024**2, description="Longest JSON body taken")
    max_blob_bytes: int = Field(default=16 * 1024**2, ge=1024, le=256 * 1024**2, description="Largest picture taken")
    max_picture_pixels: int = Field(default=50_000_000, ge=1, description="Most pixels a picture may unpack to")
    max_wait_seconds: Seconds = Field(default=60.0, description="Longest a status request is kept waiting")
    heartbeat_seconds: Seconds = Field(default=15.0, description="Silence after which a stream gets a sign of life")
    max_streams: int = Field(default=2000, ge=1, le=100_000, description="Most clients waiting or streaming at once")
    max_subscriptions: int = Field(default=32, ge=1, le=1000, description="Most subscriptions of one WebSocket")
    queue_messages: int = Field(default=256, ge=1, le=100_000, description="Updates a slow client may have unread")
    queue_bytes: int = Field(default=4 * 1024**2, ge=1024, description="Bytes a slow client may have unread")
    slow_client_seconds: Seconds = Field(default=10.0, description="Longest that one write to a client may take")
    recent_submissions: int = Field(default=10_000, ge=1, le=1_000_000, description="Submissions kept to catch repeats")
    recent_seconds: Seconds = Field(default=300.0, description="How long a submission is kept to catch repeats")
    review_lease_seconds: float = Field(
        default=900.0,
        ge=SHORTEST_LEASE_SECONDS,
        le=LONGEST_LEASE_SECONDS,
        description="How long a reviewer has a held task that was claimed, unless it is claimed again",
    )
    proxy_seconds: Seconds = Field(default=10.0, description="Longest wait for another gateway's answer to begin")

    @model_validator(mode="after")
    def _loopback_or_keys(self) -> "WebOptions":
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(f"host {self.host!r} can be reached from other machines: set api_keys, or host=127.0.0.1")
        secrets = [entry.key.get_secret_value() for entry in self.api_keys]
        if len(set(secrets)) != len(secrets):
            raise ValueError("api_keys: two entries have the same key")
        return self


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
