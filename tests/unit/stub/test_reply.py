"""Replies to customers."""

import pytest

from callstream.stub.chat import chat_work
from callstream.stub.reply import ABOUT, is_asked_for

SYSTEM = "You write for a shop's customer service, in {language}, in at most three sentences."


def said(message: str, language: str = "English", lines: str = "") -> str:
    messages = [
        {"role": "system", "content": SYSTEM.format(language=language)},
        {"role": "user", "content": f"{lines}Message: {message}"},
    ]
    return str(chat_work({"messages": messages}, 7, 0).text)


@pytest.mark.parametrize(
    ("message", "language", "expected"),
    [
        ("I want my money back for the mug.", "English", "within 30 days"),
        ("Where is my parcel?", "English", "the carrier"),
        ("It arrived broken, I am disappointed.", "English", "We are sorry"),
        ("Does the lamp have a dimmer?", "English", "ask the maker"),
        ("Hello.", "English", "what we can do for you"),
        ("台灯想退货，怎么办理退款？", "Chinese", "30天"),
        ("快递三天没有更新了", "Chinese", "快递公司"),
    ],
)
def test_a_customer_is_answered_by_what_the_message_is_about(message: str, language: str, expected: str) -> None:
    assert expected in said(message, language)


def test_name_and_order_are_used_where_they_are_given() -> None:
    reply = said("Where is it?", lines="Name: Ann {0}\nOrder: A-1\n")

    assert reply.startswith("Hello Ann {0}, thank you")
    assert "your order A-1" in reply


def test_every_topic_has_its_words_in_both_languages() -> None:
    assert (
        len(
            {
                said(words, language)
                for words in ("refund", "parcel", "broken", "?", "x")
                for language in ("English", "Chinese")
            }
        )
        == 10
    )
    assert len(ABOUT) == 4


def test_instructions_for_product_copy_want_none() -> None:
    assert not is_asked_for("You write product copy for a shop, in English.")
