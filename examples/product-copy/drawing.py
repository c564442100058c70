"""A small painter for product photos: masks, light, shadows and printed labels on a table before a wall.

Lengths are pixels of an 800 × 800 picture; everything is painted at twice that and reduced at the end.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageFont

SIDE = 800
SCALE = 2
MAX_BYTES = 60_000
FONTS = {"latin": "DejaVuSans-Bold.ttf", "chinese": "wqy-zenhei.ttc"}
INK, PAPER = "#26282c", "#faf8f3"

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Lines = Sequence[str]
Floats = NDArray[np.float32]


class Mask:
    """Where something is: drawn larger than it is shown, so that its edges come out smooth."""

    def __init__(self) -> None:
        self.image = Image.new("L", (SIDE * SCALE, SIDE * SCALE), 0)
        self._pen = ImageDraw.Draw(self.image)

    def ellipse(self, box: Box, value: int = 255) -> "Mask":
        self._pen.ellipse([at * SCALE for at in box], fill=value)
        return self

    def round(self, box: Box, radius: float, value: int = 255) -> "Mask":
        self._pen.rounded_rectangle([at * SCALE for at in box], radius * SCALE, fill=value)
        return self

    def polygon(self, points: Sequence[Point], value: int = 255) -> "Mask":
        self._pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=value)
        return self

    def curve(self, points: Sequence[Point], value: int = 255) -> "Mask":
        """A closed smooth line (Catmull-Rom) through the points, filled."""
        smooth = []
        for place in range(len(points)):
            a, b, c, d = (np.array(points[(place + step) % len(points)]) for step in (-1, 0, 1, 2))
            for t in np.linspace(0, 1, 12, endpoint=False):
                at = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
                smooth.append((float(at[0]) / 2, float(at[1]) / 2))
        return self.polygon(smooth, value)

    def line(self, points: Sequence[Point], width: float, value: int = 255) -> "Mask":
        self._pen.line(
            [(x * SCALE, y * SCALE) for x, y in points], fill=value, width=round(width * SCALE), joint="curve"
        )
        for x, y in (points[0], points[-1]):
            self.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), value)
        return self

    def arc(self, box: Box, angles: Point, width: float) -> "Mask":
        self._pen.arc([at * SCALE for at in box], *angles, fill=255, width=round(width * SCALE))
        return self

    def within(self, other: "Mask") -> "Mask":
        self.image = ImageChops.multiply(self.image, other.image)
        self._pen = ImageDraw.Draw(self.image)
        return self


class Scene:
    """A table before a wall, lit from the upper left, and what is painted on it."""

    def __init__(self, wall: str, floor: str, horizon: float = 560) -> None:
        y, x = np.mgrid[0 : SIDE * SCALE, 0 : SIDE * SCALE].astype(np.float32) / SCALE
        edge = np.clip((y - horizon + 30) / 60, 0, 1)[..., None]
        ground = rgb(wall) * (1 - edge) + rgb(floor) * edge
        light = 1.04 - 0.16 * (np.hypot(x - 300, y - 280) / SIDE) ** 2
        grain = np.random.default_rng(7).normal(0, 1.2, light.shape).astype(np.float32)
        self.pixels: Floats = ground * light[..., None] + grain[..., None]

    def blend(self, mask: Image.Image, colour: Floats, opacity: float = 1.0) -> None:
        cover = np.asarray(mask, dtype=np.float32)[..., None] * (opacity / 255)
        self.pixels = self.pixels * (1 - cover) + colour * cover

    def shadow(self, box: Box, blur: float = 16, opacity: float = 0.42) -> None:
        soft = Mask().ellipse(box).image.filter(ImageFilter.GaussianBlur(blur * SCALE))
        self.blend(soft, rgb("#1c1a1e"), opacity)

    def cast(self, mask: Mask, shift: Point = (10, 14), blur: float = 10) -> None:
        """The shadow of a thing on what is right behind it."""
        moved = ImageChops.offset(mask.image, round(shift[0] * SCALE), round(shift[1] * SCALE))
        self.blend(moved.filter(ImageFilter.GaussianBlur(blur * SCALE)), rgb("#1c1a1e"), 0.35)

    def paint(self, mask: Mask, colour: str, form: str = "flat", depth: float = 0.34) -> None:
        """Fill a mask with a colour, shaded as a `flat`, `tube` (upright) or `ball` would be under the lamp."""
        left, top, right, bottom = mask.image.getbbox() or (0, 0, 1, 1)
        y, x = np.mgrid[0 : SIDE * SCALE, 0 : SIDE * SCALE].astype(np.float32)
        across = np.clip((x - left) / (right - left), 0, 1)
        down = np.clip((y - top) / (bottom - top), 0, 1)
        if form == "tube":
            shade = np.cos((across - 0.36) * 2.3) - 0.06 * down
        elif form == "ball":
            shade = 1.08 - 1.25 * ((across - 0.36) ** 2 + (down - 0.3) ** 2)
        else:
            shade = 1.06 - 0.22 * across - 0.2 * down
        tone = (1 - depth + depth * shade)[..., None]
        self.blend(mask.image, np.clip(rgb(colour) * tone + 40 * np.clip(tone - 1.0, 0, 1), 0, 255))

    def gloss(self, mask: Mask, within: Mask, opacity: float = 0.4, blur: float = 7) -> None:
        soft = mask.image.filter(ImageFilter.GaussianBlur(blur * SCALE))
        self.blend(ImageChops.multiply(soft, within.image), rgb("#ffffff"), opacity)

    def write(self, at: Point, text: str, size: float, colour: str = INK, turn: float = 0) -> None:
        """Text with its middle at a point, turned against the clock by degrees."""
        layer = Image.new("L", (SIDE * SCALE, SIDE * SCALE), 0)
        where = (at[0] * SCALE, at[1] * SCALE)
        ImageDraw.Draw(layer).text(where, text, fill=255, font=font(text, size), anchor="mm")
        self.blend(layer.rotate(turn, Image.Resampling.BICUBIC, center=where) if turn else layer, rgb(colour))

    def label(self, box: Box, lines: Lines, paper: str = PAPER, ink: str = INK) -> None:
        """A printed label: the brand large, the rest below it."""
        self.paint(Mask().round(box, 10), paper, depth=0.12)
        self.letters(box, lines, ink)

    def letters(self, box: Box, lines: Lines, ink: str) -> None:
        width, height, middle = box[2] - box[0], box[3] - box[1], (box[0] + box[2]) / 2
        row = height / (len(lines) + 0.55)
        for place, text in enumerate(lines):
            size = min(row * (0.92 if place == 0 else 0.62), 0.88 * width / font_width(text))
            self.write((middle, box[1] + row * (place + 0.78)), text, size, ink)

    def tag(self, at: Point, lines: Lines) -> None:
        """A card that stands before the product."""
        box = (at[0] - 105, at[1] - 62, at[0] + 105, at[1] + 62)
        card = Mask().round(box, 12)
        self.cast(card, (6, 10), 8)
        self.paint(card, PAPER, depth=0.1)
        self.letters(box, lines, INK)

    def save(self, path: Path) -> None:
        whole = Image.fromarray(np.clip(self.pixels, 0, 255).astype(np.uint8))
        save(whole.resize((SIDE, SIDE), Image.Resampling.LANCZOS), path)


def rgb(colour: str) -> Floats:
    return np.array(ImageColor.getrgb(colour)[:3], dtype=np.float32)


def font(text: str, size: float) -> ImageFont.FreeTypeFont:
    name = FONTS["latin" if text.isascii() or "ö" in text else "chinese"]
    try:
        return ImageFont.truetype(name, size * SCALE)
    except OSError:
        raise SystemExit(f"no font {name}: apt-get install fonts-dejavu-core fonts-wqy-zenhei") from None


def font_width(text: str) -> float:
    """The width of a text whose letters have size 1."""
    return font(text, 100).getlength(text) / (100 * SCALE)


def save(image: Image.Image, path: Path) -> None:
    """Write a JPEG of the best quality that stays under `MAX_BYTES`."""
    for quality in range(92, 50, -3):
        data = BytesIO()
        image.convert("RGB").save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= MAX_BYTES:
            break
    path.write_bytes(data.getvalue())
