"""How services take events and when they give up: read by every command, without Faust."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from callstream.streams.retry_budget import BudgetOptions


class EngineOptions(BaseModel):
    """How a service takes events and when it gives up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: Annotated[int, Field(ge=1, le=10_000, description="events a service works on at once")] = 64
    max_unfinished: Annotated[int, Field(ge=1, le=100_000, description="events taken and not yet acknowledged")] = 2_000
    commit_interval_seconds: Annotated[float, Field(gt=0, le=60, description="between commits of offsets")] = 1.0
    session_timeout_seconds: Annotated[
        float, Field(ge=6, le=300, description="silence after which the broker gives a worker's partitions away")
    ] = 10.0
    watchdog_seconds: Annotated[
        float, Field(ge=5, description="with lag and nothing finished for so long, the process ends")
    ] = 120.0
    drain_seconds: Annotated[float, Field(ge=0, le=600, description="what runs may take to finish at a stop")] = 20.0
    handover_seconds: Annotated[
        float, Field(ge=0, le=30, description="what runs may take to finish before its partition goes to another")
    ] = 5.0
    held_pause_seconds: Annotated[
        float, Field(ge=0, le=60, description="a longer pause before a step's next attempt is the timer's to wait for")
    ] = 5.0
    missing_version_hours: Annotated[
        float, Field(gt=0, le=24 * 30, description="how long a task waits for a worker with its version")
    ] = 24.0
    delivery_timeout_seconds: Annotated[
        float, Field(ge=5, description="a record that the broker has not taken by then stops the worker")
    ] = 120.0
    linger_seconds: Annotated[
        float, Field(ge=0, le=1, description="how long a record waits for others to share its request to the broker")
    ] = 0.01
    poll_records: Annotated[int, Field(ge=1, le=5_000, description="records taken from the consumer at once")] = 256
    buffer_records: Annotated[int, Field(ge=64, description="records of a topic held in memory before it pauses")] = (
        2_048
    )
    retry_budget: Annotated[
        BudgetOptions, Field(description="how many attempts of steps may be retries, by service, process and tenant")
    ] = BudgetOptions()

    @model_validator(mode="after")
    def _that_no_buffer_overflows(self) -> Self:
        """A topic pauses at four fifths of its buffer; one that fills up stops every other topic of the service."""
        if self.poll_records * 5 > self.buffer_records:
            raise ValueError(
                f"poll_records ({self.poll_records:,}) is over a fifth of buffer_records ({self.buffer_records:,}): "
                "one topic's backlog would hold up the others; lower the one or raise the other"
            )
        return self
