"""What is known about a product, each fact with how sure it is and where it came from."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from callstream.streams.event import Strict

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Short = Annotated[str, StringConstraints(max_length=200)]


class Source(StrEnum):
    """Where a fact was found."""

    TITLE = "title"
    DESCRIPTION = "description"
    LABEL = "label"
    PHOTO = "photo"
    MODEL = "model"


class Fact(Strict):
    """One attribute's value. `confidence` is a rank between 0 and 1, not a measured probability.

    `source` is the strongest of the places it was found in.
    """

    value: Short
    confidence: Share
    source: Source


class Colour(Strict):
    """A colour by name and its share of what is not background."""

    name: Short
    share: Share


class Line(Strict):
    """A line of text read from the photo, with the reader's confidence and its height as a share of the photo's."""

    text: Short
    confidence: Share
    height: Share


class Problem(StrEnum):
    """Why a photo may not say what it should; it was looked at all the same."""

    BLURRED = "blurred"
    SMALL = "small"
    ELONGATED = "elongated"
    UNREADABLE = "text-unreadable"


class Picture(Strict):
    """The photo itself: format and size in pixels as the file has them, upright; `aspect` is width by height.

    `sharpness` is how steep its edges are, in levels of grey; 0 where that was not measured.
    """

    format: Short
    width: int
    height: int
    aspect: float
    sharpness: float = 0.0
    problems: tuple[Problem, ...] = ()


class Attributes(Strict):
    """What a photo and a product's own text say; None where nothing was found."""

    brand: Fact | None = None
    category: Fact | None = None
    colour: Fact | None = None
    size: Fact | None = None
    material: Fact | None = None
    features: tuple[Short, ...] = ()
    colours: tuple[Colour, ...] = ()
    label: tuple[Line, ...] = ()
    picture: Picture | None = None


class PhotoOptions(Strict):
    """Bounds on the photos that are opened, and on the work done on each."""

    max_bytes: int = Field(default=10 * 1024**2, ge=1024, le=256 * 1024**2, description="largest photo file")
    max_pixels: int = Field(default=50_000_000, ge=4096, le=178_000_000, description="largest width × height")
    min_side_pixels: int = Field(default=32, ge=1, le=4096, description="smallest width and height")
    good_side_pixels: int = Field(default=320, ge=1, le=8192, description="width and height below which it is small")
    most_aspect: float = Field(default=4.0, ge=1, le=100, description="longer by shorter side above which it is odd")
    least_sharpness: float = Field(default=16.0, ge=0, le=1020, description="sharpness below which it is blurred")
    formats: tuple[str, ...] = Field(
        default=("JPEG", "PNG", "WEBP"), description="formats opened, as Pillow names them"
    )
    work_side_pixels: int = Field(default=1280, ge=64, le=8192, description="longer side that a photo is reduced to")
    detect_side_pixels: int = Field(default=640, ge=64, le=4096, description="longer side at which text is looked for")
    shown_side_pixels: int = Field(default=1024, ge=64, le=4096, description="longer side of what a model is shown")
    max_lines: int = Field(default=40, ge=1, le=400, description="most lines of text kept")
    min_confidence: float = Field(default=0.6, ge=0, le=1, description="least confidence of a line that is kept")
    timeout_seconds: float = Field(default=20.0, gt=0, le=600, description="longest work on one photo")
    concurrency: int = Field(default=4, ge=1, le=64, description="most photos of this step in the process pool at once")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen on one photo; `notes` say what was odd about its file."""

    picture: Picture
    colours: tuple[Colour, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


class BadImage(ValueError):
    """Why bytes are not taken as a photo, in one sentence that says what they are. Crosses processes."""
