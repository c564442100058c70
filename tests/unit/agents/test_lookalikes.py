"""Foreign letters in Latin words: which are made Latin, and what stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.lookalikes import lookalikes, unmixed

LETTERS = st.sampled_from("abcАВСаесорхуԁαβγοκтпжé1 -中")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("р\u0430ypal", "paypal"),
        ("СOFFEE", "COFFEE"),
        ("mοney bаck", "money back"),
        ("с\u0430fé for two", "café for two"),
        ("Nikе鞋", "Nikе鞋"),
    ],
)
def test_words_that_mix_scripts(text: str, expected: str) -> None:
    assert unmixed(text, lookalikes())[0] == expected


@pytest.mark.parametrize(
    "honest",
    [
        "Кофе и роса, сорт 1, вес 5 кг",
        "сору",
        "α and β carotene, TNFα, NFκB, αKG, 5 μm, kΩ",
        "καφές και τσάι",
        "T恤 U盘 X光 ロゴ",
        "тoвap",
        "ısı ölçer ñandú",
        "",
        "plain text",
    ],
)
def test_honest_words_stay(honest: str) -> None:
    text, changed = unmixed(honest, lookalikes())
    assert text == honest
    assert not changed


def test_what_was_changed_is_counted() -> None:
    assert unmixed("р\u0430yp\u0430l", lookalikes())[1] == {"\u0430": 2, "р": 1}


def test_without_the_extra_nothing_changes() -> None:
    assert unmixed("р\u0430ypal", {}) == ("р\u0430ypal", {})


@given(st.text(LETTERS, max_size=30))
def test_the_length_stays_and_it_is_done_once(text: str) -> None:
    once, _ = unmixed(text, lookalikes())
    assert len(once) == len(text)
    assert unmixed(once, lookalikes()) == (once, {})
