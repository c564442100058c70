"""The one model of all settings, and how it is filled: environment, then `callstream.toml`, then defaults."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from callstream.agents.alarms.options import AlarmOptions
from callstream.agents.delivery import DeliveryOptions, SinkOptions
from callstream.agents.inference.options import InferenceOptions
from callstream.agents.letters.options import LetterOptions
from callstream.agents.notification import NotifyOptions
from callstream.agents.secret import UnusableSecret
from callstream.settings.errors import SettingsError
from callstream.settings.explain import Setting, dotted, problems, settings_in_force
from callstream.settings.gather import Gathered, Path_, gather, here
from callstream.streams.blobs import BlobOptions
from callstream.streams.broker import BrokerOptions
from callstream.streams.engine_options import EngineOptions
from callstream.streams.keys import Name
from callstream.streams.logs import LogOptions
from callstream.streams.tracing_options import TracingOptions
from callstream.streams.wire import MAX_RECORD_BYTES
from callstream.web.options import WebOptions

SERVER = r"[A-Za-z0-9._-]{1,253}:\d{1,5}|\[[0-9A-Fa-f:.]{2,45}\]:\d{1,5}"
Hours = Annotated[float, Field(gt=0, le=24 * 3650)]


class _Source(PydanticBaseSettingsSource):
    """The environment over the file, as one source: a variable can replace one member of what the file lists."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: the whole is read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return gather(self.settings_cls, *here()).values


class Settings(BaseSettings):
    """Everything that can be set, validated once. Sections belong to the layer that uses them."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    broker: Annotated[str, StringConstraints(pattern=rf"^({SERVER})(,({SERVER}))*$", max_length=4000)] | None = Field(
        default=None, description="Kafka to use, host:port[,host:port…]; unset: the embedded broker is started"
    )
    data_folder: Path = Field(default=Path(".callstream"), description="where tables, blobs and the broker keep data")
    chains: tuple[str, ...] = Field(
        default=(), max_length=100, description="chains to serve: path/to/file.py:name or package.module:name"
    )
    partitions: int = Field(default=8, ge=1, le=1000, description="partitions of every topic; fixed once they exist")
    replicas: int = Field(default=1, ge=1, le=10, description="copies of every topic that the broker keeps")
    retention_hours: Hours = Field(default=24 * 7, description="how long events stay on the topics")
    seen_hours: Hours = Field(default=24, description="how long a repeated submission is recognised")
    finished_hours: Hours = Field(default=24 * 7, description="how long the status of an ended task can be asked for")
    usage_days: int = Field(default=400, ge=1, le=3660, description="how many days what calls cost can be asked for")

    worker_processes: int = Field(default=1, ge=1, le=64, description="processes of a worker for CPU-heavy steps")

    embedded: BrokerOptions = Field(default_factory=BrokerOptions, description="the embedded broker")
    engine: EngineOptions = Field(default_factory=EngineOptions, description="how services take events")
    web: WebOptions = Field(default_factory=WebOptions, description="the HTTP side")
    inference: InferenceOptions = Field(default_factory=InferenceOptions, description="models and their limits")
    delivery: DeliveryOptions = Field(default_factory=DeliveryOptions, description="the catalogue's database")
    sinks: dict[Name, SinkOptions] = Field(
        default_factory=dict, max_length=100, description="stores that steps write to, by name"
    )
    notify: NotifyOptions = Field(default_factory=NotifyOptions, description="callbacks to callers")
    letters: LetterOptions = Field(default_factory=LetterOptions, description="dead letters")
    alarms: AlarmOptions = Field(default_factory=AlarmOptions, description="when somebody has to look")
    blobs: BlobOptions = Field(default_factory=BlobOptions, description="bytes too large for an event")
    tracing: TracingOptions = Field(default_factory=TracingOptions, description="traces to Jaeger")
    logs: LogOptions = Field(default_factory=LogOptions, description="log lines")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_others: Any, **_more: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code, then environment and file."""
        return init_settings, _Source(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _inside_the_data_folder(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What is kept on disk follows `data_folder` unless it has a place of its own."""
        folder = values.get("data_folder", ".callstream")
        inside: dict[str, dict[str, object]] = {
            "embedded": {"folder": Path(str(folder)) / "kafka"},
            "blobs": {"url": f"file://{folder}/blobs"},
            "delivery": {"database_url": f"sqlite:///{folder}/catalogue.db"},
        }
        for section, defaults in inside.items():
            given = values.get(section, {})
            if isinstance(given, dict):
                values = {**values, section: {**defaults, **given}}
        return values

    @model_validator(mode="after")
    def _that_fits_together(self) -> "Settings":
        if self.web.max_blob_bytes > self.blobs.max_bytes:
            raise ValueError(
                f"web.max_blob_bytes ({self.web.max_blob_bytes:,}) is more than blobs.max_bytes "
                f"({self.blobs.max_bytes:,}): raise the one or lower the other"
            )
        if self.blobs.max_bytes < MAX_RECORD_BYTES:
            raise ValueError(
                f"blobs.max_bytes ({self.blobs.max_bytes:,}) is less than the largest event has "
                f"({MAX_RECORD_BYTES:,}): large events are kept as blobs, so raise it"
            )
        if self.blobs.keep_hours < self.retention_hours:
            raise ValueError(
                f"blobs.keep_hours ({self.blobs.keep_hours:g}) is less than retention_hours "
                f"({self.retention_hours:g}): events would outlive their bodies, so raise the one or lower the other"
            )
        for number, webhook in enumerate(self.alarms.webhooks):
            if webhook.private and not self.notify.allow_private:
                raise ValueError(
                    f"alarms.webhooks.{number}.url leads to an address that is not public: name another, or set "
                    "notify.allow_private"
                )
        for rule in self.alarms.rules:
            if rule.pool is not None and rule.pool not in self.inference.pools:
                known = ", ".join(self.inference.pools) or "none"
                raise ValueError(f"alarms.rules: {rule.name!r} names pool {rule.pool!r}; there are: {known}")
        if self.seen_hours > self.retention_hours:
            raise ValueError(
                f"seen_hours ({self.seen_hours:g}) is longer than retention_hours ({self.retention_hours:g}): a "
                "submission cannot be recognised longer than its events are kept"
            )
        return self


def load() -> Settings:
    """The settings of this process. Raises SettingsError, naming every problem at once."""
    gathered = _gathered()
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(problems(Settings, error, gathered)) from None


def check_secrets(settings: Settings) -> None:
    """Look at every key, key file and secret header of model endpoints and sinks. Raises SettingsError.

    `load` does not: a client needs none, and may not be able to read them.
    """
    gathered, found = _gathered(), []
    for pool, its in settings.inference.pools.items():
        for number, endpoint in enumerate(its.endpoints):
            try:
                endpoint.secret_headers()
            except UnusableSecret as error:
                path: Path_ = ("inference", "pools", pool, "endpoints", number, *error.place)
                found.append(f"{dotted(path)} ({gathered.origin(path) or 'default'}): {error}")
    for name, sink in settings.sinks.items():
        try:
            sink.secret(name)
        except UnusableSecret as error:
            path = ("sinks", name, *error.place)
            found.append(f"{dotted(path)} ({gathered.origin(path) or 'default'}): {error}")
    if found:
        raise SettingsError(found)


def origins(settings: Settings) -> tuple[Setting, ...]:
    """Every setting in force: key, value (secrets masked), where it came from."""
    return settings_in_force(settings, _gathered())


def _gathered() -> Gathered:
    return gather(Settings, *here())
