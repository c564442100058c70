"""How one event is tried: by its step's policy, until there is an outcome, which no exception can take the place of."""

import asyncio
import logging
import traceback
from collections import deque
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from random import Random

from callstream.agents.patience import patience
from callstream.agents.ports import Delivery, Policy, Ports, Role
from callstream.agents.settle import Work, line, settle
from callstream.streams.chain import Attempts, Chains, UnknownChain
from callstream.streams.event import MAX_NOTES, Event, Failure, Waiting, WaitReason
from callstream.streams.outcome import Bury, Outcome, Resume, Retry
from callstream.streams.ownership import LostOwnership
from callstream.streams.timing import delayed
from callstream.streams.wire import LogUnavailable, Record, encode

log = logging.getLogger("callstream.actor")

MAX_TRACEBACK = 8000
LONGEST_HELD_SECONDS = 60.0
"""For which an event is held in memory at most, whatever was asked for."""
LONGEST_PAUSE_SECONDS = 24 * 3600.0
"""For which one goes to the timer: well below what receipts are kept for, so that no paid call is paid again."""


@dataclass(slots=True)
class Tries:
    """What was tried of an event's step, also before the timer had it: since when, how often, with what remarks."""

    started: float
    count: int
    notes: deque[str]

    @classmethod
    def of(cls, event: Event, now: float) -> "Tries":
        """What the event says of it."""
        before = event.body.waiting
        if before is None or before.started is None:
            return cls(now, 0, deque(maxlen=MAX_NOTES))
        return cls(before.started, before.attempts, deque(before.notes, maxlen=MAX_NOTES))

    def waiting(self, until: float, failure: Failure) -> Waiting:
        """What the event says of it while the timer has it."""
        return Waiting(
            reason=WaitReason.RETRY,
            until=until,
            started=self.started,
            attempts=self.count,
            failure=failure.model_copy(update={"traceback": ""}),
            notes=tuple(map(line, self.notes)),
        )


class Trying:
    """Lets a role decide about events. `retries` counts tries without an outcome."""

    def __init__(self, role: Role, ports: Ports, chains: Chains) -> None:
        self._role = role
        self._ports = ports
        self._chains = chains
        self._random = Random()
        self.retries = 0

    async def records(self, event: Event, delivery: Delivery) -> list[Record]:
        """Try until there is an outcome other than Retry; then the records that follow from it.

        For a pause that the policy leaves to the timer, the one record that brings the event back for its next attempt.
        Raises LostOwnership, LogUnavailable.
        """
        tries = Tries.of(event, self._ports.now())
        policy = Policy(step=self._role.service)
        try:
            policy = self._role.policy(event)
        except UnknownChain as error:
            outcome: Outcome | Record = Bury(_failure(error))
            tries.count += 1
        else:
            with self._ports.span(policy.step, event) if policy.traced else nullcontext() as span:
                if span is not None:
                    event = replace(event, traceparent=span.traceparent)
                outcome = await self._outcome(event, delivery, policy, tries)
                if span is not None:
                    span.tag("outcome", "Retry" if isinstance(outcome, Record) else type(outcome).__name__)
                    span.tag("attempts", tries.count)
        if isinstance(outcome, Record):
            return [outcome]
        notes = tuple(tries.notes)
        work = Work(self._role.service, policy.step, tries.started, self._ports.now(), tries.count, notes)
        log.debug("%s: %s in %.3f s", work.step, type(outcome).__name__, work.ended - work.started)
        return self._settle(event, outcome, work)

    async def _outcome(self, event: Event, delivery: Delivery, policy: Policy, tries: Tries) -> Outcome | Record:
        """What the tries came to, or the record for the timer that lets the event come back for the next one."""
        attempt = event.attempt
        while True:
            tried = event if attempt == event.attempt else replace(event, attempt=attempt)
            outcome = await self._try(tried, delivery, policy)
            tries.count += 1
            if not isinstance(outcome, Retry):
                return outcome
            self.retries += 1
            tries.notes.append(f"attempt {attempt}: {outcome.failure.kind}: {outcome.failure.message}")
            if attempt >= policy.attempts.most:
                return Bury(outcome.failure, policy.ends_task)
            pause = self.pause(policy.attempts, attempt, outcome.after_seconds)
            attempt += 1
            if policy.held_pause_seconds is not None and pause > policy.held_pause_seconds:
                waiting = tries.waiting(self._until(event, pause), outcome.failure)
                # One that has grown too large by its remarks waits here, as all did without a timer.
                with suppress(ValueError):
                    later = replace(event, attempt=attempt).with_body(waiting=waiting)
                    return delayed(encode(later, delivery.topic), waiting.until)
            await asyncio.sleep(min(pause, LONGEST_HELD_SECONDS))

    def _until(self, event: Event, pause: float) -> float:
        """When the next attempt is due; a task whose deadline comes first is told so by then."""
        now = self._ports.now()
        return now + pause if event.deadline is None else min(now + pause, max(now, event.deadline))

    def _settle(self, event: Event, outcome: Outcome, work: Work) -> list[Record]:
        """The records of an outcome; where it can't be performed, of the burial of the event that it was for."""
        try:
            return settle(event, outcome, work, self._chains)
        except Exception as error:
            log.exception("what %s decided can't be performed", work.step, extra={"task": event.task})
            target = outcome.event if isinstance(outcome, Resume) else event
            return settle(target, Bury(_failure(error)), work, self._chains)

    async def _try(self, event: Event, delivery: Delivery, policy: Policy) -> Outcome:
        now = self._ports.now()
        if policy.keeps_deadline and event.deadline is not None and now > event.deadline:
            late = f"its deadline passed {now - event.deadline:.1f} s before {policy.step!r} could start"
            return Bury(Failure(kind="deadline", message=late))
        try:
            async with patience(policy.timeout_seconds) as allowed:
                return await self._role.act(event, self._ports.cell(event.key, delivery))
        except (LostOwnership, LogUnavailable, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            if isinstance(error, TimeoutError) and allowed.expired():
                late = f"{policy.step!r} took longer than {policy.timeout_seconds:g} s"
                return Retry(Failure(kind="timeout", message=late))
            # Also what is no Exception: a panic of a native library, or the cancellation of what the step waited for.
            log.exception("step %s failed", policy.step, extra={"task": event.task, "tenant": event.tenant})
            return Retry(_failure(error))

    def pause(self, attempts: Attempts, attempt: int, asked: float | None) -> float:
        """Seconds to the next try: by chance, below a ceiling that doubles, and no less than was asked for."""
        ceiling = min(attempts.longest_pause_seconds, attempts.first_pause_seconds * 2.0 ** min(attempt - 1, 60))
        pause = self._random.uniform(0, ceiling)
        return max(pause, min(asked, LONGEST_PAUSE_SECONDS)) if asked is not None else pause


def _failure(error: BaseException) -> Failure:
    """An exception as an event carries it, whatever its text is and however long."""
    if isinstance(error, UnknownChain):
        return Failure(kind="unknown-chain", message=line(str(error)))
    said = "".join(traceback.format_exception_only(error)).strip()
    where = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    return Failure(kind="bug", message=line(said), traceback=where[-MAX_TRACEBACK:])
