"""Waiting for tasks: each until it has ended, or is held for a person, and what became of all of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from callstream.cli.client import Api, ApiError
from callstream.cli.orders import Order
from callstream.streams.event import Json

SETTLED = frozenset({"finished", "rejected", "failed", "cancelled", "held"})
ASK_SECONDS = 2.0
LOST = "lost"
HELD = "held"


@dataclass
class Sent:
    """One task on its way: the order, the id it got, the last row seen of it (None until one was)."""

    order: Order
    task: str
    row: Json | None = None

    @property
    def state(self) -> str:
        """Its state as last seen; `lost` for one that the gateway never told about."""
        return str(self.row["state"]) if self.row else LOST

    @property
    def as_expected(self) -> bool:
        """Whether it came to the state that its file says."""
        return self.state == self.order.expected


@dataclass
class Tally:
    """What became of tasks; `count` of one that has not settled is in `state` as it stands."""

    sent: list[Sent] = field(default_factory=list)

    @property
    def states(self) -> Counter[str]:
        """How many tasks are in each state."""
        return Counter(sent.state for sent in self.sent)

    @property
    def unexpected(self) -> list[Sent]:
        """Those that did not come to the state that their file says."""
        return [sent for sent in self.sent if not sent.as_expected]

    @property
    def lost(self) -> int:
        """How many have not settled: unknown to the gateway, or still on their way."""
        return sum(sent.state not in SETTLED for sent in self.sent)


async def until_settled(
    api: Api,
    sent: Sent,
    timeout_seconds: float,
    seen: Callable[[Sent], None] = lambda _: None,
    past_holds: bool = False,
) -> None:
    """Ask for the task until it has ended or is held; after the time is over it stays as last seen.

    With `past_holds` until it has ended: somebody has decided about it, which takes a moment to be seen.

    Raises ApiError when the gateway refuses or is gone for longer than the time left.
    """
    deadline = time.monotonic() + timeout_seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            # A held task never ends by itself, so the wait is cut into looks at it.
            sent.row = await api.task(sent.task, min(ASK_SECONDS, max(left, 0.1)))
        except ApiError as error:
            if error.status not in (0, 404, 503) or deadline - time.monotonic() <= 1:
                raise
            await asyncio.sleep(0.5)
            continue
        seen(sent)
        if sent.state in SETTLED and not (past_holds and sent.state == HELD):
            return


def summary(tally: Tally, most: int = 10) -> list[str]:
    """What became of the tasks, in lines: the counts, then those that did not end as expected."""
    counts = ", ".join(f"{count:,} {state}" for state, count in tally.states.most_common())
    lines = [f"{len(tally.sent):,} tasks: {counts or 'none'}"]
    shown = tally.unexpected[:most]
    lines += [f"{sent.task}: {sent.state}, expected {sent.order.expected}{_why(sent.row)}" for sent in shown]
    if (more := len(tally.unexpected) - most) > 0:
        lines.append(f"and {more:,} more that did not end as expected")
    return lines


def _why(row: Json | None) -> str:
    if not row:
        return ": the gateway knows nothing of it"
    if failure := row.get("failure"):
        return f": {failure['kind']} in {failure.get('step') or 'intake'}: {failure['message'][:200]}"
    if row.get("held"):
        return f": {str(row['held'])[:200]}"
    if calling := row.get("calling"):
        return f": calls {calling['endpoint']} of pool {calling['pool']}, for {calling['seconds']:.0f} s"
    if following := row.get("next"):
        return f": waits for {following['service']}"
    return ""
