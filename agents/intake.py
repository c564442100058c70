"""Intake: a submission becomes a task on the current version of its chain, once.

The row in `seen` holds what was decided (version, start, priority, times): a submission that comes again, from the
caller or from the log, starts the very same event again, which later services recognise by its id. It is never just
skipped: the first time may have died before its event was on the log.
"""

from collections.abc import Callable

from callstream.agents.ports import Policy
from callstream.streams.chain import (
    LONGEST_DEADLINE_SECONDS,
    Cell,
    Chain,
    Chains,
    InvalidInput,
    MissingVersion,
    UnknownChain,
)
from callstream.streams.event import LAST_SECOND, Event, Failure, Priority, Submission
from callstream.streams.outcome import Bury, Forward, Outcome, Resume
from callstream.streams.submission import check_start, digest, unfit_id
from callstream.streams.timing import check_due

SERVICE = "intake"


class Intake:
    """The role of the service `intake`. `clock` gives epoch seconds."""

    service = SERVICE
    stateful = True

    def __init__(self, chains: Chains, clock: Callable[[], float]) -> None:
        self._chains = chains
        self._clock = clock

    def policy(self, event: Event) -> Policy:
        """One short try: nothing here waits for anyone but the log."""
        return Policy(step=SERVICE, keeps_deadline=True)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Start the task, start it again, or refuse it."""
        # Whoever writes onto the topic itself may have given any digest.
        event = event.with_body(digest=digest(event.body.submission))
        seen = state.value
        if seen is None:
            if (why := unfit_id(event)) is not None:
                # The task that this is the id of, now or some day, goes on.
                return Bury(Failure(kind="invalid-input", message=why), ends_task=False)
            return await self._start(event, state)
        if seen["digest"] != event.body.digest:
            message = f"task {event.task!r} was already submitted with another body; the first one stands"
            return Bury(Failure(kind="conflict", message=message), ends_task=False)
        # The row may be on this disk and not on the log, left there by a process that was killed.
        await state.save(seen)
        try:
            chain = self._chains.get(event.body.submission.chain, seen["version"])
            first = event.changed(
                priority=Priority(seen["priority"]), deadline=seen["deadline"], run_at=seen.get("run_at")
            )
            return self._started(first, chain, seen["time"])
        except MissingVersion:
            raise
        except (UnknownChain, InvalidInput) as error:
            return _refused(error)

    async def _start(self, event: Event, state: Cell) -> Outcome:
        try:
            chain = self._chains.current(event.body.submission.chain)
            moment = event.time or self._clock()
            event = _with_deadline(event, chain, moment)
            _check_times(event, self._clock())
            outcome = self._started(event, chain, moment)
        except (UnknownChain, InvalidInput) as error:
            return _refused(error)
        decided = {"digest": event.body.digest, "version": chain.version, "time": moment}
        times = {"deadline": event.deadline, "run_at": event.run_at}
        await state.save({**decided, "priority": str(event.priority), **times})
        return outcome

    def _started(self, event: Event, chain: Chain, moment: float) -> Resume:
        submission: Submission = event.body.submission
        validated = submission.model_copy(update={"input": chain.validate_input(submission.input)})
        started = event.changed(chain=chain.name, version=chain.version, sequence=0, time=moment, attempt=1)
        return Resume(started.with_body(submission=validated, outputs={}, trail=()), Forward())


def _with_deadline(event: Event, chain: Chain, moment: float) -> Event:
    """The event with its own deadline or the chain's. Raises InvalidInput for one that is absurdly far."""
    begins = max(moment, event.run_at or moment)
    if event.deadline is None:
        seconds = chain.deadline_seconds
        return event if seconds is None else event.changed(deadline=min(begins + seconds, LAST_SECOND))
    if event.deadline > begins + LONGEST_DEADLINE_SECONDS:
        raise InvalidInput("attribute 'expirytime' must lie within a year from when the task was handed in")
    return event


def _check_times(event: Event, now: float) -> None:
    """Raises InvalidInput for a task that is to start too late."""
    if event.run_at is None:
        return
    try:
        check_due(event.run_at, now)
        check_start(event.run_at, event.deadline)
    except ValueError as error:
        raise InvalidInput(f"run_at: {error}") from None


def _refused(error: UnknownChain | InvalidInput) -> Bury:
    kind = "unknown-chain" if isinstance(error, UnknownChain) else "invalid-input"
    return Bury(Failure(kind=kind, message=str(error)[:2000]))
