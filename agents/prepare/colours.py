"""Which colours a product has, by name: what is not background, mapped to the nearest of a small palette.

Distances are Euclidean in CIE L*a*b* (D65), where equal steps look about equally large. Needs the extra `vision`.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from callstream.agents.prepare.attributes import Colour

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDE = 96
"""The picture is reduced to this many pixels: a colour that needs more is none of the product's."""

NEAR = 13.0
"""Distance below which a pixel counts as background: about the shading of an evenly lit wall."""

LEAST_FOREGROUND = 0.04
LEAST_SHARE = 0.08
MOST_COLOURS = 4

PALETTE: dict[str, tuple[str, ...]] = {
    "black": ("#0c0c0e", "#1e1e22", "#2b2b2e"),
    "grey": ("#55565a", "#808080", "#a6a8ab", "#bfc1c4"),
    "white": ("#ffffff", "#f3f2ef", "#e4e4e4"),
    "red": ("#c81e1e", "#a31621", "#e23b3b", "#7d1522"),
    "orange": ("#f28c28", "#e2711d", "#ff9f45"),
    "yellow": ("#f4d03f", "#ffe135", "#e0b422"),
    "green": ("#2e8b57", "#3c9a3c", "#1f5f3b", "#7fb069", "#9acd32", "#55663f", "#a3b899"),
    "turquoise": ("#1abc9c", "#2aa198", "#40c4c4", "#9fd8cf"),
    "blue": ("#2c5fb3", "#1f3a6d", "#4a90d9", "#16264a", "#8fb6e0", "#4c6a92"),
    "purple": ("#7d3c98", "#5b3a86", "#a98bd0"),
    "pink": ("#f4a6b7", "#e75480", "#f7c8d3", "#d98a9c"),
    "brown": ("#6b4226", "#8b5a2b", "#4b2e1e", "#a0703f", "#5d4037"),
    "beige": ("#d9c3a0", "#e8dcc4", "#c8ad7f", "#f0e6d2"),
}


def dominant(image: Image.Image) -> tuple[Colour, ...]:
    """The colours of an RGB picture's foreground, largest share first, at most `MOST_COLOURS`.

    What touches the border and looks like it is background; where hardly anything else is left, all is foreground.
    The middle counts more than the edges.
    """
    small = image.convert("RGB").copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    lab = to_lab(np.asarray(small, dtype=np.float64) / 255.0)
    foreground = ~background(lab)
    if foreground.mean() < LEAST_FOREGROUND:
        foreground = np.ones_like(foreground)
    weights = _centre(foreground.shape)[foreground]
    distances = np.linalg.norm(lab[foreground][:, None, :] - _ANCHORS[None, :, :], axis=2)
    nearest = _OWNERS[distances.argmin(axis=1)]
    shares = np.bincount(nearest, weights=weights, minlength=len(PALETTE)) / weights.sum()
    ranked = sorted(zip(PALETTE, shares.tolist(), strict=True), key=lambda pair: -pair[1])[:MOST_COLOURS]
    return tuple(Colour(name=name, share=round(share, 3)) for name, share in ranked if share >= LEAST_SHARE)


def background(lab: Floats) -> Mask:
    """Which pixels (height × width) look like the border next to them and are joined to it."""
    height, width, _ = lab.shape
    frame = max(1, min(height, width) // 24)
    edges = (lab[:frame], lab[-frame:], lab[:, :frame], lab[:, -frame:])
    typical = [np.median(edge.reshape(-1, 3), axis=0) for edge in edges]
    alike: Mask = np.min([np.linalg.norm(lab - colour, axis=2) for colour in typical], axis=0) < NEAR
    joined = np.zeros_like(alike)
    joined[0], joined[-1], joined[:, 0], joined[:, -1] = alike[0], alike[-1], alike[:, 0], alike[:, -1]
    for _ in range(height + width):
        grown = joined.copy()
        grown[1:] |= joined[:-1]
        grown[:-1] |= joined[1:]
        grown[:, 1:] |= joined[:, :-1]
        grown[:, :-1] |= joined[:, 1:]
        grown &= alike
        if (grown == joined).all():
            break
        joined = grown
    return joined


def to_lab(rgb: Floats) -> Floats:
    """sRGB between 0 and 1 (…, 3) as L*a*b*, D65 (IEC 61966-2-1, CIE 15)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = 116 * root[..., 1] - 16
    return np.stack((lightness, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])), axis=-1)


def _centre(shape: tuple[int, ...]) -> Floats:
    rows = np.linspace(-1, 1, shape[0])[:, None]
    columns = np.linspace(-1, 1, shape[1])[None, :]
    weights: Floats = np.exp(-(rows**2 + columns**2))
    return weights


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_ANCHORS = to_lab(
    np.array([[int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)] for codes in PALETTE.values() for code in codes])
)
_OWNERS = np.array([place for place, codes in enumerate(PALETTE.values()) for _ in codes])
