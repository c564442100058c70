"""How one event is tried: by its step's policy, until there is an outcome, which no exception can take the place of."""

import asyncio
import logging
import math
import traceback
from collections import Counter, deque
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random

from callstream.agents.inheritance import cell_of
from callstream.agents.masking import Mask
from callstream.agents.patience import patience
from callstream.agents.payer import spends_of
from callstream.agents.ports import Delivery, Policy, Ports, Role
from callstream.agents.retrying import DEADLINE, Decision, Failed, GiveUp, decide
from callstream.agents.settle import Work, attempt_of, line, settle
from callstream.agents.spent import Spent, tracked
from callstream.agents.telling import telling
from callstream.streams.chain import Chains, MissingVersion, UnknownChain
from callstream.streams.errorclass import class_of
from callstream.streams.event import MAX_ATTEMPTS_TOLD, MAX_NOTES, Attempt, Event, Failure, Waiting, WaitReason
from callstream.streams.outcome import Bury, Keep, Outcome, Resume, Retry, Reviewed
from callstream.streams.ownership import LostOwnership
from callstream.streams.partial import remark
from callstream.streams.retry_budget import BudgetOptions, Budgets
from callstream.streams.timing import delayed
from callstream.streams.topics import NOTIFIED, topic_of
from callstream.streams.wire import EventTooLarge, LogUnavailable, Record, encode

log = logging.getLogger("callstream.actor")

MAX_TRACEBACK = 8000
MAX_PIECE = 2000
"""Of a traceback's frame or message: a long one leaves room for the others."""
MAX_MASKED = 64 * 1024
"""Of a traceback, the end that is looked through for secrets: what is kept is the end of that."""
NO_BUDGET = "retry-budget"
TOO_LARGE = "output-too-large"
LONGEST_HELD_SECONDS = 60.0
"""For which an event is held in memory at most, whatever was asked for."""
LONGEST_PAUSE_SECONDS = 24 * 3600.0
"""For which one goes to the timer: well below what receipts are kept for, so that no paid call is paid again."""


