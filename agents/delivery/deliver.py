"""The step that writes a task's result into a store, whichever it is."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Protocol

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from callstream.agents.delivery.lane import Lane
from callstream.agents.delivery.sink import Away, Entry, Refused, Sink, SinkRow
from callstream.agents.delivery.sinks import Sinks
from callstream.agents.delivery.topic_sink import TopicSink
from callstream.agents.patience import uncounted
from callstream.agents.spent import waiting
from callstream.streams.chain import Attempts, Cell, Step
from callstream.streams.event import Event, Failure, Json
from callstream.streams.findings import describe
from callstream.streams.outcome import Bury, Forward, Outcome, Retry

log = logging.getLogger("callstream.deliver")

RowOf = Callable[[Event], SinkRow | Mapping[str, Any]]


class Tools(Protocol):
    """As much of the worker's tools as delivery takes."""

    @property
    def sinks(self) -> Sinks:
        """Every store, by name."""

    @property
    def database(self) -> AsyncEngine:
        """The catalogue's."""


class Deliver(Step):
    """Writes a JSON object under a key into a sink: one of the settings (`[sinks.NAME]`), or one that is given.

    Idempotent by task and step; a task that was accepted earlier never overwrites what a later one wrote. `row` gives
    the key and the value of an event. Output: `{"key"}`. Kinds: `sink-row` (buried), `sink` (tried again). While the
    store is away tasks wait for it, at most until their deadline.

    With `undoes` what is replaced is kept: if the task ends badly after all, the key has it again. In a sandbox nothing
    is written: `{"key", "would_write"}` has the value. `service` is the one it runs on: a store that is often away
    holds up only what shares its service.
    """

    service = "deliver"
    # Its row may be there while it is cut: it is brought to its end, and asked before the next try.
    cuttable = False
    # A store that is away for some minutes is waited for: the task has been paid for already.
    attempts = Attempts(most=100, first_pause_seconds=0.5, longest_pause_seconds=10.0)

    row_kind: ClassVar[str] = "sink-row"
    away_kind: ClassVar[str] = "sink"

    def __init__(
        self,
        name: str = "deliver",
        *,
        sink: str | Sink | TopicSink,
        row: RowOf,
        undoes: bool = False,
        service: str | None = None,
    ) -> None:
        self.name = name
        self.undoes = undoes
        self._sink = sink
        self._row = row
        self._way: Lane | TopicSink | None = None
        if isinstance(sink, TopicSink):
            self.topics = (sink.topic,)
        if service is not None:
            # Of this step alone: all other steps say it of their class.
            vars(self)["service"] = service

    async def open(self, tools: Tools) -> None:
        """Take the way to the sink. Raises UnknownSink."""
        self._way = self._way_in(tools)

    async def was_done(self, event: Event) -> bool:
        """Whether what it writes is there. Raises Away; a topic is not asked: what was sent counts when it goes on."""
        entry = self._written(event)
        return isinstance(self._way, Lane) and entry is not None and await self._way.has(entry)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Write for one event."""
        try:
            entry = self._entry(event)
        except ValidationError as error:
            return self._buried(describe(error))
        if event.sandbox:
            told = f"sandbox: {self.what(entry)} was not written"
            return Forward({**self.output(entry), "would_write": entry.value}, notes=(told,))
        try:
            if isinstance(self._way, TopicSink):
                return Forward(self.output(entry), records=(self._way.record(entry),))
            await self._put(entry, self._lane())
        except Refused as error:
            return self._buried(str(error))
        except Away as error:
            return self._again(error)
        return Forward(self.output(entry))

    async def undo(self, event: Event, state: Cell) -> Outcome:
        """Have the key as it was, unless another task has written it since."""
        entry = self._written(event)
        if entry is None:
            return Forward(notes=("nothing to undo",))
        if isinstance(self._way, TopicSink):
            return Forward(notes=(f"{entry.key!r} is withdrawn",), records=(self._way.withdrawal(entry),))
        lane = self._lane()
        try:
            with uncounted(), waiting() if lane.away() else nullcontext():
                changed = await lane.undo(entry)
        except Refused as error:
            return self._buried(str(error))
        except Away as error:
            return self._again(error)
        return Forward(notes=(f"{entry.key!r} is as it was before" if changed else "nothing to undo",))

    async def rehearse(self, event: Event) -> Json:
        """What it would write."""
        try:
            entry = self._entry(event)
        except ValidationError as error:
            return {"would_fail": {"kind": self.row_kind, "message": describe(error)}}
        return {"would_write": self.rehearsed(entry)}

    def output(self, entry: Entry) -> Json:
        """What joins the task."""
        return {"key": entry.key}

    def what(self, entry: Entry) -> str:
        """The written in a sentence."""
        return repr(entry.key)

    def rehearsed(self, entry: Entry) -> Json:
        """What is told of an entry that would be written."""
        return {"tenant": entry.tenant, "key": entry.key, "value": entry.value}

    def row(self, event: Event) -> SinkRow:
        """What an event writes. Raises ValidationError."""
        return SinkRow.model_validate(self._row(event))

    def _way_in(self, tools: Tools) -> Lane | TopicSink:
        if isinstance(self._sink, str):
            return tools.sinks.get(self._sink)
        return self._sink if isinstance(self._sink, TopicSink) else tools.sinks.lane(self._sink)

    async def _put(self, entry: Entry, lane: Lane) -> None:
        """Wait until it is written; while the store is away, no longer than the task's deadline. Raises Away."""
        why, deadline = lane.away(), entry.event.deadline
        with uncounted():
            if why is None:
                await lane.put(entry)
                return
            left = None if deadline is None else max(0.0, deadline - time.time())
            try:
                with waiting():
                    async with asyncio.timeout(left):
                        await lane.put(entry)
            except TimeoutError:
                raise Away(f"{lane.name} was away until the deadline: {why}") from None

    def _entry(self, event: Event) -> Entry:
        row = self.row(event)
        return Entry(event, self.name, row.key, row.value, self.undoes, time.time())

    def _written(self, event: Event) -> Entry | None:
        """What `act` would write, or has written; None: no row can be made of the event, so there was none."""
        try:
            return self._entry(event)
        except Exception as error:
            log.debug("no row: %r", error)
            return None

    def _lane(self) -> Lane:
        if not isinstance(self._way, Lane):
            raise RuntimeError(f"step {self.name!r} was not opened")
        return self._way

    def _buried(self, message: str) -> Bury:
        return Bury(Failure(kind=self.row_kind, message=message[:500], step=self.name))

    def _again(self, error: Away) -> Retry:
        return Retry(Failure(kind=self.away_kind, message=str(error)[:500], step=self.name), error.after_seconds)
