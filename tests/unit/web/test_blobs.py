"""Pictures come in as they are; what is none, or unpacks to too much, is told by its header."""

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from callstream.web.fake import FakePort
from callstream.web.picture import NoPicture, Picture, inspect
from tests.unit.web.conftest import Client, Start

PNG = {"Content-Type": "image/png"}


def picture(kind: str, size: tuple[int, int] = (6, 4), **save: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, kind, **save)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of 60,000 × 60,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100_000)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize(
    ("kind", "save"),
    [
        ("png", {}),
        ("jpeg", {}),
        ("jpeg", {"progressive": True}),
        ("gif", {}),
        ("webp", {}),
        ("webp", {"lossless": True}),
    ],
)
async def test_a_picture_is_kept(client: Client, port: FakePort, kind: str, save: dict[str, Any]) -> None:
    data = picture(kind, **save)

    response = await client.post("/v1/blobs", data=data, headers={"Content-Type": f"image/{kind}"})

    assert response.status == 201
    assert (await response.json())["blob"] == "blob:" + "1".zfill(64)
    assert port.blobs == [data]
    assert inspect(data) == Picture(kind, 6, 4)


def test_a_picture_with_transparency_and_one_with_metadata() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (7, 3)).save(out, "webp", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")

    assert inspect(out.getvalue()) == Picture("webp", 7, 3)
    assert inspect(picture("jpeg", comment=b"x" * 60_000)) == Picture("jpeg", 6, 4)


@pytest.mark.parametrize(
    "data",
    [b"", b"%PDF-1.7", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF....WEBPVP8 ", b"\xff\xd8\xff\xe0" * 99],
)
async def test_what_is_no_picture(client: Client, port: FakePort, data: bytes) -> None:
    response = await client.post("/v1/blobs", data=data, headers=PNG)

    assert response.status == 422
    assert (await response.json())["title"] == "No picture"
    assert port.blobs == []


async def test_a_picture_that_unpacks_to_too_much(client: Client) -> None:
    response = await client.post("/v1/blobs", data=bomb(), headers=PNG)

    assert response.status == 422
    assert "60,000 × 60,000" in (await response.json())["detail"]


async def test_bytes_have_a_bound_and_a_type(start: Start) -> None:
    client = await start(max_blob_bytes=1024)

    too_large = await client.post("/v1/blobs", data=b"x" * 1025, headers=PNG)
    form = await client.post("/v1/blobs", data={"file": "x"})

    assert (too_large.status, form.status) == (413, 415)


def test_every_cut_of_a_picture_is_told_or_refused() -> None:
    for kind in ("png", "jpeg", "gif", "webp"):
        data = picture(kind)
        for end in range(len(data)):
            try:
                assert inspect(data[:end]) == Picture(kind, 6, 4)
            except NoPicture:
                continue


def test_a_picture_without_pixels_is_none() -> None:
    with pytest.raises(NoPicture, match="no pixels"):
        inspect(b"GIF89a" + bytes(4))
