"""Bytes too large for an event: kept in an object store under the SHA-256 of what they hold.

A photo, or an event's body over `wire.CLAIM_CHECK_BYTES`, lives here and travels as `blob:` and 64 hex digits. The
same bytes have the same name, so a repeated write changes nothing. One library serves a local folder, S3, GCS and
Azure; `memory:///` is the store for tests.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url
from pydantic import BaseModel, ConfigDict, Field

from callstream.streams.foreseen import Foreseen
from callstream.streams.wire import CLAIM_CHECK_BYTES, DATAREF, BadEvent, Record

Given = TypeVar("Given")

PREFIX = "blob:"
SCHEMES = ("file", "memory", "s3", "gs", "az")
_CLOUDS = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
"""What the variables of each begin with."""

THREADS = 8
"""Reads and writes of one store at once."""
_REFERENCE = re.compile(r"^blob:([0-9a-f]{64})\Z")


class BlobError(Foreseen, RuntimeError):
    """A store that could not be opened, read or written; the message says which and why."""


class BlobMissing(BlobError):
    """Nothing is kept under that reference, or what is kept does not hash to it."""


class BlobTooLarge(BlobError):
    """More bytes than `max_bytes`."""


class BlobOptions(BaseModel):
    """Where blobs are kept, and how large and how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(max_length=2000, pattern=rf"^({'|'.join(SCHEMES)}):")] = Field(
        default="file://.callstream/blobs",
        description="store: file://FOLDER (relative to where the worker starts, or absolute), s3://BUCKET/PATH, "
        "gs://BUCKET/PATH, az://ACCOUNT/CONTAINER/PATH, memory:///",
    )
    max_bytes: int = Field(default=20 * 1024**2, ge=1024, le=1024**3, description="largest blob taken or given")
    keep_hours: float = Field(default=24 * 8, gt=0, le=24 * 3650, description="age at which `sweep` deletes a blob")
    timeout_seconds: float = Field(default=30, gt=0, le=600, description="longest wait for one read or write")


class Blobs(Protocol):
    """What the claim check needs of a store."""

    async def put(self, data: bytes) -> str:
        """Keep the bytes and give their reference."""

    async def get(self, reference: str) -> bytes:
        """The bytes behind a reference."""


