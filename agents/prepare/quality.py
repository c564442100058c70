"""Whether a photo is fit to be looked at: sharp, large enough, of an ordinary form, its text readable.

Needs the extra `vision`.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from callstream.agents.prepare.attributes import PhotoOptions, Picture, Problem

SIDE = 512
"""Sharpness is measured on a picture reduced to this, so that it says how the thing is seen and not by which camera."""

STEEPEST = 99.8
"""The percentile of the Laplacian that is taken: a sharp picture of a plain thing has few edges, but steep ones."""


def sharpness(image: Image.Image) -> float:
    """How steep the steepest edges of a picture are, in levels of grey: under 16 is blurred, over 100 a sharp photo."""
    small = image.convert("L")
    small.thumbnail((SIDE, SIDE))
    grey = np.asarray(small, dtype=np.float32)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return round(float(np.percentile(np.abs(4 * grey[1:-1, 1:-1] - around), STEEPEST)), 1)


def judged(picture: Picture, sharp: float, read: Sequence[object], unread: int, options: PhotoOptions) -> Picture:
    """The picture with its sharpness and what is wrong with it; `unread` lines of text were seen and not understood."""
    found = {
        Problem.BLURRED: sharp < options.least_sharpness,
        Problem.SMALL: min(picture.width, picture.height) < options.good_side_pixels,
        Problem.ELONGATED: max(picture.aspect, 1 / picture.aspect) > options.most_aspect,
        Problem.UNREADABLE: not read and unread > 0,
    }
    problems = tuple(problem for problem, there in found.items() if there)
    return picture.model_copy(update={"sharpness": sharp, "problems": problems})
