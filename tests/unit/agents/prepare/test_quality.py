"""Whether a photo is fit to be looked at."""

import pytest
from PIL import Image, ImageDraw, ImageFilter

from callstream.agents.prepare.attributes import PhotoOptions, Picture, Problem
from callstream.agents.prepare.quality import judged, sharpness


def drawn(side: int = 800) -> Image.Image:
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((side // 4, side // 4, side * 3 // 4, side * 3 // 4), fill="navy")
    draw.ellipse((side // 3, side // 3, side // 2, side // 2), fill="orange")
    return image


def picture(width: int = 800, height: int = 600) -> Picture:
    return Picture(format="PNG", width=width, height=height, aspect=round(width / height, 3))


def test_a_sharp_picture_of_a_plain_thing_is_sharp_at_any_size() -> None:
    assert all(sharpness(drawn(side)) > 100 for side in (128, 400, 800, 1280))


def test_the_more_it_is_blurred_the_less_sharp_it_is() -> None:
    found = [sharpness(drawn().filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[2] > PhotoOptions().least_sharpness > found[3]


def test_without_an_edge_nothing_is_sharp() -> None:
    assert sharpness(Image.new("RGB", (100, 100), "red")) == 0


@pytest.mark.parametrize(
    ("size", "sharp", "read", "unread", "problems"),
    [
        ((800, 600), 90.0, ["LUMA"], 3, ()),
        ((800, 600), 90.0, [], 0, ()),
        ((800, 600), 9.0, [], 0, (Problem.BLURRED,)),
        ((800, 200), 90.0, [], 0, (Problem.SMALL,)),
        ((330, 3300), 90.0, [], 0, (Problem.ELONGATED,)),
        ((800, 600), 90.0, [], 1, (Problem.UNREADABLE,)),
        ((40, 400), 1.0, [], 1, tuple(Problem)),
    ],
)
def test_what_is_wrong_is_named(
    size: tuple[int, int], sharp: float, read: list[str], unread: int, problems: tuple[Problem, ...]
) -> None:
    found = judged(picture(*size), sharp, read, unread, PhotoOptions())
    assert (found.problems, found.sharpness) == (problems, sharp)
    assert (found.width, found.height) == size
