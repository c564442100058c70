"""What kind of picture some bytes are and how large it unpacks, by the header: nothing is decoded at the door."""

from dataclasses import dataclass

_JPEG_SIZES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})


class NoPicture(ValueError):
    """The bytes are no picture of a kind that is taken, or its header is broken."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Kind (`png`, `jpeg`, `gif` or `webp`) and size in pixels."""

    kind: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Its area."""
        return self.width * self.height


def inspect(data: bytes) -> Picture:
    """What the bytes are. Raises NoPicture.

    >>> inspect(b"GIF89a\\x02\\x00\\x01\\x00")
    Picture(kind='gif', width=2, height=1)
    """
    picture = _read(data)
    if picture is None:
        raise NoPicture("these bytes are no PNG, JPEG, WebP or GIF picture, or its header is broken")
    if picture.pixels == 0:
        raise NoPicture(f"the {picture.kind} picture has no pixels")
    return picture


def _read(data: bytes) -> Picture | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return Picture("png", _big(data[16:20]), _big(data[20:24]))
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return Picture("gif", _little(data[6:8]), _little(data[8:10]))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    return None


def _webp(data: bytes) -> Picture | None:
    match data[12:16]:
        case b"VP8X":
            return Picture("webp", _little(data[24:27]) + 1, _little(data[27:30]) + 1)
        case b"VP8L" if data[20] == 0x2F:
            packed = _little(data[21:25])
            return Picture("webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return Picture("webp", _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF)
    return None


def _jpeg(data: bytes) -> Picture | None:
    """Walk the segments to the frame header. Each step is at least 2 bytes, so it ends."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_SIZES:
            return Picture("jpeg", _big(data[at + 7 : at + 9]), _big(data[at + 5 : at + 7]))
        else:
            at += 2 + max(2, _big(data[at + 2 : at + 4]))
    return None


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
