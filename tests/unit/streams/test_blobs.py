"""Blobs: named by their hash, idempotent, bounded; large bodies travel as claim checks."""

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callstream.streams.blobs import (
    BlobError,
    BlobMissing,
    BlobOptions,
    BlobStore,
    BlobTooLarge,
    check_in,
    check_out,
)
from callstream.streams.wire import BadEvent, Record


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    url = "memory:///" if request.param == "memory" else f"file://{tmp_path}/deep/blobs"
    return BlobStore(BlobOptions(url=url, max_bytes=1024 * 1024))


async def test_what_is_put_is_got_under_its_hash(store: BlobStore) -> None:
    reference = await store.put(b"a photo")
    assert reference == "blob:" + hashlib.sha256(b"a photo").hexdigest()
    assert await store.get(reference) == b"a photo"
    assert await store.put(b"a photo") == reference


async def test_empty_bytes_are_a_blob(store: BlobStore) -> None:
    assert await store.get(await store.put(b"")) == b""


async def test_a_missing_blob_is_named(store: BlobStore) -> None:
    reference = "blob:" + "0" * 64
    with pytest.raises(BlobMissing, match=reference):
        await store.get(reference)


@pytest.mark.parametrize(
    "reference", ["", "blob:", "blob:../../etc/passwd", "blob:" + "g" * 64, "blob:" + "0" * 64 + "\n"]
)
async def test_what_is_no_reference_reads_nothing(store: BlobStore, reference: str) -> None:
    with pytest.raises(BlobMissing, match="no blob reference"):
        await store.get(reference)


async def test_too_large_says_how_much_and_which_setting(store: BlobStore) -> None:
    with pytest.raises(BlobTooLarge, match=r"1,048,577 bytes; at most 1,048,576 \(blobs.max_bytes\)"):
        await store.put(b"x" * (1024 * 1024 + 1))


async def test_a_kept_blob_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    url = f"file://{tmp_path}"
    reference = await BlobStore(BlobOptions(url=url)).put(b"x" * 5000)
    with pytest.raises(BlobTooLarge, match="5,000 bytes"):
        await BlobStore(BlobOptions(url=url, max_bytes=1024)).get(reference)


async def test_a_damaged_blob_is_not_given_and_a_second_put_mends_a_cut_one(tmp_path: Path) -> None:
    store = BlobStore(BlobOptions(url=f"file://{tmp_path}"))
    reference = await store.put(b"whole")
    digest = reference.removeprefix("blob:")
    (tmp_path / digest[:2] / digest).write_bytes(b"who")
    with pytest.raises(BlobMissing, match="damaged"):
        await store.get(reference)
    await store.put(b"whole")
    assert await store.get(reference) == b"whole"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BlobError, match="file/blobs"):
        BlobStore(BlobOptions(url=f"file://{tmp_path}/file/blobs"))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="url"):
        BlobOptions(url="ftp://somewhere")


async def test_sweep_deletes_only_what_is_old(store: BlobStore) -> None:
    reference = await store.put(b"x")
    assert await store.sweep(datetime.now(UTC)) == 0
    assert await store.sweep(datetime.now(UTC) + timedelta(hours=store.options.keep_hours + 1)) == 1
    with pytest.raises(BlobMissing):
        await store.get(reference)


async def test_a_large_body_becomes_a_claim_check_and_comes_back(store: BlobStore) -> None:
    small = Record("t", b"k", b"x" * 262_144, [("ce_id", b"1")])
    large = Record("t", b"k", b"x" * 262_145, [("ce_id", b"1")])
    assert await check_in(small, store) is small
    checked = await check_in(large, store)
    assert checked.value == b""
    assert checked.headers[0] == ("ce_id", b"1")
    assert await check_out(checked.value, checked.headers, store) == large.value
    assert await check_out(small.value, small.headers, store) == small.value
    assert await check_out(None, checked.headers, store) is None
    assert await check_out(b"", None, store) == b""


async def test_a_foreign_dataref_is_never_fetched(store: BlobStore) -> None:
    with pytest.raises(BadEvent, match="dataref"):
        await check_out(b"", [("ce_dataref", b"http://169.254.169.254/")], store)


def test_a_program_that_read_and_wrote_blobs_ends_in_order(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from callstream.streams.blobs import *\n"
        "store = BlobStore(BlobOptions(url=sys.argv[1]))\n"
        "async def main():\n"
        "    for _ in range(20):\n"
        "        assert await store.get(await store.put(b'a photo')) == b'a photo'\n"
        "asyncio.run(main())\n"
    )
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", script, f"file://{tmp_path}"], capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
