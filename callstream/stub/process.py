"""The stub started as a process of its own, from a test, the demo or a benchmark."""

import asyncio
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlencode

from callstream.streams.foreseen import Foreseen

START_SECONDS = 30.0
STOP_SECONDS = 5.0
ASK_SECONDS = 30.0
MOST_ERROR_BYTES = 2_000


class StubFailedError(Foreseen, RuntimeError):
    """The stub did not start, or refused what it was told."""


@dataclass(frozen=True)
class RunningStub:
    """A stub that answers: `url` ends in `/v1`, as an OpenAI client wants it."""

    url: str
    pid: int

    @property
    def base(self) -> str:
        """The URL without `/v1`."""
        return self.url.removesuffix("/v1")

    async def report(self) -> dict[str, Any]:
        """What the witness has seen."""
        return await self._ask("/stub/report")

    async def calls(self, offset: int = 0, limit: int = 10_000) -> dict[str, Any]:
        """A page of single calls: `calls`, `next` (the offset to go on with) and `ended`."""
        return await self._ask(f"/stub/calls?offset={offset}&limit={limit}")

    async def seconds(self, since: int = 0) -> list[dict[str, int]]:
        """Calls, admitted, refused and tokens by second, from Unix time `since` on."""
        found: list[dict[str, int]] = (await self._ask(f"/stub/seconds?since={since}"))["seconds"]
        return found

    async def task(self, tenant: str, task: str) -> dict[str, Any]:
        """The counts of one task: calls, answered, paid, refused, tokens."""
        return await self._ask(f"/stub/task?{urlencode({'tenant': tenant, 'id': task})}")

    async def control(self, **changes: object) -> dict[str, Any]:
        """Change fields of `callstream.stub.options.Behaviour`. Raises StubFailedError if the stub refuses."""
        return await self._ask("/stub/control", changes)

    async def reset(self) -> None:
        """Forget all calls and limits used."""
        await self._ask("/stub/reset", {})

    async def _ask(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(_ask, self.base + path, body)


@asynccontextmanager
async def running_stub(**options: object) -> AsyncIterator[RunningStub]:
    """A stub on a free port, ended on the way out; it also ends by itself when this process is gone.

    `options` are the fields of `callstream.stub.options.StubOptions`. Raises StubFailedError if it does not start.
    """
    with tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-m", "callstream.stub", f"--parent={os.getpid()}", *_arguments(options)]
        # Own session: Ctrl-C in a terminal reaches only the parent, which then ends the stub in its own order.
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        try:
            yield RunningStub(await _ready(process, errors), process.pid)
        finally:
            await _end(process)


def _arguments(options: Mapping[str, object]) -> list[str]:
    arguments: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            arguments += [f"{flag}={kind}={probability}" for kind, probability in value.items()]
        elif value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments.append(f"{flag}={value}")
    return arguments


async def _ready(process: asyncio.subprocess.Process, errors: IO[bytes]) -> str:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        url: str = json.loads(line)["url"]
    except (TimeoutError, ValueError, KeyError) as error:
        errors.seek(0)
        told = errors.read()[-MOST_ERROR_BYTES:].decode(errors="replace").strip()
        text = f"the stub model server did not start within {START_SECONDS:g} s: {told or 'it said nothing'}"
        raise StubFailedError(text) from error
    return url


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _ask(url: str, body: Mapping[str, object] | None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=ASK_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise StubFailedError(f"{url} answered {error.code}: {error.read()[:MOST_ERROR_BYTES].decode()}") from None
    return found
