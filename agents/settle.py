"""The one place that performs an outcome: from an event and what was decided about it to the records that follow.

Pure: no clock, no log. The actor sends what comes back and acknowledges the event only when all of it is on the log.
What a step gives is taken as its reader will have it, so that nothing is sent that the next service would refuse.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from callstream.agents import rollback, shadow
from callstream.agents.joining import subtasks
from callstream.agents.review.remark import beside
from callstream.streams import strict_json, topics
from callstream.streams.chain import Chain, Chains, UnknownChain
from callstream.streams.edits import edited
from callstream.streams.errorclass import ErrorClass
from callstream.streams.event import (
    LETTER_COMMAND,
    MAX_ATTEMPTS_TOLD,
    MAX_HOPS,
    MAX_LINE,
    MAX_NOTES,
    SUBTASKS,
    TASK,
    TASK_DEAD,
    TASK_HELD,
    TASK_JOIN_DUE,
    TASK_NOTIFIED,
    TASK_SUBTASK,
    TASK_UNDO,
    VERDICT,
    Attempt,
    Burial,
    End,
    Event,
    Failure,
    Hop,
    Json,
    Submission,
    Undoing,
    Waiting,
    WaitReason,
)
from callstream.streams.outcome import (
    Again,
    Announce,
    Bury,
    Cancelled,
    FanOut,
    Finish,
    Forward,
    Hold,
    Keep,
    Outcome,
    Redo,
    Resume,
    Retry,
    Reviewed,
)
from callstream.streams.review import with_terms
from callstream.streams.routes import END, Route, RouteFailed, choose
from callstream.streams.spend import Spends
from callstream.streams.timespent import step_times, told
from callstream.streams.timing import delayed
from callstream.streams.topics import check_foreign, lane_of, topic_of
from callstream.streams.wire import BODY_REF, MAX_BODY_BYTES, MAX_SEQUENCE, EventTooLarge, Record, encode

REMARKS = (VERDICT, LETTER_COMMAND, TASK_SUBTASK, TASK_JOIN_DUE)
"""What tells a service about a task and is not the task itself: a burial of these does not end it."""
NO_ROLLBACK = "without rollback: what was done stays"
BODY_GONE = "its body is not in the blob store: its input, its outputs and its trail are not known"
LEFT_OUT = "the event was too large to keep: its input, its outputs and its trail are left out"


@dataclass(frozen=True, slots=True)
class Work:
    """How one event was worked on: by which service and step, when (epoch seconds), in how many attempts.

    Of its seconds, those that it waited for capacity, and those that went into attempts that failed.
    `origin` is the record that it came on (topic, partition, offset), `failed` are the attempts that came to nothing.
    `spends` is what its requests to models cost.
    """

    service: str
    step: str
    started: float
    ended: float
    attempts: int = 1
    notes: tuple[str, ...] = ()
    waited: float = 0.0
    retried: float = 0.0
    origin: tuple[str, int, int] = ("", 0, 0)
    failed: tuple[Attempt, ...] = ()
    spends: Spends = ()


def settle(event: Event, outcome: Outcome, work: Work, chains: Chains) -> list[Record]:
    """The records that an outcome asks for, in the order in which they are to be sent.

    Raises ValueError for what cannot be passed on, UnknownChain, TypeError for what is no outcome, and whatever the
    chain's `result` raises. A Bury of an event that was read from a topic can always be performed.
    """
    match outcome:
        case _ if event.type == TASK_UNDO and (undoing := event.body.undoing) is not None:
            try:
                return _undone(event, undoing, outcome, work, chains)
            except ValueError:
                return _undone(_emptied(event), undoing, outcome, replace(work, notes=(LEFT_OUT,)), chains)
        case Forward():
            return _forward(event, outcome, work, chains)
        case FanOut():
            return _fan_out(event, outcome, work, chains)
        case Finish():
            end = End.REJECTED if outcome.rejected else End.FINISHED
            done = _done(event, work, outcome.output, _hop(work, outcome))
            failure = (
                Failure(kind="rejected", message=line(outcome.reason), step=work.step) if outcome.rejected else None
            )
            return _ended(event, done, end, chains, failure)
        case Hold():
            held = _done(event, work, outcome.output, _hop(work, outcome)).with_body(held=line(outcome.reason))
            if shadow.is_copy(event):
                return _terminal(held, End.FINISHED, chains, None)
            step = chains.get(event.chain, event.version).step(event.sequence)
            held = with_terms(held, outcome.terms, outcome.text, None if step is None else step.regenerates)
            return [encode(held.as_type(TASK_HELD), topic_of(topics.REVIEW))]
        case Bury():
            try:
                return _letters(event, outcome, work, chains)
            except ValueError:
                return _letters(_emptied(event), outcome, replace(work, notes=(*work.notes, LEFT_OUT)), chains)
        case Cancelled():
            return _cancelled(event, outcome, work, chains)
        case Again():
            return [encode(event, topic_of(topics.PAUSED if outcome.paused else _next_topic(event, chains)))]
        case Announce(output=output):
            said = event.with_body(outputs={work.service: _object(output, work.service)}, waiting=None)
            return [encode(said.as_type(TASK_NOTIFIED), topic_of(topics.NOTIFIED))]
        case Resume(event=other, outcome=then):
            return settle(other, then, work, chains)
        case Redo(event=other):
            return [_taken_up(other, topic_of(_way_of(other, chains)))]
        case Reviewed():
            return [*beside(event, outcome), *settle(event, outcome.then, work, chains)]
        case Keep():
            return []
        case Retry():
            raise AssertionError("a retry is the actor's to perform, not to settle")
    raise TypeError(f"step {work.step!r} gave {type(outcome).__name__}, which is no outcome")


def line(text: str) -> str:
    """The text as an event may carry it: no half surrogates, cut at `MAX_LINE` characters."""
    return str(text)[:MAX_LINE].encode("utf-8", "backslashreplace").decode()[:MAX_LINE]


def _forward(event: Event, outcome: Forward, work: Work, chains: Chains) -> list[Record]:
    chain = chains.get(event.chain, event.version)
    changed = event.with_body(outputs=_edited(event, outcome)) if outcome.edits else event
    done = _done(changed, work, outcome.output, _hop(work, outcome))
    if shadow.is_copy(event):
        return _terminal(done, End.FINISHED, chains, None)
    try:
        done, route = (_back(event, done, outcome.back, chain), None) if outcome.back else _routed(event, done, chain)
    except RouteFailed as error:
        return _letters(event, Bury(Failure(kind="route", message=line(str(error)))), work, chains)
    following = chain.step(done.sequence)
    beside = [
        *_foreign(outcome),
        *([encode(done, route.topic)] if route is not None and route.topic is not None else []),
    ]
    if following is None or (route is not None and route.to == END):
        return [*beside, *_terminal(done, End.FINISHED, chains, None)]
    if len(done.body.trail) >= MAX_HOPS:
        late = f"after {MAX_HOPS} hops the task was still to go to {following.name!r}: its routes lead in a circle"
        return _letters(event, Bury(Failure(kind="hop-limit", message=late)), work, chains)
    record = encode(done, topic_of(lane_of(following.service, done.priority)))
    if event.sequence == 0 and event.run_at is not None and event.run_at > work.ended:
        waiting = Waiting(reason=WaitReason.SCHEDULED, until=event.run_at)
        record = delayed(encode(done.with_body(waiting=waiting), record.topic), event.run_at)
    records = [*beside, record]
    if route is not None and route.shadow is not None and (copy := shadow.copy_for(done, route.shadow, chain)):
        aside = chain.step(copy.sequence)
        records += [encode(copy, topic_of(lane_of(aside.service, copy.priority)))] if aside is not None else []
    return records


def _foreign(outcome: Forward) -> Iterator[Record]:
    """Records of a step for topics of others. Raises ValueError for a topic of ours."""
    for record in outcome.records:
        check_foreign(record.topic)
        yield record


def _edited(event: Event, outcome: Forward) -> dict[str, Json]:
    """The outputs with the texts that a step has changed. Raises ValueError for what is no text of an output."""
    outputs = event.body.outputs
    for step, texts in outcome.edits.items():
        for name, text in texts.items():
            if not isinstance(outputs.get(step, {}).get(name), str) or not isinstance(text, str):
                raise ValueError(f"an edit of {step}.{name}, which is no text of an output")
    return edited(outputs, outcome.edits)


def _back(event: Event, done: Event, to: str, chain: Chain) -> Event:
    """An event that goes back to a step that its own declares. Raises ValueError for any other."""
    step = chain.step(event.sequence)
    if step is None or step.regenerates != to:
        raise ValueError(f"a way back to {to!r}, which the step does not declare")
    return done.changed(sequence=chain.sequence_of(to, event.sequence))


def _fan_out(event: Event, outcome: FanOut, work: Work, chains: Chains) -> list[Record]:
    """The sub-tasks, and then the task itself for its join."""
    chain = chains.get(event.chain, event.version)
    output = {**_object(outcome.output, work.step), "subtasks": len(outcome.subtasks)}
    done = _done(event, work, output, _hop(work, outcome))
    if shadow.is_copy(event):
        return _terminal(done, End.FINISHED, chains, None)
    try:
        events = subtasks.started(event, done, outcome, chain.step(done.sequence), work.ended)
        records = [encode(one, topic_of(topics.INTAKE)) for one in events]
        if (size := sum(len(record.value) for record in records)) > subtasks.MOST_BYTES:
            raise subtasks.BadFanOut(f"the sub-tasks have {size:,} bytes; at most {subtasks.MOST_BYTES:,} are sent")
    except subtasks.BadFanOut as error:
        return _letters(event, Bury(Failure(kind="fan-out", message=line(str(error)))), work, chains)
    waiting = done.extended(**{SUBTASKS: str(len(records))})
    return [*records, encode(waiting, topic_of(topics.JOIN))]


def _routed(event: Event, done: Event, chain: Chain) -> tuple[Event, Route | None]:
    """An event that has done its step, on the way that the step's routes choose. Raises RouteFailed."""
    step = chain.step(event.sequence)
    name = step.name if step is not None else topics.INTAKE
    if name not in chain.routes or (step is None and event.sequence > 0):
        return done, None
    route = choose(chain.routes[name], done, name)
    if route.to not in (None, END):
        done = done.changed(sequence=chain.sequence_of(str(route.to), event.sequence))
    hop = done.body.trail[-1]
    noted = hop.model_copy(update={"notes": (*hop.notes, line(route.note))[-MAX_NOTES:]})
    return done.with_body(trail=(*done.body.trail[:-1], noted)), route


