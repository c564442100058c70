"""Settings of dead letters."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from callstream.agents.letters.commands import MOST_REDRIVES_A_SECOND


class LetterOptions(BaseModel):
    """How long dead letters are kept to be decided about, and how fast many are redriven."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kept_hours: Annotated[float, Field(gt=0, le=24 * 3650)] = Field(
        default=24.0 * 30, description="how long a dead letter can be looked at and redriven"
    )
    redrives_per_second: Annotated[float, Field(gt=0, le=MOST_REDRIVES_A_SECOND)] = Field(
        default=50.0, description="of a job that redrives many letters and names no rate, over all partitions"
    )
