"""From a dead event to the one that takes its task up again, and whether there can be one. Pure.

What a later step said is cut from outputs and trail; what earlier ones said stays, and so do the ids of their model
calls: answers that were paid for are used again.
"""

from callstream.agents.letters.commands import Command
from callstream.agents.letters.merge import merged
from callstream.agents.settle import BODY_GONE, LEFT_OUT
from callstream.streams.chain import Chain, Chains, InvalidInput, UnknownChain
from callstream.streams.event import TASK, Body, Event, Hop, Json
from callstream.streams.wire import BODY_REF, MAX_RUN
from callstream.tables.letters import CALLBACK, UNREADABLE, WAITING
from callstream.tables.letters import TASK as TASK_LETTER

INTAKE, REDRIVE, SERVICE = "intake", "redrive", "letters"


class CannotRedrive(Exception):
    """What is asked for cannot be done with that letter; the message says why, and what can."""


class InputRefused(CannotRedrive):
    """The new input does not fit the chain's model; the message says where."""


def refusal(row: Json, command: Command, task: Json | None) -> str | None:
    """Why a letter cannot be redriven or edited as its row stands; None if it may be. `task` is the task's own row."""
    if row["state"] != WAITING:
        when = next((entry for entry in reversed(row["audit"]) if not entry.get("refused")), None)
        return f"it was {row['state']} already" + (f" by {when['by']}" if when else "")
    if row["run"] != command.run:
        return f"its task has failed again since, in run {row['run']}: look at it anew"
    if row["letter"] == UNREADABLE:
        return "nobody could read the record: repair its bytes and send it to its topic, then discard the letter"
    if row["letter"] not in (TASK_LETTER, CALLBACK):
        return "the task did not end with it, so there is nothing to take up again; discard the letter"
    if task is not None and row["letter"] == TASK_LETTER:
        run = task.get("run", 0)
        if run > row["run"] or (run == row["run"] and task["state"] in ("finished", "rejected")):
            return f"its task has gone on since and is {task['state']}"
    return None


def redriven(event: Event, command: Command, now: float, chains: Chains) -> Event:
    """The event that takes a task up again. `now` is epoch seconds; a deadline that has passed by then is lifted.

    Raises CannotRedrive.
    """
    if event.run >= MAX_RUN:
        raise CannotRedrive(f"the task was taken up {event.run:,} times already")
    deadline = event.deadline if event.deadline is None or event.deadline > now else None
    again = event.changed(type=TASK, attempt=1, run=event.run + 1, deadline=deadline)
    if event.body.end is not None:
        if command.from_step is not None:
            raise CannotRedrive("its task has ended: only its caller can be told again, without from_step")
        return _told_again(again)
    place = start_of(event, command.from_step, chains)
    if BODY_REF in event.extensions:
        if command.ask_again:
            raise CannotRedrive("its body is in the blob store only: it goes on as it was, without ask_again")
        return again
    kept = _kept(event, place, chains)
    step = _steps(event, chains)[place]
    note = f"run {again.run} from {step} by {command.by}" + (f": {command.reason}" if command.reason else "")
    hop = Hop(step=REDRIVE, service=SERVICE, started=now, ended=now, notes=(note[:2000],))
    names = {one.step for one in kept}
    outputs = {name: output for name, output in event.body.outputs.items() if name in names}
    generation = event.body.generation + command.ask_again
    ready = _bare(again, outputs=outputs, trail=(*kept, hop), generation=generation)
    if not place:
        return _submitted(ready)
    return ready.changed(sequence=_chain(event, chains).before_round(event.sequence) + place)


def edited(event: Event, given: Json, chains: Chains) -> Event:
    """The dead event with another input, which earlier answers of models do not fit. Raises CannotRedrive."""
    if event.body.end is not None:
        raise CannotRedrive("its task has ended: its input makes no difference any more")
    try:
        valid = _chain(event, chains).validate_input(given)
    except InvalidInput as error:
        raise InputRefused(f"the input model of chain {event.body.submission.chain} refuses it: {error}") from None
    # Intake validates what it is given by itself, and would not take what another model has made of it.
    submission = event.body.submission.model_copy(update={"input": valid if event.sequence else given})
    bare = event.changed(extensions={name: text for name, text in event.extensions.items() if name != BODY_REF})
    return bare.with_body(submission=submission, generation=event.body.generation + 1)


def patched(event: Event, patch: Json, chains: Chains) -> Event:
    """The dead event whose input has a JSON merge patch. Raises CannotRedrive."""
    if not event.input:
        raise CannotRedrive("its input is not kept: give the whole input")
    return edited(event, merged(event.input, patch), chains)