def _next_topic(event: Event, chains: Chains) -> str:
    """Where the step that an event is about to take is taken. Raises UnknownChain."""
    step = chains.get(event.chain, event.version).step(event.sequence)
    if step is None:
        raise UnknownChain(f"{event.chain} v{event.version} has no step {event.sequence}")
    return lane_of(step.service, event.priority)


def _cancelled(event: Event, outcome: Cancelled, work: Work, chains: Chains) -> list[Record]:
    """The end of a cancelled task, with the number after the chain's last step wherever the command reached it.

    So it has the same id if it reached two events of the task, the second of which a crash had sent before. What is
    undone before it has numbers beyond that one.
    """
    try:
        chain = chains.get(event.chain, event.version) if event.version else chains.current(event.chain)
        last = max(event.sequence, len(chain.steps))
    except UnknownChain:
        last = event.sequence
    trail = (*event.body.trail[: MAX_HOPS - 1], _hop(work, outcome))
    failure = Failure(kind="cancelled", message=line(outcome.reason), step=work.step)
    done = _next(event.with_body(trail=trail, waiting=None).changed(sequence=last))
    if not outcome.rollback:
        return _terminal(done, End.CANCELLED, chains, failure)
    back = rollback.undo(done.with_body(failure=failure), event.sequence, End.CANCELLED, chains, done.sequence)
    return [back] if back is not None else _terminal(done, End.CANCELLED, chains, failure)


