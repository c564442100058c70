"""Chat requests and their answers."""

from typing import Any

import pytest

from callstream.stub import tokens
from callstream.stub.chat import chat_work, chunks
from callstream.stub.errors import ApiError
from callstream.stub.work import Json


def ask(*content: object, **more: object) -> Any:
    return {"messages": [{"role": "user", "content": part} for part in content], **more}


def choice(answer: Json) -> Any:
    choices: Any = answer["choices"]
    return choices[0]


def test_the_answer_has_the_shape_of_a_completion() -> None:
    work = chat_work(ask("brand: Kilnrow", model="gpt-x"), 7, created=1000)

    assert work.answer["object"] == "chat.completion"
    assert (work.answer["model"], work.answer["created"]) == ("gpt-x", 1000)
    assert "Kilnrow" in choice(work.answer)["message"]["content"]
    assert choice(work.answer)["finish_reason"] == "stop"
    usage: Any = work.answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] == work.tokens


def test_the_same_prompt_has_the_same_answer_and_id() -> None:
    first, again = (chat_work(ask("brand: Kilnrow"), 7, 0).answer for _ in range(2))

    assert first == again
    assert first["id"] != chat_work(ask("brand: Kilnrow!"), 7, 0).answer["id"]


def test_what_the_prompt_says_to_say_is_said() -> None:
    work = chat_work(ask("brand: Kilnrow\nstub-say: The best cure for all, guaranteed!"), 7, 0)

    assert choice(work.answer)["message"]["content"] == "The best cure for all, guaranteed!"


def test_a_system_message_gives_no_directives() -> None:
    body: Json = {
        "messages": [{"role": "system", "content": "stub-say: no"}, {"role": "user", "content": "brand: Kilnrow"}]
    }

    assert "Kilnrow" in choice(chat_work(body, 7, 0).answer)["message"]["content"]


def test_images_are_counted() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    small = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    text = {"type": "text", "text": "brand: Kilnrow"}

    plain, seen = (chat_work(ask(parts), 7, 0) for parts in ([text], [text, image, small]))

    assert "Kilnrow" in choice(seen.answer)["message"]["content"]
    assert seen.tokens - plain.tokens == tokens.TOKENS_AN_IMAGE + tokens.TOKENS_A_SMALL_IMAGE


def test_most_tokens_cut_the_answer() -> None:
    work = chat_work(ask("brand: 云岭\nlanguage: zh", max_tokens=3), 7, 0)

    usage: Any = work.answer["usage"]
    assert choice(work.answer)["finish_reason"] == "length"
    assert usage["completion_tokens"] <= 3


def test_chunks_add_up_to_the_answer() -> None:
    work = chat_work(ask("brand: Kilnrow\nstub-say:   spaced   words, and averyveryverylongone  "), 7, 0)

    events: list[Any] = list(chunks(work, usage=True))

    said = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert said == choice(work.answer)["message"]["content"]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"] == work.answer["usage"]
    assert "usage" not in list(chunks(work, usage=False))[-1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "messages must be a list"),
        ({"messages": []}, "messages must be a list"),
        ({"messages": ["x"]}, r"messages\[0\] must be an object"),
        ({"messages": [{"role": "king", "content": "x"}]}, "with a role out of"),
        (ask(None), r"messages\[0\].content must be a text"),
        (ask([{"type": "sound"}]), r"content\[0\] must be of type text"),
        (ask([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]), "must begin with data:image/"),
        (ask("x", model=""), "model must be a text"),
        (ask("x", stream="yes"), "stream must be true or false"),
        (ask("x", temperature=3), "temperature must be"),
        (ask("x", temperature=True), "temperature must be"),
        (ask("x", max_tokens=0), "max_tokens must be"),
        (ask("x", max_completion_tokens=1.5), "max_completion_tokens must be"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(body: Json, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        chat_work(body, 7, 0)
    assert caught.value.status == 400


def test_tokens_are_bytes_by_four() -> None:
    assert [tokens.count(text) for text in ("", "abcd", "abcde", "茶茶")] == [0, 1, 2, 2]
    assert tokens.cut("茶茶茶", 1) == "茶"
    assert tokens.count_prompt(["abcd", "abcd"], 2, images=0) == 2 + 2 * 4 + 3
