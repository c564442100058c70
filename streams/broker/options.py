"""Options of the embedded broker."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


def default_cache_folder() -> Path:
    """The user's cache folder for callstream: `$XDG_CACHE_HOME/callstream` or `~/.cache/callstream`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "callstream"


class BrokerOptions(BaseModel):
    """How the embedded broker is fetched, started and sized."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(
        default=Path(".callstream/kafka"), description="data folder: topics, logs, state; one broker a folder"
    )
    cache_folder: Path = Field(
        default_factory=default_cache_folder, description="where the resolved class path is remembered"
    )
    version: str = Field(
        default="4.1.2", pattern=r"^4\.\d{1,3}\.\d{1,3}$", description="Apache Kafka version, as published on Maven"
    )
    heap_bytes: int = Field(
        default=512 * 1024**2, ge=192 * 1024**2, le=64 * 1024**3, description="largest heap of the broker's JVM"
    )
    message_bytes: int = Field(
        default=1024**2 + 64 * 1024,
        ge=64 * 1024,
        le=64 * 1024**2,
        description="largest record batch taken: 1 MiB and room for headers",
    )
    log_bytes: int = Field(
        default=8 * 1024**2, ge=64 * 1024, le=1024**3, description="size at which the broker's log file is rolled"
    )
    logs_kept: int = Field(default=4, ge=1, le=100, description="rolled log files kept")
    start_timeout_seconds: float = Field(default=60, gt=0, le=600, description="longest wait for a start")
    stop_timeout_seconds: float = Field(
        default=20, gt=0, le=600, description="wait for an orderly stop before the process is killed"
    )
    download_timeout_seconds: float = Field(
        default=600, gt=0, le=7200, description="longest wait for the first download (about 50 MB)"
    )