def _done(event: Event, work: Work, output: Json, hop: Hop) -> Event:
    if len(event.body.trail) >= MAX_HOPS:
        raise ValueError(f"the trail of the event has {MAX_HOPS} hops and takes no more")
    said = _object(output, work.step)
    outputs = {**event.body.outputs, work.step: said} if said else event.body.outputs
    ended = {"held": None, "waiting": None, "end": None, "failure": None, "result": None}
    return _next(event.with_body(outputs=outputs, trail=(*event.body.trail, hop), **ended))


def _letters(event: Event, outcome: Bury, work: Work, chains: Chains) -> list[Record]:
    failure = outcome.failure
    named = failure if failure.step else failure.model_copy(update={"step": work.step})
    trail = (*event.body.trail[: MAX_HOPS - 1], _hop(work, outcome))
    if named.kind == ErrorClass.DEADLINE and (where := told(step_times(trail, event.time))):
        named = named.model_copy(update={"message": line(f"{named.message}; {where}")})
    dead = event.with_body(failure=named, trail=trail, waiting=None)
    ends_task = outcome.ends_task and event.body.end is None and event.type not in REMARKS
    letter = _letter(dead, _burial(event, outcome, work, ends_task))
    if not ends_task:
        return [letter]
    done = _next(dead)
    ended = _ended(event, done, End.FAILED, chains, named) if outcome.rollback else None
    return [letter, *(ended or _terminal(done, End.FAILED, chains, named))]


