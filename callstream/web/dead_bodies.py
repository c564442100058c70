"""Bodies of requests about dead letters."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from callstream.agents.letters.commands import MOST_PATCH_BYTES, MOST_REDRIVES_A_SECOND, MOST_TASKS
from callstream.streams import strict_json
from callstream.streams.event import Json, Strict
from callstream.streams.keys import TaskId, Tenant
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


class Many(Strict):
    """Which letters: those that `where` holds for, or those of some tasks (of the caller's tenant if none is named).

    At most `rate` of them a second.
    """

    where: Annotated[str, StringConstraints(max_length=MOST_WHERE)] = ""
    tenant: Tenant | None = None
    tasks: Annotated[tuple[TaskId, ...], Field(min_length=1, max_length=MOST_TASKS)] | None = None
    rate: Annotated[float, Field(gt=0, le=MOST_REDRIVES_A_SECOND)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.tasks is not None and self.where:
            raise ValueError("give either tasks or where")
        if self.tenant is not None and self.tasks is None:
            raise ValueError("tenant goes with tasks; in where it is tenant == '…'")
        return self


class Some(Decision, Many):
    """A decision about letters that are named: `where` or `tasks` is needed, `true` is every waiting letter."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.tasks is None and not self.where.strip():
            raise ValueError("say which letters: tasks, or where (true: every waiting letter)")
        return self


class RedriveMany(Redrive, Some):
    """Redrive them."""


class DiscardMany(Some):
    """Discard them, for a reason."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class EditMany(Some):
    """Give each another input: the one that it has, with a JSON merge patch (RFC 7386)."""

    patch: Annotated[Json, Field(min_length=1)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (size := len(strict_json.dumps(self.patch))) > MOST_PATCH_BYTES:
            raise ValueError(f"patch has {size:,} bytes; at most {MOST_PATCH_BYTES:,} are taken")
        return self
