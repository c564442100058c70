"""The one place that performs an outcome: from an event and what was decided about it to the records that follow.

Pure: no clock, no log. The actor sends what comes back and acknowledges the event only when all of it is on the log.
"""

from dataclasses import dataclass, replace

from callstream.streams import topics
from callstream.streams.chain import Chain, Chains
from callstream.streams.event import TASK, TASK_HELD, TASK_NOTIFIED, VERDICT, End, Event, Failure, Hop, Json
from callstream.streams.outcome import Announce, Bury, Finish, Forward, Hold, Keep, Outcome, Resume, Retry
from callstream.streams.topics import topic_of
from callstream.streams.wire import Record, encode

MAX_NOTES = 32


@dataclass(frozen=True, slots=True)
class Work:
    """How one event was worked on: by which service and step, when (epoch seconds), in how many attempts."""

    service: str
    step: str
    started: float
    ended: float
    attempts: int = 1
    notes: tuple[str, ...] = ()


def settle(event: Event, outcome: Outcome, work: Work, chains: Chains) -> list[Record]:
    """The records that an outcome asks for, in the order in which they are to be sent."""
    match outcome:
        case Forward():
            return _forward(event, outcome, work, chains)
        case Finish():
            end = End.REJECTED if outcome.rejected else End.FINISHED
            done = _done(event, work, outcome.output, _hop(work, outcome))
            failure = (
                Failure(kind="rejected", message=outcome.reason[:2000], step=work.step) if outcome.rejected else None
            )
            return [_terminal(done, end, chains, failure)]
        case Hold():
            held = _done(event, work, outcome.output, _hop(work, outcome)).with_body(held=outcome.reason[:2000])
            return [encode(replace(held, type=TASK_HELD), topic_of(topics.REVIEW))]
        case Bury(failure=failure, ends_task=ends_task):
            dead = event.with_body(failure=_named(failure, work), trail=(*event.body.trail, _hop(work, outcome)))
            letters = [encode(replace(dead, type=f"{TASK}.dead"), topic_of(topics.DEAD))]
            if ends_task and event.body.end is None and event.type != VERDICT:
                letters.append(_terminal(_next(dead), End.FAILED, chains, dead.body.failure))
            return letters
        case Announce(output=output):
            said = event.with_body(outputs={work.service: output})
            return [encode(replace(said, type=TASK_NOTIFIED), topic_of(topics.NOTIFIED))]
        case Resume(event=other, outcome=then):
            return settle(other, then, work, chains)
        case Keep():
            return []
        case Retry():
            raise AssertionError("a retry is the actor's to perform, not to settle")


def _forward(event: Event, outcome: Forward, work: Work, chains: Chains) -> list[Record]:
    chain = chains.get(event.chain, event.version)
    done = _done(event, work, outcome.output, _hop(work, outcome))
    following = chain.step(done.sequence)
    if following is None:
        return [_terminal(done, End.FINISHED, chains, None)]
    return [encode(done, topic_of(following.service))]


def _done(event: Event, work: Work, output: Json, hop: Hop) -> Event:
    outputs = {**event.body.outputs, work.step: output} if output else event.body.outputs
    return _next(event.with_body(outputs=outputs, trail=(*event.body.trail, hop), held=None))


def _next(event: Event) -> Event:
    return replace(event, sequence=event.sequence + 1, attempt=1, type=TASK)


def _terminal(event: Event, end: End, chains: Chains, failure: Failure | None) -> Record:
    result = _result(event, chains) if end is End.FINISHED else None
    ended = event.with_body(end=end, failure=failure, result=result, held=None)
    return encode(replace(ended, type=f"{TASK}.{end}"), topic_of(topics.FINISHED))


def _result(event: Event, chains: Chains) -> Json:
    chain: Chain = chains.get(event.chain, event.version)
    return chain.result(event) if chain.result is not None else dict(event.body.outputs)


def _hop(work: Work, outcome: Forward | Finish | Hold | Bury) -> Hop:
    usage = outcome.usage if isinstance(outcome, Forward) else None
    remarks = (*work.notes, *(outcome.notes if isinstance(outcome, Forward) else ()))
    if isinstance(outcome, Bury):
        remarks = (*remarks, f"{outcome.failure.kind}: {outcome.failure.message}"[:2000])
    return Hop(
        step=work.step,
        service=work.service,
        started=work.started,
        ended=work.ended,
        attempts=work.attempts,
        usage=usage,
        notes=remarks[-MAX_NOTES:],
    )


def _named(failure: Failure, work: Work) -> Failure:
    return failure if failure.step else failure.model_copy(update={"step": work.step})