def _letter(dead: Event, burial: Burial) -> Record:
    return encode(dead.with_body(burial=burial).as_type(TASK_DEAD), topic_of(topics.DEAD))


def _burial(event: Event, outcome: Bury, work: Work, ended_task: bool) -> Burial:
    failed = work.failed
    if not failed or failed[-1].number < event.attempt + work.attempts - 1:
        failed = (*failed, attempt_of(event.attempt + work.attempts - 1, work.ended, outcome))
    half = MAX_ATTEMPTS_TOLD // 2
    told = failed if len(failed) <= MAX_ATTEMPTS_TOLD else (*failed[:half], *failed[-half:])
    topic, partition, offset = work.origin
    return Burial(
        topic=topic,
        partition=partition,
        offset=offset,
        ended_task=ended_task,
        attempts=told,
        before=event.body.failure,
    )


def attempt_of(number: int, ended: float, outcome: Retry | Bury) -> Attempt:
    """A failed attempt as a dead letter tells of it."""
    failure = outcome.failure
    return Attempt(number=number, ended=ended, kind=failure.kind, message=failure.message[:300], usage=outcome.usage)


def _taken_up(event: Event, topic: str) -> Record:
    """A redriven event; one whose body the letter has by reference goes on with that body, and not with its own."""
    extensions = {name: value for name, value in event.extensions.items() if name != BODY_REF}
    record = encode(event.changed(extensions=extensions), topic)
    reference = event.extensions.get(BODY_REF)
    return record if reference is None else record.by_reference(reference)


def _way_of(event: Event, chains: Chains) -> str:
    if event.body.end is not None:
        return topics.FINISHED
    if event.sequence == 0:
        return topics.INTAKE
    step = chains.get(event.chain, event.version).step(event.sequence)
    if step is None:
        raise ValueError(f"chain {event.chain} v{event.version} has no step {event.sequence}")
    return lane_of(step.service, event.priority)


def _emptied(event: Event) -> Event:
    given = event.body.submission
    bare = Submission(chain=given.chain, input={}, callback=given.callback)
    return event.with_body(submission=bare, outputs={}, trail=(), result=None, held=None, additions={})


