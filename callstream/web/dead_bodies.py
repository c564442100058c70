"""Bodies of requests about dead letters."""

from typing import Annotated

from pydantic import Field, StringConstraints

from callstream.agents.letters.commands import MOST_REDRIVES_A_SECOND
from callstream.streams.event import Strict
from callstream.tables.letters import MOST_WHERE

Name = Annotated[str, StringConstraints(max_length=200)]
Reason = Annotated[str, StringConstraints(max_length=500)]


class Decision(Strict):
    """What is said with any decision: why, and by whom beside the key's tenant."""

    reason: Reason = ""
    by: Name = ""


class Redrive(Decision):
    """Where a task begins again (by default where it failed), and whether models are asked in spite of paid answers."""

    from_step: Annotated[str, StringConstraints(min_length=1, max_length=48)] | None = None
    ask_again: bool = False


class RedriveMany(Redrive):
    """Redrive every waiting letter that `where` holds for, at most `rate` a second."""

    where: Annotated[str, StringConstraints(max_length=MOST_WHERE)] = ""
    rate: Annotated[float, Field(gt=0, le=MOST_REDRIVES_A_SECOND)] | None = None
