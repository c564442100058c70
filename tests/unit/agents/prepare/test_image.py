import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from callstream.agents.prepare.attributes import BadImage, PhotoOptions
from callstream.agents.prepare.image import describe, open_photo

OPTIONS = PhotoOptions(work_side_pixels=64)


def encoded(form: str = "PNG", size: tuple[int, int] = (80, 40), mode: str = "RGB", **options: Any) -> bytes:
    data = BytesIO()
    Image.new(mode, size, options.pop("colour", None)).save(data, form, **options)
    return data.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_photos_are_opened_and_reduced(form: str) -> None:
    photo = open_photo(encoded(form), OPTIONS)
    assert photo.image.size == (64, 32)
    assert photo.image.mode == "RGB"
    assert (photo.picture.format, photo.picture.width, photo.picture.height, photo.picture.aspect) == (
        form,
        80,
        40,
        2.0,
    )
    assert photo.notes == ()


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "the photo is empty (0 bytes)"),
        (b"%PDF-1.7\n...", "the photo is a PDF document; send JPEG, PNG or WEBP"),
        (b"hello there", "the photo is a text; send JPEG, PNG or WEBP"),
        ("é".encode() * 400, "the photo is a text;"),
        (b"<!DOCTYPE html><html>", "the photo is an HTML page;"),
        (b'<?xml version="1.0"?><svg xmlns="x">', "the photo is an SVG drawing;"),
        (b'{"a": 1}', "the photo is a JSON text;"),
        (b"PK\x03\x04....", "the photo is a ZIP archive"),
        (b"\x00\x01\x02\xff\xfe", "the photo is unknown bytes that begin with 00 01 02 ff fe;"),
        (b"\0\0\0\x18ftypheic....", "the photo is a HEIC picture;"),
        (b"\0\0\0\x18ftypmp42....", "the photo is a video;"),
        (encoded("GIF"), "the photo is a GIF picture; send JPEG, PNG or WEBP"),
        (encoded("TIFF"), "the photo is a TIFF picture;"),
        (encoded("BMP"), "the photo is a BMP picture;"),
        (encoded(size=(8, 400)), "the photo has 8 × 400 pixels; at least 32 × 32 are needed"),
        (encoded("PNG")[:60], "the photo is a PNG picture that"),
        (encoded("JPEG", (400, 400))[:700], "the photo is a JPEG picture that cannot be decoded: "),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "the photo is a PNG picture"),
    ],
)
def test_what_is_no_photo_is_named(data: bytes, wrong: str) -> None:
    with pytest.raises(BadImage) as caught:
        open_photo(data, OPTIONS)
    assert wrong in str(caught.value)


@pytest.mark.parametrize("side", [8_000, 10_000, 30_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(BadImage, match=r"decompression bomb.*at most 50,000,000"):
        open_photo(claiming(side, side), OPTIONS)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(BadImage, match="the photo has 2,000 bytes; at most 1,024 are opened"):
        open_photo(b"x" * 2000, PhotoOptions(max_bytes=1024))


def test_a_photo_is_turned_upright() -> None:
    # given a landscape picture, red on its left, that EXIF says to turn right by 90 degrees
    image = Image.new("RGB", (80, 40), "blue")
    image.paste("red", (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = BytesIO()
    image.save(data, "PNG", exif=exif)
    # when it is opened
    photo = open_photo(data.getvalue(), OPTIONS)
    # then it stands, red at the top, and its size is that of the upright picture
    assert photo.image.size == (32, 64)
    assert photo.image.getpixel((16, 4)) == (255, 0, 0)
    assert (photo.picture.width, photo.picture.height) == (40, 80)
    assert photo.notes == ("photo: turned upright as its EXIF data says",)


def test_cmyk_becomes_rgb() -> None:
    photo = open_photo(encoded("JPEG", mode="CMYK"), OPTIONS)
    assert photo.image.mode == "RGB"
    assert photo.notes == ("photo: CMYK converted to RGB",)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert open_photo(encoded("PNG", mode=mode), OPTIONS).image.mode == "RGB"


def test_what_is_transparent_becomes_white() -> None:
    photo = open_photo(encoded("PNG", mode="RGBA", colour=(0, 0, 0, 0)), OPTIONS)
    assert photo.image.getpixel((5, 5)) == (255, 255, 255)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    data = BytesIO()
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    photo = open_photo(data.getvalue(), OPTIONS)
    assert photo.image.getpixel((5, 5)) == (255, 0, 0)
    assert photo.notes == ("photo: animated, the first of 2 frames taken",)


def test_an_animated_gif_is_refused_unless_it_is_asked_for() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    data = BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(BadImage, match="the photo is a GIF picture; send JPEG, PNG or WEBP"):
        open_photo(data.getvalue(), OPTIONS)
    photo = open_photo(data.getvalue(), PhotoOptions(formats=("GIF",), work_side_pixels=64))
    assert photo.image.getpixel((5, 5)) == (255, 0, 0)
    assert photo.notes == ("photo: animated, the first frame taken",)


def test_a_bomb_in_the_text_of_a_picture_is_refused() -> None:
    # given a small picture with a comment that unfolds to 100 MB
    body = b"comment\0\0" + zlib.compress(b"x" * 100_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    whole = encoded("PNG")
    # when it is opened, then it is refused as damaged
    with pytest.raises(BadImage, match="the photo is a PNG picture that is damaged: Decompressed data too large"):
        open_photo(whole[:33] + chunk + whole[33:], OPTIONS)


@given(st.binary(max_size=600))
def test_any_bytes_are_described_or_opened(data: bytes) -> None:
    assert describe(data)
    with pytest.raises(BadImage):
        open_photo(data, OPTIONS)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_damaged_photo_raises_nothing_but_bad_image(place: int, bytes_there: bytes) -> None:
    whole = encoded("JPEG", (64, 64))
    damaged = whole[:place] + bytes_there + whole[place + len(bytes_there) :]
    with suppress(BadImage):
        assert open_photo(damaged, OPTIONS).image.mode == "RGB"