def _object(given: Json, name: str) -> Json:
    try:
        found = strict_json.readable(given, MAX_BODY_BYTES)
    except strict_json.TooLarge as error:
        raise EventTooLarge(f"its {'result' if name == 'result' else 'output'} has {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"the output of {name!r} is {type(given).__name__}, not a JSON object")
    return found


def _next(event: Event) -> Event:
    return event.changed(sequence=min(event.sequence + 1, MAX_SEQUENCE), attempt=1, type=TASK)


def _terminal(event: Event, end: End, chains: Chains, failure: Failure | None) -> list[Record]:
    """The record that ends a task; of a sub-task, also the one that tells its parent's join."""
    result = _result(event, chains) if end is End.FINISHED else None
    ended = event.with_body(end=end, failure=failure, result=result, held=None, waiting=None, undoing=None)
    told = subtasks.told(ended)
    return [
        encode(ended.as_type(f"{TASK}.{end}"), topic_of(topics.FINISHED)),
        *([encode(told, topic_of(topics.JOIN))] if told is not None else []),
    ]


def _ended(event: Event, done: Event, end: End, chains: Chains, failure: Failure | None) -> list[Record]:
    """The records that end a task, or, if it ends badly, the first one of its way back.

    The step that failed is undone too: it may have had its effect before.
    """
    if end is not End.FINISHED:
        back = rollback.undo(done.with_body(failure=failure), event.sequence, end, chains)
        if back is not None:
            return [back]
    return _terminal(done, end, chains, failure)


def _undone(event: Event, undoing: Undoing, outcome: Outcome, work: Work, chains: Chains) -> list[Record]:
    """What follows when a step was undone, or can't be: a dead letter says so then, and the rest is undone anyway."""
    if not isinstance(outcome, Forward | Bury):
        raise TypeError(f"{work.step!r} gave {type(outcome).__name__}: what undoes a step ends in Forward or Bury")
    step = rollback.name_of(undoing, event, chains)
    hop = _hop(replace(work, step=step), outcome).model_copy(update={"undo": True})
    trail = (*event.body.trail, hop)[:MAX_HOPS]
    done = _next(event.with_body(trail=trail, waiting=None))
    back = rollback.undo(done, undoing.step - 1, undoing.end, chains, undoing.number)
    ended = done if undoing.number is None else done.changed(sequence=undoing.number)
    then = [back] if back is not None else _terminal(ended, undoing.end, chains, event.body.failure)
    if isinstance(outcome, Forward):
        return [*_foreign(outcome), *then]
    failure = outcome.failure.model_copy(update={"step": f"undo {step}"})
    dead = event.with_body(failure=failure, trail=trail, waiting=None)
    return [_letter(dead, _burial(event, outcome, work, False)), *then]


def _result(event: Event, chains: Chains) -> Json:
    if shadow.is_copy(event):
        return shadow.result_of(event)
    chain: Chain = chains.get(event.chain, event.version)
    return _object(chain.result(event), "result") if chain.result is not None else dict(event.body.outputs)


def _hop(work: Work, outcome: Forward | FanOut | Finish | Hold | Bury | Cancelled) -> Hop:
    usage = outcome.usage if isinstance(outcome, Forward | FanOut | Bury | Cancelled) else None
    remarks = (*work.notes, *(outcome.notes if isinstance(outcome, Forward | FanOut) else ()))
    if isinstance(outcome, Bury):
        remarks = (*remarks, f"{outcome.failure.kind}: {outcome.failure.message}")
    if isinstance(outcome, Cancelled):
        remarks = (*remarks, outcome.reason, *(() if outcome.rollback else (NO_ROLLBACK,)))
    return Hop(
        step=work.step,
        service=work.service,
        started=work.started,
        ended=work.ended,
        attempts=work.attempts,
        usage=usage,
        notes=tuple(map(line, remarks[-MAX_NOTES:])),
        waited=round(work.waited, 3),
        retried=round(work.retried, 3),
        spends=work.spends,
    )
