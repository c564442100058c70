"""A dry run: what would happen if a task were taken up again, found out without anything happening.

Harmless steps are run, one after another, each on what the one before it said; the first that is not tells by its
`rehearse` what it would do, and there it ends. No model is asked, nothing is written, sent or kept.
"""

import asyncio
import copy
from dataclasses import dataclass

from callstream.agents.inference.call import Call, CallFailed, Reply
from callstream.agents.tools import Tools
from callstream.streams.chain import Chains, NotRehearsable, Step
from callstream.streams.event import Event, Hop, Json
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome, Retry
from callstream.streams.wire import BODY_REF
from callstream.tables.durable import NoCell

LONGEST_SECONDS = 60.0
MOST_SHOWN = 300


async def no_model(call: Call) -> Reply:
    """The model of a dry run. Raises CallFailed."""
    raise CallFailed("dry-run", f"a dry run asks no model; pool {call.pool!r} would be asked", retryable=False)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Runs steps of these chains with `tools`, whose model must be `no_model`; None for steps that open nothing."""

    chains: Chains
    tools: Tools | None

    async def run(self, event: Event) -> list[Json]:
        """What each step from the event's own on would do, up to the first that is not harmless.

        Raises NotRehearsable where that is the first of all and has no rehearsal.
        """
        if BODY_REF in event.extensions:
            raise NotRehearsable("its body is in the blob store only: there is no dry run of it")
        told: list[Json] = []
        async with asyncio.timeout(LONGEST_SECONDS):
            while (step := self.chains.get(event.chain, event.version).step(event.sequence)) is not None:
                try:
                    found, following = await self._rehearse(step, event)
                except NotRehearsable as error:
                    if not told:
                        raise
                    return [*told, {"step": step.name, "service": step.service, "unknown": str(error)}]
                told.append({"step": step.name, "service": step.service, **found})
                if following is None:
                    break
                event = following
        return told

    async def _rehearse(self, step: Step, event: Event) -> tuple[Json, Event | None]:
        # A copy: the step itself may be at work in this process, with tools of its own.
        own = copy.copy(step)
        if not own.harmless:
            return await own.rehearse(event), None
        await own.open(self.tools)
        try:
            async with asyncio.timeout(step.timeout_seconds):
                outcome = await own.act(event, NoCell())
        except Exception as error:
            return {"would_fail": {"kind": "bug", "message": f"{type(error).__name__}: {error}"[:MOST_SHOWN]}}, None
        finally:
            await own.close()
        return _told(outcome), _following(outcome, step, event)


def _told(outcome: Outcome) -> Json:
    match outcome:
        case Forward():
            return {"output": outcome.output, "notes": list(outcome.notes)}
        case Finish():
            return {"would_end": "rejected" if outcome.rejected else "finished", "reason": outcome.reason}
        case Hold():
            return {"would_hold": outcome.reason}
        case Bury(failure=failure) | Retry(failure=failure):
            return {"would_fail": {"kind": failure.kind, "message": failure.message}}
    return {"would": type(outcome).__name__.lower()}


def _following(outcome: Outcome, step: Step, event: Event) -> Event | None:
    if not isinstance(outcome, Forward):
        return None
    outputs = {**event.body.outputs, step.name: outcome.output} if outcome.output else event.body.outputs
    hop = Hop(step=step.name, service=step.service, started=event.time, ended=event.time)
    after = event.with_body(outputs=outputs, trail=(*event.body.trail, hop))
    return after.changed(sequence=event.sequence + 1)
