"""What the tests of Faust's defects share: one service that runs for many of them, and ways to disturb a broker."""

import asyncio
import os
import signal
import socket
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from callstream.streams.broker import EmbeddedKafka
from callstream.streams.chain import Act, Cell
from callstream.streams.event import Event
from callstream.streams.outcome import Forward, Outcome
from tests.support.services import Hosted, Workshop, pass_on, task_at, until


@dataclass
class Bench:
    """One service that runs for many tests; each gives its own tasks an act of their own."""

    workshop: Workshop
    service: Hosted = field(init=False)
    acts: dict[str, Act] = field(default_factory=dict)
    begun: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    _numbers: Any = field(default_factory=count)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """What the test of the task says."""
        self.begun[event.task] += 1
        outcome = await self.acts.get(event.task, pass_on)(event, state)
        self.done.add(event.task)
        return outcome

    def tasks(self, partition: int, number: int) -> list[str]:
        """So many ids in a partition that no other test has."""
        return [task_at(partition, next(self._numbers)) for _ in range(number)]

    def hold(self, task: str) -> asyncio.Event:
        """Let the task's act wait until the event is set."""
        gate = asyncio.Event()

        async def act(_event: Event, _state: Cell) -> Outcome:
            await gate.wait()
            return Forward()

        self.acts[task] = act
        return gate

    async def finished(self, before: int, more: int) -> None:
        """Wait until the service has finished so many more events, and had time to commit them."""
        await until(lambda: self.service.actor.finished >= before + more, f"{more} events finished")
        await self.service.commits()

    async def commits_to(self, partition: int, offset: int) -> None:
        """Wait until everything below that offset is committed."""

        async def look() -> bool:
            return await self.service.committed(partition) >= offset

        await until(look, f"offset {offset} of partition {partition} committed")


@contextmanager
def standing_still(broker: EmbeddedKafka) -> Iterator[None]:
    """The broker stopped, as by a long pause of its machine."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(broker.pid, signal.SIGCONT)


def listening() -> list[str]:
    """TCP sockets of this process that take connections."""
    found = []
    for entry in map(int, os.listdir("/dev/fd")):
        with suppress(OSError):
            # A copy of anything else would stay open: whoever waits for the end of a pipe would wait for ever.
            if not stat.S_ISSOCK(os.fstat(entry).st_mode):
                continue
            with socket.socket(fileno=os.dup(entry)) as one:
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.append(str(one.getsockname()))
    return found
