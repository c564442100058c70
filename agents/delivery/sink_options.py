"""Where results go: the settings of one sink."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from yarl import URL

from callstream.agents.delivery.options import DeliveryOptions
from callstream.agents.secret import key_of
from callstream.streams.blobs import SCHEMES
from callstream.streams.topics import check_foreign

Kind = Literal["sql", "redis", "http", "object-store", "topic"]

ALLOWED: dict[str, tuple[str, ...]] = {
    "sql": ("sqlite", "postgresql", "postgres"),
    "redis": ("redis", "rediss", "unix"),
    "http": ("http", "https"),
    "object-store": SCHEMES,
}
"""Schemes of URLs, by kind."""
PASSWORD = re.compile(r"//[^/@?#]*:[^/@?#]*@|[?&]password=", re.IGNORECASE)
EXAMPLES = {
    "sql": "postgresql://USER@HOST/NAME",
    "redis": "redis://HOST:6379/0",
    "http": "https://HOST/PATH",
    "object-store": "s3://BUCKET/PATH",
}


class SinkOptions(BaseModel):
    """One store that steps write to by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    kind: Kind = Field(description="What stands behind it.")
    url: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None,
        description="Where it is, without a password: postgresql://USER@HOST/NAME or sqlite:///FILE, "
        "redis://HOST:6379/0, https://HOST/PATH, s3://BUCKET/PATH or file://FOLDER; a topic has none.",
    )
    topic: str | None = Field(default=None, description="Name of the Kafka topic; for kind topic only.")
    api_key: SecretStr | None = Field(
        default=None,
        description="Password of the database or of Redis, bearer token of the HTTP server; only ever by its variable, "
        "never in a file of settings. An object store's credentials are its own variables, such as AWS_….",
    )
    api_key_file: Path | None = Field(
        default=None, description="File that holds it and nothing else, in place of api_key."
    )
    prefix: Annotated[str, Field(max_length=200)] = Field(
        default="", description="What the names of its keys begin with; for kind redis only."
    )
    most_in_batch: int = Field(default=64, ge=1, le=1000, description="Writes that share a batch at most.")
    timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="Longest wait for an answer.")

    @model_validator(mode="after")
    def _that_fits_together(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("api_key and api_key_file are both set: set one of them")
        if self.kind in ("topic", "object-store") and (self.api_key or self.api_key_file):
            raise ValueError(f"a sink of kind {self.kind!r} takes no api_key")
        if self.prefix and self.kind != "redis":
            raise ValueError("prefix is for kind 'redis' only")
        if self.kind == "topic":
            if self.topic is None or self.url is not None:
                raise ValueError("a sink of kind 'topic' needs topic, its name, and takes no url: it is on our broker")
            check_foreign(self.topic)
            return self
        if self.topic is not None:
            raise ValueError(f"topic is for kind 'topic' only, and this is of kind {self.kind!r}")
        self._check_url()
        return self

    def secret(self, name: str) -> str | None:
        """The password or token, in the clear; reads `api_key_file`. Raises UnusableSecret."""
        return key_of(f"sink {name}", self.api_key, self.api_key_file) or None

    def database(self, password: str | None) -> DeliveryOptions:
        """The settings of a sink that is a database. Raises ValidationError."""
        url = self.url or ""
        if password is not None:
            url = str(URL(url).with_password(password))
        return DeliveryOptions(database_url=SecretStr(url), timeout_seconds=self.timeout_seconds)

    def _check_url(self) -> None:
        example = EXAMPLES[self.kind]
        if self.url is None:
            raise ValueError(f"a sink of kind {self.kind!r} needs a url such as {example}")
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError(f"url must be printable ASCII without spaces, such as {example}")
        scheme = self.url.partition(":")[0].partition("+")[0]
        if scheme not in ALLOWED[self.kind]:
            allowed = ", ".join(f"{one}:" for one in ALLOWED[self.kind])
            raise ValueError(f"url of a sink of kind {self.kind!r} begins with {allowed}, as in {example}")
        if PASSWORD.search(self.url):
            raise ValueError("url must hold no password: set api_key or api_key_file")
        if self.kind == "http" and (not URL(self.url).host or "?" in self.url or "#" in self.url or "@" in self.url):
            raise ValueError(f"url must name a host and have no user, query or fragment, as in {example}")
        if self.kind == "sql":
            self.database(None)
