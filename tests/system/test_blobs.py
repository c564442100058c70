"""Blobs in a real S3-compatible store; what holds of every store is in `tests/unit/streams/test_blobs.py`."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from callstream.streams.blobs import BlobError, BlobMissing, BlobOptions, BlobStore, BlobTooLarge, check_in, check_out
from callstream.streams.wire import Record
from tests.support.s3 import BUCKET, S3Server, s3, s3_server
from tests.support.services import unique

__all__ = ["s3", "s3_server"]


@pytest.fixture
def store(s3: S3Server) -> BlobStore:
    return BlobStore(BlobOptions(url=f"s3://{BUCKET}/{unique('blobs')}", max_bytes=12 * 1024**2, timeout_seconds=3))


@pytest.mark.parametrize("size", [0, 7, 1024**2, 11 * 1024**2])
async def test_what_is_put_is_got_under_its_hash(store: BlobStore, size: int) -> None:
    data = b"photo-\0" * (size // 7)
    reference = await store.put(data)
    assert reference == "blob:" + hashlib.sha256(data).hexdigest()
    assert await store.put(data) == reference
    assert await store.get(reference) == data


async def test_a_large_body_comes_back_for_another_worker(store: BlobStore) -> None:
    record = await check_in(Record("t", b"k", b"x" * 1024**2, []), store)
    assert record.value == b""
    assert await check_out(record.value, record.headers, BlobStore(store.options)) == b"x" * 1024**2


async def test_what_is_missing_or_too_large_is_named(store: BlobStore) -> None:
    with pytest.raises(BlobMissing, match="never put there or has expired"):
        await store.get("blob:" + "0" * 64)
    reference = await store.put(b"x" * 5000)
    small = BlobStore(store.options.model_copy(update={"max_bytes": 1024}))
    with pytest.raises(BlobTooLarge, match="5,000 bytes"):
        await small.get(reference)


async def test_sweep_deletes_only_what_is_old(store: BlobStore) -> None:
    references = [await store.put(str(number).encode()) for number in range(20)]
    now = datetime.now(UTC)
    assert await store.sweep(now) == 0
    assert await store.get(references[0]) == b"0"
    assert await store.sweep(now + timedelta(hours=store.options.keep_hours, minutes=1)) == 20
    with pytest.raises(BlobMissing):
        await store.get(references[0])


async def test_a_bucket_that_refuses_us_is_named_without_the_secret(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    store = BlobStore(BlobOptions(url=f"s3://{BUCKET}/{unique('blobs')}", timeout_seconds=3))
    with pytest.raises(BlobError, match=f"cannot write blob:.* in s3://{BUCKET}/") as refused:
        await store.put(b"a photo")
    assert "hush-hush" not in str(refused.value)


async def test_a_store_that_is_away_says_so_in_time_and_keeps_what_it_has(s3: S3Server, store: BlobStore) -> None:
    reference = await store.put(b"a photo")
    await asyncio.to_thread(s3.stop)
    try:
        async with asyncio.timeout(30):
            for asked in (store.put(b"another"), store.get(reference), store.sweep(datetime.now(UTC))):
                with pytest.raises(BlobError, match=f"in s3://{BUCKET}/"):
                    await asked
    finally:
        await asyncio.to_thread(s3.start)
    assert await store.get(reference) == b"a photo"
    assert await store.get(await store.put(b"another")) == b"another"


@pytest.mark.parametrize("given", ["false", ""])
def test_without_its_variable_nothing_is_sent_in_the_clear(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", given)
    store = BlobStore(BlobOptions(url=f"s3://{BUCKET}/clear", timeout_seconds=3))
    with pytest.raises(BlobError, match="builder error"):
        asyncio.run(store.put(b"a photo"))
