import pytest
from PIL import Image, ImageDraw

from callstream.agents.prepare.colours import MOST_COLOURS, PALETTE, dominant


def product(colour: str, wall: str = "#e8e8ea") -> Image.Image:
    image = Image.new("RGB", (200, 200), wall)
    ImageDraw.Draw(image).ellipse((40, 40, 160, 160), fill=colour)
    return image


@pytest.mark.parametrize("name", PALETTE)
def test_a_product_before_a_wall_has_its_own_colour(name: str) -> None:
    wall = "#20242c" if name in ("white", "grey", "beige") else "#e8e8ea"
    for code in PALETTE[name]:
        assert dominant(product(code, wall))[0].name == name


def test_the_wall_does_not_count() -> None:
    colours = dominant(product("#c81e1e", "#2c5fb3"))
    assert [colour.name for colour in colours] == ["red"]


def test_shares_are_of_the_product() -> None:
    image = product("#c81e1e")
    ImageDraw.Draw(image).rectangle((40, 100, 160, 160), fill="#1f5f3b")
    colours = dominant(image)
    assert {colour.name for colour in colours} == {"red", "green"}
    assert 0.9 < sum(colour.share for colour in colours) <= 1.001


@pytest.mark.parametrize("colour", ["#ffffff", "#000000", "#7d3c98"])
def test_a_picture_of_one_colour_has_that_colour(colour: str) -> None:
    assert len(dominant(Image.new("RGB", (50, 80), colour))) == 1


def test_a_thin_picture_is_looked_at() -> None:
    assert dominant(Image.new("RGB", (1, 400), "#c81e1e"))[0].name == "red"


def test_a_rainbow_is_bounded() -> None:
    image = Image.new("RGB", (256, 64))
    image.putdata([(x, 255 - x, (x * 7) % 256) for _ in range(64) for x in range(256)])
    assert len(dominant(image)) <= MOST_COLOURS
