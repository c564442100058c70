"""The way back of a task that ends badly: the steps that it took and that can be undone are undone, the last one first.

Pure. A task on its way back is an event of type `callstream.task.undo` on the topic of the step's service; its
`sequence` goes on growing, so that whoever follows the task sees it move on. Its end, and why, travel along.
"""

from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.event import TASK_UNDO, End, Event, Undoing
from callstream.streams.topics import lane_of, topic_of
from callstream.streams.wire import Record, encode


def undo(event: Event, last: int, end: End, chains: Chains, number: int | None = None) -> Record | None:
    """The event that undoes the latest step up to number `last`; None if none of them can be undone.

    `event` is the task as it stands, `end` how it ends when all is undone, under that `number` if one is fixed. Raises
    ValueError for what is too large.
    """
    try:
        chain = chains.get(event.chain, event.version)
    except UnknownChain:
        return None
    for at in range(last, 0, -1):
        step = chain.step(at)
        if step is not None and step.undoes and (not chain.goes_back or _is_left(step.name, event)):
            back = event.with_body(undoing=Undoing(step=at, end=end, number=number), end=None, result=None, held=None)
            if number is not None:
                back = back.changed(sequence=2 * number - at)
            return encode(back.as_type(TASK_UNDO), topic_of(lane_of(step.service, event.priority)))
    return None


def _is_left(step: str, event: Event) -> bool:
    """Whether a step was taken, on the way that the routes or a reviewer chose, and is not undone yet."""
    hops = [hop.undo for hop in event.body.trail if hop.step == step]
    return bool(hops) and not hops[-1]


def name_of(undoing: Undoing, event: Event, chains: Chains) -> str:
    """The step that is undone; one that this worker does not know is called `unknown`."""
    try:
        step = chains.get(event.chain, event.version).step(undoing.step)
    except UnknownChain:
        step = None
    return "unknown" if step is None else step.name
