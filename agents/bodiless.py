"""Tasks whose body is gone: it was a claim check, and the blob store has it no more. They end, and say why.

The record's headers say whose task it was and where it stood, which is enough to end it with a dead letter of its own.
The letter keeps the reference: redriven once the blob is back, the task goes on with that body. So nothing is undone:
an undo would not know of what, and the task could not go on after it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from callstream.agents.control.commands import Cancel, reason_of
from callstream.agents.settle import BODY_GONE, Work, line, settle
from callstream.streams import strict_json
from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.event import MAX_EXTENSIONS, NO_DIGEST, TASK, TASK_HELD, TASK_UNDO, Event, Failure, Json
from callstream.streams.outcome import Bury, Cancelled
from callstream.streams.wire import BODY_REF, DATAREF, BadEvent, Record, decode

ENDED = frozenset({TASK, TASK_HELD, TASK_UNDO})
"""Events that are the task itself; without one of these it cannot go on."""
ONCE_BACK = "; redrive the task once it is back"
NOT_UNDONE = "; without it nothing of the task is undone"
NOT_AGAIN = "; what was held or undone cannot be redriven without it: hand the task in again"


def ends(
    headers: Iterable[tuple[str, bytes | None]],
    reason: str,
    work: Work,
    chains: Chains,
    cancel_of: Callable[[Event], Cancel | None],
) -> list[Record]:
    """The letter and the end of the task of a record without a body; none if it has not begun, or is none.

    A task that is cancelled, as `cancel_of` says, ends so and has no letter. Whoever hands a task in may have written
    the record: it ends no task that has its id.
    """
    known = list(headers)
    bare: Json = {"submission": {"chain": _header(known, "ce_chain"), "input": {}}, "digest": NO_DIGEST}
    try:
        event = decode(strict_json.dumps(bare), [(name, raw) for name, raw in known if name.lower() != DATAREF])
    except BadEvent:
        return []
    if event.type not in ENDED or event.sequence == 0:
        return []
    done = replace(work, step=_step(event, work, chains), notes=(BODY_GONE,))
    stays = NOT_UNDONE if _undoes(event, chains) else ""
    if event.type != TASK_UNDO and (cancel := cancel_of(event)) is not None:
        told = reason_of(cancel) + (stays if cancel.rollback else "")
        return settle(event, Cancelled(told, rollback=False), done, chains)
    again = event.type == TASK and len(event.extensions) < MAX_EXTENSIONS
    failure = Failure(kind="blob-missing", message=line(reason + stays + (ONCE_BACK if again else NOT_AGAIN)))
    letter, *end = settle(event, Bury(failure, rollback=False), done, chains)
    if again:
        letter = replace(letter, headers=[*letter.headers, (f"ce_{BODY_REF}", _header(known, DATAREF).encode())])
    return [letter, *end]


def _undoes(event: Event, chains: Chains) -> bool:
    """Whether there may be something to undo."""
    try:
        steps = chains.get(event.chain, event.version).steps
    except UnknownChain:
        return False
    return any(step.undoes for step in steps)


def _step(event: Event, work: Work, chains: Chains) -> str:
    """The step that the task stood before, if that is one of the service's."""
    try:
        step = chains.get(event.chain, event.version).step(event.sequence)
    except UnknownChain:
        return work.step
    return step.name if step is not None and step.service == work.service else work.step


def _header(headers: list[tuple[str, bytes | None]], wanted: str) -> str:
    return next((raw or b"" for name, raw in headers if name.lower() == wanted), b"").decode("utf-8", "replace")
