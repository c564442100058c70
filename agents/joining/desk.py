"""The service `join`: it keeps tasks that wait for their sub-tasks as rows, and sends them on when that is decided.

Three kinds of events come, all under the task's key: the task itself, the ends of its sub-tasks, and that its time is
over. Each is folded into the row; the one that decides sends the task on, and does so again if it comes again. What a
sub-task gave has a row of its own, so that each end costs one small change.
"""

import traceback
from collections.abc import Callable

from callstream.agents.control.commands import Cancel, Subject
from callstream.agents.joining import fold
from callstream.agents.joining.rows import JoinRows, Waiting
from callstream.agents.joining.step import Join
from callstream.agents.joining.subtasks import MOST_SUBTASKS
from callstream.agents.ports import Policy
from callstream.streams.chain import Cell, Chains, UnknownChain
from callstream.streams.event import SUBTASKS, TASK_JOIN_DUE, TASK_SUBTASK, Event, Failure, Json
from callstream.streams.outcome import Bury, Cancelled, Forward, Keep, Outcome, Resume
from callstream.streams.topics import JOIN
from callstream.tables.tasks import SUBTASK

MAX_TRACEBACK = 8_000
Cells = Callable[[Cell], JoinRows]
CancelOf = Callable[[Subject], Cancel | None]


class JoinDesk:
    """The role of the service `join`. `rows` gives a task's rows from its cell, `clock` epoch seconds.

    `cancel_of` says by which command a task is cancelled: whatever comes next then ends it, and it waits no longer.
    """

    service = JOIN
    stateful = True

    def __init__(
        self, chains: Chains, rows: Cells, clock: Callable[[], float], cancel_of: CancelOf = lambda _waiting: None
    ) -> None:
        self._chains = chains
        self._rows = rows
        self._clock = clock
        self._cancel_of = cancel_of

    def policy(self, event: Event) -> Policy:
        """The join's own attempts; an end that comes too late for the task is a late one for the join too."""
        join = self._join(event)
        return Policy(join.name, join.attempts, join.timeout_seconds, keeps_deadline=not _is_remark(event))

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Fold the event in; send the task on if this decides it, or decided it before."""
        join, rows = self._join(event), self._rows(state)
        row = rows.row()
        if fold.is_late(row, fold.mark_of(event)):
            return Keep()
        match event.type:
            case kind if kind == TASK_SUBTASK:
                by, new = await self._reported(event, row, rows)
            case kind if kind == TASK_JOIN_DUE:
                by, new = fold.CANCEL if fold.CANCEL in event.body.outputs else fold.DUE, row
            case _:
                if (count := _count(event)) is None:
                    message = "no sub-tasks were started by the step before this join"
                    return Bury(Failure(kind="fan-out", message=message))
                by, new = fold.TASK, await self._opened(event, join, count, row, rows)
        if new is None or new["mark"] != fold.mark_of(event):
            return Keep()
        if new["decided"] and new["decided"]["by"] != by:
            return Keep()
        new = self._decided(new, join, by, event)
        # Also one that did not change: it may be on this disk and not on the log.
        await rows.save(new)
        if new["decided"] is None:
            return Keep()
        return _sent_on(join, new["decided"], rows.waiting(fold.mark_of(event)), new["of"])

    def _decided(self, row: Json, join: Join, by: str, event: Event) -> Json:
        if by == fold.CANCEL:
            return fold.cancelled(row, by, event.body.outputs[fold.CANCEL])
        waiting = fold.waiting(row, event.key)
        if waiting is not None and (cancel := self._cancel_of(waiting)) is not None:
            return fold.cancelled(row, by, fold.told_of(cancel))
        # Another worker's clock may have said that it is time.
        now = max(self._clock(), row["until"] or 0.0) if by == fold.DUE else self._clock()
        return fold.decided(row, join, by, now)

    async def _reported(self, event: Event, row: Json | None, rows: JoinRows) -> tuple[str, Json | None]:
        said = event.body.outputs.get(SUBTASK, {})
        number = said.get("number")
        if not isinstance(number, int) or not 1 <= number <= MOST_SUBTASKS:
            return "", None
        if row is not None and row["mark"] == fold.mark_of(event) and row["decided"]:
            return str(number), row
        finished = said.get("state") == "finished"
        if finished:
            await rows.keep(fold.mark_of(event), number, {name: said.get(name) for name in ("number", "id", "result")})
        return str(number), fold.reported(row, fold.mark_of(event), number, finished)

    async def _opened(self, event: Event, join: Join, count: int, row: Json | None, rows: JoinRows) -> Json:
        until = self._clock() + join.within_seconds
        until = until if event.deadline is None else min(until, event.deadline)
        new = fold.opened(row, event, count, round(until, 3))
        if not new["decided"]:
            await rows.wait(event, new["until"])
        return new

    def _join(self, event: Event) -> Join:
        step = self._chains.get(event.chain, event.version).step(event.sequence)
        if not isinstance(step, Join):
            raise UnknownChain(f"step {event.sequence} of {event.chain} v{event.version} is no join")
        return step


def _sent_on(join: Join, decided: Json, waiting: Waiting, of: int) -> Outcome:
    task = waiting.event.extended(**{SUBTASKS: None})
    if (cancelled := decided.get("cancelled")) is not None:
        return Resume(task, Cancelled(cancelled["reason"], rollback=cancelled["rollback"]))
    if decided["why"] is not None:
        return Resume(task, Bury(Failure(kind="join", message=decided["why"])))
    taken = [waiting.given(number) for number in decided["taken"]]
    try:
        output = join.pick(taken, task) if join.pick is not None else {"taken": taken}
    except Exception as error:
        said = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
        message = f"what picks from {len(taken)} sub-tasks failed: {type(error).__name__}"
        return Resume(task, Bury(Failure(kind="bug", message=message, traceback=said[-MAX_TRACEBACK:])))
    return Resume(task, Forward(output, notes=(f"took {len(taken)} of {of} sub-tasks",)))


def _count(event: Event) -> int | None:
    text = event.extensions.get(SUBTASKS, "")
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= MOST_SUBTASKS else None


def _is_remark(event: Event) -> bool:
    return event.type in (TASK_SUBTASK, TASK_JOIN_DUE)
