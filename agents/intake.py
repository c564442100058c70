"""Intake: a submission becomes a task on the current version of its chain, once.

The row in `seen` holds what was decided (version, start, priority, deadline): a submission that comes again, from the
caller or from the log, starts the very same event again, which later services recognise by its id. It is never just
skipped: the first time may have died before its event was on the log.
"""

from collections.abc import Callable
from dataclasses import replace

from callstream.agents.ports import Policy
from callstream.streams.chain import Cell, Chain, Chains, InvalidInput, MissingVersion, UnknownChain
from callstream.streams.event import Event, Failure, Priority, Submission
from callstream.streams.outcome import Bury, Forward, Outcome, Resume
from callstream.streams.submission import digest

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
            return await self._start(event, state)
        if seen["digest"] != event.body.digest:
            message = f"task {event.task!r} was already submitted with another body; the first one stands"
            return Bury(Failure(kind="conflict", message=message), ends_task=False)
        # The row may be on this disk and not on the log, left there by a process that was killed.
        await state.save(seen)
        try:
            chain = self._chains.get(event.body.submission.chain, seen["version"])
            first = replace(event, priority=Priority(seen["priority"]), deadline=seen["deadline"])
            return self._started(first, chain, seen["time"])
        except MissingVersion:
            raise
        except (UnknownChain, InvalidInput) as error:
            return _refused(error)

    async def _start(self, event: Event, state: Cell) -> Outcome:
        try:
            chain = self._chains.current(event.body.submission.chain)
            moment = event.time or self._clock()
            outcome = self._started(event, chain, moment)
        except (UnknownChain, InvalidInput) as error:
            return _refused(error)
        decided = {"digest": event.body.digest, "version": chain.version, "time": moment}
        await state.save({**decided, "priority": str(event.priority), "deadline": event.deadline})
        return outcome

    def _started(self, event: Event, chain: Chain, moment: float) -> Resume:
        submission: Submission = event.body.submission
        validated = submission.model_copy(update={"input": chain.validate_input(submission.input)})
        started = replace(event, chain=chain.name, version=chain.version, sequence=0, time=moment, attempt=1)
        return Resume(started.with_body(submission=validated, outputs={}, trail=()), Forward())


def _refused(error: UnknownChain | InvalidInput) -> Bury:
    kind = "unknown-chain" if isinstance(error, UnknownChain) else "invalid-input"
    return Bury(Failure(kind=kind, message=str(error)[:2000]))
