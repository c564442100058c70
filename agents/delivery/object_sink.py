"""Into an object store: one JSON object a key, changed only as long as nobody else has changed it meanwhile."""

import asyncio
import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore

from callstream.agents.delivery.sink import Away, Entry, Refused
from callstream.agents.delivery.versions import Versions, dumped, loaded, put, standing, without, wrote
from callstream.streams import strict_json
from callstream.streams.blobs import BlobOptions, open_store

Result = TypeVar("Result")

MOST_COLLISIONS = 20
LONGEST_NAME = 200
"""Characters of a name that is its key; a longer one ends in a hash."""
LOCK = ".callstream.lock"
PROBE = ".callstream.probe"


class ObjectSink:
    """A value is in `TENANT/KEY.json`, the key percent-encoded: `{"value", "versions"}`, the latter its receipts too.

    A conditional write (ETag) makes the change one step; a local folder, which knows none, is locked meanwhile. A
    store that takes such a write whatever its condition is not used: of two changes at once it would lose one.
    """

    def __init__(self, url: str, timeout_seconds: float = 10.0, threads: int = 8) -> None:
        self._options = BlobOptions(url=url, timeout_seconds=timeout_seconds)
        self._store = open_store(self._options)
        # Not the library's own coroutines: their runtime calls into an interpreter that is ending, which aborts it.
        self._threads = ThreadPoolExecutor(threads, "objects")

    async def open(self) -> None:
        """See that the store heeds conditions. Raises Away."""
        try:
            heeds = await self._run(self._heeds_conditions)
        except (BaseError, OSError, TimeoutError) as error:
            raise _away(error) from None
        if not heeds:
            raise Away(f"{self._options.url} heeds no condition of a write (If-Match, If-None-Match): it may lose some")

    async def close(self) -> None:
        """End its threads."""
        self._threads.shutdown(wait=False)

    async def write(self, entries: Sequence[Entry]) -> list[Refused | Away | None]:
        """One change a key, side by side."""
        results: list[Refused | Away | None] = [None] * len(entries)
        groups: dict[str, list[Entry]] = {}
        for place, entry in enumerate(entries):
            try:
                entry.raw()
            except Refused as error:
                results[place] = error
            else:
                groups.setdefault(_path(entry), []).append(entry)
        done = await asyncio.gather(*(self._changed(path, _added(group)) for path, group in groups.items()))
        failed = dict(zip(groups, done, strict=True))
        for place, entry in enumerate(entries):
            became = failed.get(_path(entry))
            if results[place] is None and isinstance(became, Away):
                results[place] = became
        return results

    async def has(self, entry: Entry) -> bool:
        """Whether its receipt is there. Raises Away."""
        try:
            versions, _ = await self._run(self._read, _path(entry))
        except (BaseError, OSError, TimeoutError) as error:
            raise _away(error) from None
        return wrote(versions, entry.task, entry.step)

    async def undo(self, entry: Entry) -> bool:
        """Have the newest stand that is left, or nothing. Raises Away."""
        changed = await self._changed(_path(entry), lambda versions: without(versions, entry.task, entry.step))
        if isinstance(changed, Away):
            raise changed
        return changed

    async def _changed(self, path: str, change: Callable[[Versions], Versions]) -> bool | Away:
        """Whether a change made a difference; Away where it could not be made."""
        try:
            for _ in range(MOST_COLLISIONS):
                try:
                    return await self._run(self._change, path, change)
                except (PreconditionError, AlreadyExistsError, NotFoundError):
                    continue
        except (BaseError, OSError, TimeoutError) as error:
            return _away(error)
        return Away(f"others changed {path} {MOST_COLLISIONS} times")

    def _change(self, path: str, change: Callable[[Versions], Versions]) -> bool:
        with self._locked():
            before, etag = self._read(path)
            after = change(before)
            if after == before:
                return False
            stands = standing(after)
            if stands is None:
                # Deleting knows no condition: what came meanwhile would go with it. So an empty one stands instead.
                document: dict[str, Any] = {"value": None, "versions": []}
            else:
                document = {"value": stands.value, "versions": dumped(after)}
            is_local = isinstance(self._store, LocalStore)
            mode: Any = "overwrite" if is_local else (etag or "create")
            obstore.put(self._store, path, strict_json.dumps(document), mode=mode)
            return True

    def _heeds_conditions(self) -> bool:
        """Whether it refuses to make what is there, and to change what has changed."""
        if isinstance(self._store, LocalStore):
            return True
        with suppress(AlreadyExistsError):
            self._probe("create")
        try:
            self._probe("create")
            return False
        except AlreadyExistsError:
            stale = _etag(obstore.get(self._store, PROBE).meta)
        try:
            for _ in range(2):
                self._probe(stale)
        except PreconditionError:
            return True
        return False

    def _probe(self, mode: Any) -> None:
        # Never the same twice: an ETag may be the hash of what is there.
        obstore.put(self._store, PROBE, uuid4().bytes, mode=mode)

    def _read(self, path: str) -> tuple[Versions, dict[str, str] | None]:
        try:
            found = obstore.get(self._store, path)
        except (NotFoundError, FileNotFoundError):
            return (), None
        document = strict_json.unpack(bytes(found.bytes()))
        return loaded(document["versions"]), _etag(found.meta)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not isinstance(self._store, LocalStore):
            yield
            return
        with (Path(str(self._store.prefix)) / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    async def _run(self, call: Callable[..., Result], *arguments: Any) -> Result:
        async with asyncio.timeout(self._options.timeout_seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _added(entries: Sequence[Entry]) -> Callable[[Versions], Versions]:
    def change(versions: Versions) -> Versions:
        for entry in entries:
            versions = put(versions, entry.version)
        return versions

    return change


def _path(entry: Entry) -> str:
    """Where an entry's object is.

    A tilde is encoded too: it marks a shortened name.
    """
    name = quote(entry.key, safe="").replace("~", "%7E")
    if len(name) > LONGEST_NAME:
        name = f"{name[:100]}~{hashlib.sha256(entry.key.encode()).hexdigest()}"
    return f"{entry.tenant}/{name}.json"


def _etag(meta: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(meta[name]) for name in ("e_tag", "version") if meta.get(name) is not None}


def _away(error: BaseException) -> Away:
    return Away(f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