class BlobStore:
    """Content-addressed bytes in an object store.

    Raises:
        BlobError: the store cannot be opened (no such scheme, no permission for the folder).
    """

    def __init__(self, options: BlobOptions) -> None:
        self.options = options
        # Not the library's own coroutines: their runtime calls into an interpreter that is ending, which aborts it.
        self._threads = ThreadPoolExecutor(THREADS, "blobs")
        try:
            self._store = open_store(options)
        except (BaseError, OSError, ValueError) as error:
            raise BlobError(f"blobs.url {options.url!r} cannot be opened: {_line(error)}") from None

    def __repr__(self) -> str:
        return f"<BlobStore {self.options.url}>"

    async def put(self, data: bytes) -> str:
        """Keep the bytes and give their reference. Repeating it changes nothing but the blob's age.

        Raises:
            BlobTooLarge: more than `max_bytes`.
            BlobError: the store failed or did not answer in time.
        """
        if len(data) > self.options.max_bytes:
            raise BlobTooLarge(f"a blob of {len(data):,} bytes; at most {self.options.max_bytes:,} (blobs.max_bytes)")
        digest = hashlib.sha256(data).hexdigest()
        path = _path(digest)
        if not await self._is_kept(path, len(data)):
            try:
                await self._done(obstore.put, self._store, path, data)
            except AlreadyExistsError:
                pass
            except (BaseError, OSError, TimeoutError) as error:
                raise self._failed("write", PREFIX + digest, error) from None
        return PREFIX + digest

    async def get(self, reference: str) -> bytes:
        """The bytes behind a reference, checked against its hash.

        Raises:
            BlobMissing: no blob of that name, a damaged one, or not a reference at all.
            BlobTooLarge: what is kept there is larger than `max_bytes`.
            BlobError: the store failed or did not answer in time.
        """
        match = _REFERENCE.match(reference)
        if match is None:
            raise BlobMissing(f"{reference[:80]!r} is no blob reference; one is 'blob:' and 64 hex digits")
        try:
            data = await self._done(self._read, reference, match[1])
        except (NotFoundError, FileNotFoundError):
            raise BlobMissing(
                f"{reference} is not in {self.options.url}; it was never put there or has expired"
            ) from None
        except (BaseError, OSError, TimeoutError) as error:
            raise self._failed("read", reference, error) from None
        if hashlib.sha256(data).hexdigest() != match[1]:
            raise BlobMissing(f"{reference} in {self.options.url} is damaged: its bytes have another hash")
        return data

    async def sweep(self, now: datetime) -> int:
        """Delete every blob older than `keep_hours`; gives how many. `now` has a time zone."""
        oldest = now - timedelta(hours=self.options.keep_hours)
        deleted = 0
        try:
            listed = obstore.list(self._store, chunk_size=500)
            while (entries := await self._done(next, listed, None)) is not None:
                old = [entry["path"] for entry in entries if entry["last_modified"] < oldest]
                if old:
                    await self._done(obstore.delete, self._store, old)
                    deleted += len(old)
        except (BaseError, OSError, TimeoutError) as error:
            raise self._failed("sweep", "old blobs", error) from None
        return deleted

    async def _is_kept(self, path: str, size: int) -> bool:
        """Whether the blob is there, whole, and young enough that a sweep spares it."""
        try:
            meta = await self._done(obstore.head, self._store, path)
        except (BaseError, OSError, TimeoutError):
            return False
        age = datetime.now(UTC) - meta["last_modified"]
        return meta["size"] == size and age < timedelta(hours=self.options.keep_hours / 2)

    def _read(self, reference: str, digest: str) -> bytes:
        found = obstore.get(self._store, _path(digest))
        if (size := found.meta["size"]) > self.options.max_bytes:
            raise BlobTooLarge(f"{reference} has {size:,} bytes; at most {self.options.max_bytes:,} are read")
        return bytes(found.bytes())

    async def _done(self, call: Callable[..., Given], *arguments: Any) -> Given:
        """What a call of the library gives, on a thread of its own. Raises TimeoutError, and what the call does."""
        async with asyncio.timeout(self.options.timeout_seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _failed(self, verb: str, what: str, error: BaseException) -> BlobError:
        reason = f"no answer in {self.options.timeout_seconds:g} s" if isinstance(error, TimeoutError) else _line(error)
        return BlobError(f"cannot {verb} {what} in {self.options.url}: {reason}")


async def check_in(record: Record, blobs: Blobs) -> Record:
    """The record itself, or one whose body went to the store and whose `dataref` says where (CloudEvents extension)."""
    if len(record.value) <= CLAIM_CHECK_BYTES:
        return record
    reference = await blobs.put(record.value)
    return record.by_reference(reference)


async def check_out(
    value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None, blobs: Blobs
) -> bytes | None:
    """The body of a record: its own value, or for an empty one what its `dataref` names.

    Raises:
        BadEvent: `dataref` is no blob of ours; nothing else is ever fetched.
        BlobMissing, BlobError: as `get`.
    """
    if value is None or value:
        return value
    references = [raw for name, raw in headers or () if name.lower() == DATAREF]
    if not references:
        return value
    reference = (references[0] or b"")[:80].decode("utf-8", "replace")
    if not _REFERENCE.match(reference):
        raise BadEvent(f"attribute 'dataref' is {reference!r}; only 'blob:' and 64 hex digits are taken")
    return await blobs.get(reference)


def open_store(options: BlobOptions) -> ObjectStore:
    """The store behind a URL; its own coroutines must not be used. Raises BaseError, OSError, ValueError."""
    scheme, _, rest = options.url.partition("://")
    if scheme == "file":
        folder = Path(rest or ".").expanduser().resolve()
        return LocalStore(folder, mkdir=True)
    if options.url.startswith("memory:"):
        return from_url("memory:///")
    wait = timedelta(seconds=options.timeout_seconds)
    client: Any = {"timeout": wait}
    # Options given here replace all that the environment says of the client; a store on one's own net needs this one.
    if os.environ.get(f"{_CLOUDS.get(scheme, '')}_ALLOW_HTTP", "").lower() in ("true", "1", "yes", "on"):
        client["allow_http"] = True
    return from_url(options.url, client_options=client, retry_config={"retry_timeout": wait})


def _path(digest: str) -> str:
    """Two levels, so that no folder of a local store grows too wide."""
    return f"{digest[:2]}/{digest}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
