import pytest

from callstream.agents.prepare.attributes import Colour, Fact, Line, Picture, Seen, Source
from callstream.agents.prepare.facts import Texts, attributes_of, best, features, size
from callstream.agents.prepare.lexicon import Lexicon

LEXICON = Lexicon.of(
    {
        "brands": {"Nordwind": [], "Alba": []},
        "categories": {
            "mug": ["cup", "tasse", "杯", "马克杯"],
            "tea": ["green tea", "绿茶", "thé"],
            "coffee": ["咖啡", "café", "kaffee"],
        },
        "colours": {"red": ["红色", "rot"], "green": ["绿"], "white": ["白色", "weiß"]},
        "materials": {"ceramic": ["陶瓷", "keramik"]},
    }
)


def seen(*colours: tuple[str, float]) -> Seen:
    shown = tuple(Colour(name=name, share=share) for name, share in colours)
    return Seen(Picture(format="JPEG", width=8, height=8, aspect=1), shown, ())


def line(text: str, confidence: float = 1.0, height: float = 0.05) -> Line:
    return Line(text=text, confidence=confidence, height=height)


def value(fact: Fact | None) -> str | None:
    return fact.value if fact else None


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Coffee mug for tea lovers", "mug"),
        ("Kaffeetasse aus Keramik", "mug"),
        ("Tasse à café en céramique", "mug"),
        ("陶瓷咖啡杯", "mug"),
        ("Green tea, 100 g", "tea"),
        ("Thé vert", "tea"),
        ("A thing", None),
    ],
)
def test_the_head_of_the_title_tells_the_category(title: str, expected: str | None) -> None:
    assert value(attributes_of(Texts(title, ""), None, LEXICON).category) == expected


def test_label_and_title_that_agree_add_up() -> None:
    # given a brand in the title, and the same on the label
    alone = attributes_of(Texts("Nordwind mug", ""), None, LEXICON).brand
    both = attributes_of(Texts("Nordwind mug", "", (line("NORDWIND", 1.0, 0.12),)), None, LEXICON).brand
    # then both are surer than one, and the label was the stronger source
    assert alone is not None
    assert both is not None
    assert both.confidence > alone.confidence
    assert (alone.source, both.source) == (Source.TITLE, Source.LABEL)


def test_a_brand_on_the_label_alone_is_found() -> None:
    brand = attributes_of(Texts("Mug", "", (line("N0RDWIND", 0.9),)), None, LEXICON).brand
    assert brand is not None
    assert (brand.value, brand.source) == ("Nordwind", Source.LABEL)
    assert 0.4 < brand.confidence < 0.8


def test_what_the_title_says_outweighs_the_photo() -> None:
    colour = attributes_of(Texts("Red mug", ""), seen(("white", 0.9)), LEXICON).colour
    assert value(colour) == "red"


def test_the_photo_tells_a_colour_that_no_text_does() -> None:
    colour = attributes_of(Texts("Mug", ""), seen(("white", 0.7), ("red", 0.2)), LEXICON).colour
    assert colour is not None
    assert (colour.value, colour.source) == ("white", Source.PHOTO)


def test_a_colour_in_a_category_is_not_the_products() -> None:
    assert attributes_of(Texts("Green tea", ""), None, LEXICON).colour is None
    assert value(attributes_of(Texts("绿茶 红色", ""), None, LEXICON).colour) == "red"


def test_a_category_in_a_colour_is_not_the_products() -> None:
    lexicon = Lexicon.of({"categories": {"plant": ["花"], "case": ["手机壳"]}, "colours": {"pink": ["樱花粉"]}})
    attributes = attributes_of(Texts("手机壳 樱花粉", ""), None, lexicon)
    assert (value(attributes.category), value(attributes.colour)) == ("case", "pink")


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Mug 350ml", "350 ml"),
        ("Mug 0,35 l", "0,35 l"),
        ("Lamp 20x30x40 cm", "20×30×40 cm"),
        ("Shoes EU 42.5", "EU 42.5"),
        ("跑鞋 尺码：42", "42"),
        ("跑鞋 42码", "42"),
        ("Jacket, size XL", "XL"),
        ("马克杯350毫升", "350 毫升"),
        ("Notebook A5, 120 g paper", "A5"),
        ("iPhone 15", None),
        ("No. 123456789 ml", None),
    ],
)
def test_sizes_are_read(title: str, expected: str | None) -> None:
    assert value(size(Texts(title, ""))) == expected


def test_a_size_on_the_label_is_read() -> None:
    fact = size(Texts("Tea", "", (line("100 g"),)))
    assert fact is not None
    assert fact.source == Source.LABEL


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("Waterproof. Light; two pockets\n- 3.5 mm jack", ("Waterproof", "Light", "two pockets", "3.5 mm jack")),
        ("轻便透气。防滑鞋底！", ("轻便透气", "防滑鞋底")),
        ("light, soft, warm.", ("light", "soft", "warm")),
        ("", ()),
    ],
)
def test_features_are_the_short_statements(description: str, expected: tuple[str, ...]) -> None:
    assert features(description) == expected


def test_materials_are_whole_words() -> None:
    # a Lesezeichen (bookmark) ends in "eichen" (of oak), and is of paper
    lexicon = Lexicon.of({"materials": {"wood": ["eiche"]}})
    assert attributes_of(Texts("Notizbuch", "Mit Lesezeichen"), None, lexicon).material is None
    assert value(attributes_of(Texts("Tisch aus Eiche", ""), None, lexicon).material) == "wood"


def test_of_equals_the_first_found_is_taken() -> None:
    facts = [Fact(value=name, confidence=0.5, source=Source.TITLE) for name in ("a", "b")]
    assert value(best(facts)) == "a"
    assert best([]) is None
