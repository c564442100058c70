"""The way to one store, shared by all steps of a worker that write there: in batches, and with rests while it is away.

A store that is away is asked by one probe at a time, with pauses between that double; all others wait meanwhile,
without a try of their own.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import TypeVar

from prometheus_client import CollectorRegistry

from callstream.agents.delivery.batch import BatchWriter
from callstream.agents.delivery.metrics import SinkMetrics
from callstream.agents.delivery.sink import Away, Entry, Refused, Sink
from callstream.agents.inference.admission.breaker import Breaker
from callstream.streams.event import Json

log = logging.getLogger("callstream.deliver")

Result = TypeVar("Result")

LONGEST_PAUSE_SECONDS = 15.0
LONGEST_ASKED_SECONDS = 300.0
"""Of a store's Retry-After."""
LOOK_SECONDS = 1.0
AWAY = "away"
"""The reason for which a task waits here, as its status shows it."""


class Lane:
    """Writes through a sink. `clock` is a monotonic one, in seconds; `timeout_seconds` bounds one batch.

    `tries` counts how often the store was asked, `looks` grows while it is waited for. `metrics` know it as `label`.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        most: int = 64,
        timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        metrics: SinkMetrics | None = None,
        label: str = "",
    ) -> None:
        self.name = name
        self._metrics = metrics or SinkMetrics(CollectorRegistry())
        self._label = label or name
        self._metrics.watch(self._label, self)
        self.tries = 0
        self.looks = 0
        self._sink = sink
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._breaker = Breaker(in_a_row=1, most_pause_seconds=LONGEST_PAUSE_SECONDS)
        self._writer = BatchWriter(self._write, most)
        self._opening = asyncio.Lock()
        self._is_open = False
        self._closing = asyncio.Event()
        self._why = ""
        self._waiting: dict[object, tuple[Entry, float]] = {}

    def away(self) -> str | None:
        """Why nothing is written at present; None: nothing is in the way."""
        return self._why if self._breaker.opens_at(self._clock()) is not None else None

    async def put(self, entry: Entry) -> None:
        """Wait until the entry is written, for as long as the store is away. Raises Refused, Away."""
        place = object()
        self._waiting[place] = entry, self._clock()
        try:
            await self._writer.put(entry)
        finally:
            del self._waiting[place]

    def waiting(self, most: int) -> dict[str, Json]:
        """Which tasks wait for the store while it is away, by tenant and id: the first `most`."""
        if self.away() is None:
            return {}
        now = self._clock()
        return {
            f"{entry.tenant}/{entry.task}": {
                "reason": AWAY,
                "waits_for": self.name,
                "sink": self.name,
                "waited_seconds": round(now - since, 3),
            }
            for entry, since in islice(self._waiting.values(), most)
        }

    async def undo(self, entry: Entry) -> bool:
        """Take back what a step wrote; waits as `put` does. Raises Refused, Away."""
        return await self._through(lambda: self._sink.undo(entry))

    async def has(self, entry: Entry) -> bool:
        """Whether a step's write is there. Raises Away at once where the store is known to be."""
        if (why := self.away()) is not None:
            raise Away(why)
        return await self._through(lambda: self._sink.has(entry))

    async def close(self) -> None:
        """Write what waits, unless the store is away, and take no more."""
        self._closing.set()
        await self._writer.close()
        if self._is_open:
            await self._sink.close()

    async def _write(self, entries: Sequence[Entry]) -> Sequence[Exception | None]:
        async def write() -> Sequence[Refused | Away | None]:
            with self._metrics.timed(self._label):
                results = await self._sink.write(entries)
            failed = [one for one in results if isinstance(one, Away)]
            if len(failed) == len(entries):
                raise failed[0]
            if asked := [one.after_seconds for one in failed if one.after_seconds is not None]:
                self._rest(max(asked))
            return results

        try:
            results = await self._through(write)
        except Exception as error:
            self._metrics.wrote(self._label, [error] * len(entries))
            raise
        self._metrics.wrote(self._label, results)
        return results

    async def _through(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask the store when it may be asked, and learn from how it went."""
        started = await self._turn()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._opened()
                found = await ask()
        except (Away, TimeoutError) as error:
            away = error if isinstance(error, Away) else Away(f"no answer in {self._timeout_seconds:g} s")
            self._failed(away, started)
            raise away from None
        except BaseException:
            self._breaker.abandoned(self._clock(), started)
            raise
        if self._why:
            log.info("%s is back", self.name)
            self._why = ""
        self._breaker.succeeded(self._clock(), started)
        return found

    async def _turn(self) -> float:
        """Wait until the store may be asked. Raises Away where that is not before the lane is closed."""
        while not self._breaker.may(now := self._clock()):
            if self._closing.is_set():
                raise Away(self._why)
            self.looks += 1
            pause = (self._breaker.opens_at(now) or now) - now
            try:
                async with asyncio.timeout(min(pause, LOOK_SECONDS)):
                    await self._closing.wait()
            except TimeoutError:
                pass
        self.tries += 1
        return now

    def _failed(self, away: Away, started: float) -> None:
        if not self._why:
            log.warning("%s cannot be used and is waited for: %s", self.name, away)
        self._why = str(away) or "it is away"
        self._breaker.failed(self._clock(), started)
        if away.after_seconds is not None:
            self._rest(away.after_seconds)

    def _rest(self, seconds: float) -> None:
        self._breaker.close_until(self._clock(), min(seconds, LONGEST_ASKED_SECONDS))

    async def _opened(self) -> None:
        async with self._opening:
            if not self._is_open:
                await self._sink.open()
                self._is_open = True