@dataclass(slots=True)
class Tries:
    """What was tried of an event's step, also before the timer had it: since when, how often, with what remarks.

    `failure` is what the last attempt failed of that was made; `spent` where the time went; `told` are the attempts
    that failed since the timer had it.
    """

    started: float
    count: int
    notes: deque[str]
    failure: Failure | None = None
    spent: Spent = field(default_factory=Spent)
    told: list[Attempt] = field(default_factory=list)

    @classmethod
    def of(cls, event: Event, now: float) -> "Tries":
        """What the event says of it."""
        before = event.body.waiting
        if before is None or before.started is None:
            return cls(now, 0, deque(maxlen=MAX_NOTES))
        notes = deque(before.notes, maxlen=MAX_NOTES)
        return cls(
            before.started, before.attempts, notes, before.failure, Spent(retried=max(0.0, now - before.started))
        )

    def failed(self, attempt: int, failure: Failure) -> Failure:
        """One more has ended without an outcome; gives what the last one failed of that was made."""
        self.notes.append(f"attempt {attempt}: {failure.kind}: {failure.message}")
        if self.failure is None or failure.kind != NO_BUDGET:
            self.failure = failure
        return self.failure

    def tell(self, attempt: Attempt) -> None:
        """Keep a failed attempt for the dead letter: the first ones and the last."""
        self.told.append(attempt)
        del self.told[MAX_ATTEMPTS_TOLD // 2 : -MAX_ATTEMPTS_TOLD // 2]

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
    """Lets a role decide about events. `retries` counts tries without an outcome.

    `budgets` holds a budget of retries for each tenant: an attempt that it leaves nothing for is not made, and its
    event waits one of the longest pauses of its policy. `mask` is what exceptions are kept through. `decisions` counts
    what followed failures, by their class.
    """

    def __init__(self, role: Role, ports: Ports, chains: Chains) -> None:
        self._role = role
        self._ports = ports
        self._chains = chains
        self._random = Random()
        self.budgets = Budgets(BudgetOptions)
        self.mask = Mask()
        self.decisions: Counter[tuple[str, str]] = Counter()
        self.retries = 0

    async def records(self, event: Event, delivery: Delivery) -> list[Record]:
        """Try until there is an outcome other than Retry; then the records that follow from it.

        For a pause that the policy leaves to the timer, the one record that brings the event back for its next attempt.
        Raises LostOwnership, LogUnavailable, and MissingVersion for an event that another worker may know.
        """
        tries = Tries.of(event, self._ports.now())
        try:
            policy = self._role.policy(event)
        except MissingVersion:
            raise
        except UnknownChain as error:
            policy = Policy(step=self._role.service)
            outcome: Outcome | Record = Bury(self._failure(error))
            tries.count += 1
        else:
            with (
                tracked(tries.spent),
                self._ports.span(policy.step, event) if policy.traced else nullcontext() as span,
            ):
                if span is not None:
                    event = event.changed(traceparent=span.traceparent)
                outcome = await self._outcome(event, delivery, policy, tries)
                if span is not None:
                    span.tag("outcome", "Retry" if isinstance(outcome, Record) else type(outcome).__name__)
                    span.tag("attempts", tries.count)
        if isinstance(outcome, Record):
            return [outcome]
        if isinstance(outcome, Keep) and not policy.ends_task:
            # Who only looks on has no say in what follows, of an undo neither.
            return []
        work = Work(
            self._role.service,
            policy.step,
            tries.started,
            self._ports.now(),
            tries.count,
            tuple(tries.notes),
            tries.spent.waited,
            tries.spent.retried,
            origin=(delivery.topic, delivery.partition, delivery.offset),
            failed=tuple(tries.told),
            spends=spends_of(event, cell_of(self._ports, event, delivery).value) if policy.pays else (),
        )
        log.debug("%s: %s in %.3f s", work.step, type(outcome).__name__, work.ended - work.started)
        return self._settle(event, outcome, work)

    async def _outcome(self, event: Event, delivery: Delivery, policy: Policy, tries: Tries) -> Outcome | Record:
        """What the tries came to, or the record for the timer that lets the event come back for the next one."""
        attempt, clock = event.attempt, asyncio.get_running_loop().time
        while True:
            tried = event if attempt == event.attempt else event.changed(attempt=attempt)
            mark = tries.spent.mark(clock())
            outcome = await self._within_budget(tried, delivery, policy)
            tries.count += 1
            if not isinstance(outcome, Retry):
                return outcome
            self.retries += 1
            failure = tries.failed(attempt, outcome.failure)
            tries.tell(attempt_of(attempt, self._ports.now(), outcome))
            decision = self._decide(tried, policy, outcome)
            if isinstance(decision, GiveUp):
                return Bury(_given_up(failure, decision), policy.ends_task, outcome.usage)
            pause = decision.after_seconds
            attempt += 1
            if policy.held_pause_seconds is not None and pause > policy.held_pause_seconds:
                waiting = tries.waiting(self._ports.now() + pause, failure)
                # One that has grown too large by its remarks waits here, as all did without a timer.
                with suppress(ValueError):
                    later = event.changed(attempt=attempt).with_body(waiting=waiting)
                    return delayed(encode(later, policy.comes_back_to or delivery.topic), waiting.until)
            await asyncio.sleep(min(pause, LONGEST_HELD_SECONDS))
            tries.spent.repeat(mark, clock())

    def _settle(self, event: Event, outcome: Outcome, work: Work) -> list[Record]:
        """The records of an outcome; where it can't be performed, of the burial of the event that it was for."""
        try:
            return settle(event, outcome, work, self._chains)
        except MissingVersion:
            raise
        except EventTooLarge as error:
            failure = Failure(kind=TOO_LARGE, message=line(f"what {work.step!r} gives is too large: {error}"))
            log.warning("%s", failure.message, extra={"task": event.task})
        except Exception as error:
            log.exception("what %s decided can't be performed", work.step, extra={"task": event.task})
            failure = self._failure(error)
        then = outcome.then if isinstance(outcome, Reviewed) else outcome
        target = then.event if isinstance(then, Resume) else event
        return settle(target, Bury(failure), work, self._chains)

    async def _within_budget(self, event: Event, delivery: Delivery, policy: Policy) -> Outcome:
        """Try once, if it is the first time or the tenant's budget has a retry left."""
        budget, clock = self.budgets[event.tenant], asyncio.get_running_loop().time
        if event.attempt == 1:
            budget.call(clock())
        elif not budget.take(clock()):
            return Retry(Failure(kind=NO_BUDGET, message=f"not made: {event.tenant} has no retries left at present"))
        outcome = await self._try(event, delivery, policy)
        if event.attempt > 1 and not isinstance(outcome, Retry | Bury):
            budget.give_back(clock())
        return outcome

    def _decide(self, event: Event, policy: Policy, outcome: Retry) -> Decision:
        left = math.inf
        if policy.keeps_deadline and event.deadline is not None:
            left = event.deadline - self._ports.now()
        asked = outcome.after_seconds
        failed = Failed(
            class_of(outcome.failure.kind),
            event.attempt,
            None if asked is None else min(asked, LONGEST_PAUSE_SECONDS),
            left,
            policy.needs_seconds,
        )
        has_budget = outcome.failure.kind != NO_BUDGET
        decision = decide(failed, policy.attempts, has_budget, self._random.random())
        followed = decision.reason if isinstance(decision, GiveUp) else "again" if has_budget else "no-budget"
        self.decisions[failed.error_class, followed] += 1
        return decision

    async def _try(self, event: Event, delivery: Delivery, policy: Policy) -> Outcome:
        now = self._ports.now()
        if policy.keeps_deadline and event.deadline is not None and now > event.deadline:
            late = f"its deadline passed {now - event.deadline:.1f} s before {policy.step!r} could start"
            return Bury(Failure(kind="deadline", message=late))
        try:
            async with patience(policy.timeout_seconds) as allowed:
                with telling(partial(self._tell, event, delivery, policy.step)):
                    return await self._role.act(event, cell_of(self._ports, event, delivery))
        except (LostOwnership, LogUnavailable, MissingVersion):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            if isinstance(error, TimeoutError) and allowed.expired():
                late = f"{policy.step!r} took longer than {policy.timeout_seconds:g} s"
                return Retry(Failure(kind="timeout", message=late))
            # Also what is no Exception: a panic of a native library, the cancellation of what the step waited for, and
            # `sys.exit()` in a step. A worker is stopped by signals, which its loop takes, and not by these.
            log.exception("step %s failed", policy.step, extra={"task": event.task, "tenant": event.tenant})
            return Retry(self._failure(error))

    async def _tell(self, event: Event, delivery: Delivery, step: str, number: int, text: str) -> None:
        """Tell those who show the task of a part of an answer. Raises LostOwnership, LogUnavailable."""
        await self._ports.send(encode(remark(event, number, step, text), topic_of(NOTIFIED)), delivery)

    def _failure(self, error: BaseException) -> Failure:
        """An exception as an event carries it, whatever its text is and however long, without secrets."""
        if isinstance(error, UnknownChain):
            return Failure(kind="unknown-chain", message=line(str(error)))
        said = self.mask("".join(traceback.format_exception_only(error)).strip()[:MAX_MASKED])
        pieces = (
            piece if len(piece) <= MAX_PIECE else f"{piece[:MAX_PIECE]}…\n"
            for piece in traceback.format_exception(error)
        )
        where = "".join(pieces).encode("utf-8", "backslashreplace").decode()
        return Failure(kind="bug", message=line(said), traceback=self.mask(where[-MAX_MASKED:])[-MAX_TRACEBACK:])


def _given_up(failure: Failure, decision: GiveUp) -> Failure:
    if decision.reason != DEADLINE or failure.kind == DEADLINE:
        return failure
    message = f"no time is left for another attempt; the last failed with {failure.kind}: {failure.message}"
    return failure.model_copy(update={"kind": DEADLINE, "message": line(message)})