def start_of(event: Event, from_step: str | None, chains: Chains) -> int:
    """The place, 0 for intake, at which a redriven task begins: of the round of steps that the event stands in.

    Raises CannotRedrive naming the steps that it may begin at.
    """
    steps = _steps(event, chains)
    last = len(steps) - 1
    if BODY_REF in event.extensions:
        if from_step not in (None, steps[last]):
            raise CannotRedrive(f"its body is in the blob store only: it can begin at {steps[last]!r} only")
        # Without its body nothing of the task was undone.
        return last
    if from_step is None:
        wanted = 1 if event.body.generation and last else last
        wanted = min(wanted, _undone(event, chains) or wanted)
        if steps[wanted] in _joins(event, chains):
            wanted -= 1
    elif from_step in steps and from_step not in _joins(event, chains):
        wanted = steps.index(from_step)
    else:
        raise CannotRedrive(f"it cannot begin at {from_step!r}; it can at: {', '.join(starts(event, chains))}")
    if (undone := _undone(event, chains)) and wanted > undone:
        raise CannotRedrive(f"step {steps[undone]!r} was undone: it cannot begin after it")
    if wanted and (why := _emptied_by(event)):
        if not event.body.generation:
            raise CannotRedrive(f"{why}: give its input anew (edit), or submit the task again")
        if wanted > 1:
            raise CannotRedrive(f"{why}: it can begin at {steps[1]!r} only")
    return wanted


def _undone(event: Event, chains: Chains) -> int | None:
    """The place of the first step that was undone when the task failed."""
    steps = _chain(event, chains).steps[: len(_steps(event, chains)) - 1]
    return next((number for number, step in enumerate(steps, 1) if step.undoes), None)


def starts(event: Event, chains: Chains) -> list[str]:
    """The steps that the task of a dead event may begin at again. Raises CannotRedrive.

    A join is none: it is told of its sub-tasks by the step before, which starts the same ones again.
    """
    if BODY_REF in event.extensions:
        return _steps(event, chains)[-1:]
    steps = _steps(event, chains)[1 if event.sequence else 0 :]
    joins = _joins(event, chains)
    return [step for step in steps if step not in joins]


def _joins(event: Event, chains: Chains) -> set[str]:
    return {step.name for step in _chain(event, chains).steps if step.joins}


def _steps(event: Event, chains: Chains) -> list[str]:
    """Names of intake and the steps up to the failed one, at their places."""
    chain = _chain(event, chains)
    failed = chain.step(event.sequence)
    if event.sequence and failed is None:
        raise CannotRedrive(
            f"chain {chain.name} v{chain.version} has {len(chain.steps)} steps, none at {event.sequence}"
        )
    names = [step.name for step in chain.steps]
    return [INTAKE, *(names[: names.index(failed.name) + 1] if failed is not None else ())]


def _chain(event: Event, chains: Chains) -> Chain:
    try:
        if event.sequence == 0:
            return chains.current(event.body.submission.chain)
        return chains.get(event.chain, event.version)
    except UnknownChain as error:
        raise CannotRedrive(f"{error}; have a worker serve that version again, or submit the task anew") from None


def _kept(event: Event, place: int, chains: Chains) -> tuple[Hop, ...]:
    """The trail up to the step that is taken again; of a task that was sent back, up to the last time that it was."""
    steps = _steps(event, chains)
    trail, begins = event.body.trail, 0
    if _chain(event, chains).before_round(event.sequence):
        before = set(steps[1:place])
        begins = next((at + 1 for at in range(len(trail) - 1, -1, -1) if trail[at].step in before), 0)
    later = set(steps[place:])
    end = next((at for at, hop in enumerate(trail) if at >= begins and hop.step in later), len(trail))
    return tuple(hop for hop in trail[:end] if hop.step != REDRIVE)


def _emptied_by(event: Event) -> str:
    """Why the event has no outputs and no trail; empty if it has them."""
    notes = [note for hop in event.body.trail[-1:] for note in hop.notes]
    return next((note.partition(":")[0] for note in notes if note in (LEFT_OUT, BODY_GONE)), "")


def _told_again(event: Event) -> Event:
    """The end of a task once more, as it was told the first time."""
    burial = event.body.burial
    before = burial.before if burial is not None else None
    body: Body = event.body.model_copy(update={"failure": before, "burial": None, "trail": event.body.trail[:-1]})
    return event.changed(type=f"{TASK}.{event.body.end}", body=body)


def _submitted(event: Event) -> Event:
    """As intake was given it: it chooses version and trail itself."""
    return _bare(event.changed(sequence=0), outputs={}, trail=(), generation=event.body.generation)


def _bare(event: Event, **changes: object) -> Event:
    return event.with_body(end=None, failure=None, held=None, result=None, burial=None, **changes)
