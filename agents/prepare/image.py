"""Opening a photo that may be anything: bytes in, a bounded upright RGB picture out. Needs the extra `vision`.

The size is read from the header and checked before a pixel is decoded, and only the listed formats are tried, so
that neither a decompression bomb nor a rarely used decoder gets a chance.
"""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from callstream.agents.prepare.attributes import BadImage, PhotoOptions, Picture

_SIGNATURES = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"%!PS", "a PostScript document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound or video file"),
)
_BRANDS = {b"avif": "an AVIF picture", b"heic": "a HEIC picture", b"heix": "a HEIC picture", b"mif1": "a HEIF picture"}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Photo:
    """An opened photo: RGB, upright, at most `work_side_pixels` long; `picture` says what the file had."""

    image: Image.Image
    picture: Picture
    notes: tuple[str, ...] = ()


def open_photo(data: bytes, options: PhotoOptions) -> Photo:
    """Open, check and reduce a photo; transparency becomes white. Raises BadImage saying what the bytes are instead."""
    if not data:
        raise BadImage("the photo is empty (0 bytes)")
    if len(data) > options.max_bytes:
        raise BadImage(f"the photo has {len(data):,} bytes; at most {options.max_bytes:,} are opened")
    with warnings.catch_warnings():
        # Pillow warns of large pictures on its own scale; ours is the limit below.
        warnings.simplefilter("ignore")
        _verify(data, options)
        try:
            with Image.open(io.BytesIO(data), formats=options.formats) as image:
                return _reduce(image, options)
        except MemoryError:
            raise
        except Exception as error:
            raise BadImage(f"the photo is {describe(data)} that cannot be decoded: {_line(error)}") from None


def describe(data: bytes) -> str:
    """What bytes seem to be, for a message to their sender.

    >>> describe(b"%PDF-1.7 ...")
    'a PDF document'
    """
    head = data[:512]
    if head[:4] == b"RIFF":
        return {b"WEBP": "a WebP picture", b"WAVE": "a sound file"}.get(head[8:12], "a RIFF file")
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video")
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    try:
        text = head.decode("utf-8").strip().lower()
    except UnicodeDecodeError as error:
        # A character cut in two by our own 512 bytes is still text.
        if error.start < len(head) - 4:
            return f"unknown bytes that begin with {head[:8].hex(' ')}"
        text = head[: error.start].decode("utf-8").strip().lower()
    if "<svg" in text:
        return "an SVG drawing"
    if text.startswith(("<!doctype html", "<html")):
        return "an HTML page"
    if text.startswith(("{", "[")):
        return "a JSON text"
    return "a text" if text.isprintable() or "\n" in text else f"unknown bytes that begin with {head[:8].hex(' ')}"


def _verify(data: bytes, options: PhotoOptions) -> None:
    taken = " or ".join(
        (", ".join(options.formats[:-1]), options.formats[-1]) if options.formats[1:] else options.formats
    )
    try:
        with Image.open(io.BytesIO(data), formats=options.formats) as image:
            width, height = image.size
            if width * height > options.max_pixels:
                raise BadImage(_too_many(width, height, options))
            if min(width, height) < options.min_side_pixels:
                least = options.min_side_pixels
                raise BadImage(f"the photo has {width} × {height} pixels; at least {least} × {least} are needed")
            image.verify()
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"the photo is {describe(data)}; send {taken}") from None
    except Image.DecompressionBombError:
        raise BadImage(
            f"the photo is a decompression bomb: its header claims more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} "
            f"pixels; at most {options.max_pixels:,} are opened"
        ) from None
    except Exception as error:
        # Decoders raise SyntaxError, OSError, ValueError, struct.error and others for broken files.
        raise BadImage(f"the photo is {describe(data)} that is damaged: {_line(error)}") from None


def _too_many(width: int, height: int, options: PhotoOptions) -> str:
    return (
        f"the photo is too large to open (a decompression bomb?): {width:,} × {height:,} pixels; "
        f"at most {options.max_pixels:,} in all are opened"
    )


def _reduce(image: Image.Image, options: PhotoOptions) -> Photo:
    side = options.work_side_pixels
    notes = []
    form = image.format or "?"
    if getattr(image, "is_animated", False):
        # To count the frames of a GIF is to read all of them.
        of = "" if form == "GIF" else f" of {getattr(image, 'n_frames', 1)} frames"
        notes.append(f"photo: animated, the first{of or ' frame'} taken")
        image.seek(0)
    # A JPEG is decoded at a fraction of its size where that is still large enough.
    size = image.size
    image.draft("RGB", (side, side))
    image.load()
    turned = image.getexif().get(_ORIENTATION)
    reduced = _flat_rgb(image, side)
    if turned in _TURNS:
        reduced = reduced.transpose(_TURNS[turned])
        notes.append("photo: turned upright as its EXIF data says")
    if turned in (5, 6, 7, 8):
        size = (size[1], size[0])
    if image.mode in ("CMYK", "YCCK"):
        notes.append("photo: CMYK converted to RGB")
    picture = Picture(format=form, width=size[0], height=size[1], aspect=round(size[0] / size[1], 3))
    return Photo(reduced, picture, tuple(notes))


def _flat_rgb(image: Image.Image, side: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    transparent = "A" in image.getbands() or "transparency" in image.info
    flat = image.convert("RGBA" if transparent else "RGB")
    flat.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if transparent:
        flat = Image.alpha_composite(Image.new("RGBA", flat.size, "white"), flat).convert("RGB")
    return flat


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
