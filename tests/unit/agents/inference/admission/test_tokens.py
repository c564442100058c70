import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstream.agents.inference.admission.tokens import (
    ANSWERS_TO_KNOW,
    IMAGE_TOKENS,
    LEAST_ANSWER,
    MOST_CHOICES,
    MOST_MODELS,
    MOST_TOKENS,
    Estimator,
    Reservation,
    Size,
    measure,
)
from callstream.streams.event import Json
from callstream.stub.chat import chat_work

ENGLISH = [
    "Keeps tea warm for an hour, even outdoors. ",
    "The glaze is mixed by hand, so no two mugs are quite alike! ",
    "Free returns within 30 days; ask for details.\n",
    "Dishwasher-safe, microwave-safe, holds 0.35 l. ",
    "A gift for anyone who reads late into the night. ",
    "Size: 8.5 x 9 cm, weight: 320 g (without the lid). ",
    "You're going to love it. ",
]
CHINESE = [
    "户外一小时仍能保温。",
    "釉料由手工调制，没有两只杯子完全相同！",
    "三十天内可免费退货，详情请咨询客服。\n",
    "可用洗碗机清洗，容量350毫升。",
    "送给每一位爱在深夜读书的人。",
    "尺寸：8.5×9厘米，重量：320克（不含盖）。",
    "你一定会喜欢它。",
]
PIECES = re.compile(r" ?[A-Za-z]{1,6}|[0-9]{1,3}|[\u4e00-\u9fff]{1,2}|\S")

Count = Callable[[Json], int]


def by_the_stub(request: Json) -> int:
    answer: Any = chat_work(request, 0, 0).answer
    return int(answer["usage"]["prompt_tokens"])


def by_pieces(request: Json) -> int:
    """As tokenizers do: short words are a token, long ones several, and signs one each; with words around it."""
    return sum(len(PIECES.findall(message["content"])) + 5 for message in request["messages"]) + 12


def requests(kind: str, chance: random.Random) -> Iterator[Json]:
    sentences = {"english": ENGLISH, "chinese": CHINESE, "mixed": ENGLISH + CHINESE}[kind]
    while True:
        yield {
            "messages": [
                {"role": role, "content": "".join(chance.choices(sentences, k=chance.randint(1, 20)))}
                for role in ("system", "user")
            ]
        }


def says(content: Any, **more: Any) -> Json:
    return {"messages": [{"role": "user", "content": content}], **more}


def teach(estimator: Estimator, request: Json, tokens_in: int, tokens_out: int = 0, times: int = 1) -> None:
    for _ in range(times):
        estimator.learn("m", request, estimator.reserve("m", request), tokens_in, tokens_out)


def taught(kind: str, count: Count, chance: random.Random, calls: int = 50) -> Estimator:
    estimator = Estimator()
    for _, request in zip(range(calls), requests(kind, chance), strict=False):
        teach(estimator, request, count(request))
    return estimator


@pytest.mark.parametrize("count", [by_the_stub, by_pieces])
@pytest.mark.parametrize("kind", ["english", "chinese", "mixed"])
def test_after_50_calls_99_in_100_are_covered_and_a_quarter_is_wasted_at_most(kind: str, count: Count) -> None:
    chance, parts = random.Random(kind), list[float]()
    for _ in range(10):
        estimator = taught(kind, count, chance)
        for _, request in zip(range(50), requests(kind, chance), strict=False):
            parts.append(estimator.reserve("m", request).tokens_in / count(request))

    assert sum(part >= 1 for part in parts) >= 0.99 * len(parts)
    assert sum(parts) / len(parts) <= 1.25


@pytest.mark.parametrize("count", [by_the_stub, by_pieces])
@pytest.mark.parametrize("kind", ["english", "chinese", "mixed"])
def test_calls_are_covered_while_it_learns_too(kind: str, count: Count) -> None:
    chance, covered = random.Random(kind), list[bool]()
    for _ in range(10):
        estimator = Estimator()
        for _, request in zip(range(50), requests(kind, chance), strict=False):
            covered.append(estimator.reserve("m", request).tokens_in >= count(request))
            teach(estimator, request, count(request))

    assert sum(covered) >= 0.99 * len(covered)


@pytest.mark.parametrize("count", [by_the_stub, by_pieces])
@pytest.mark.parametrize(("seen", "new"), [("english", "chinese"), ("chinese", "english"), ("mixed", "chinese")])
def test_what_was_never_seen_is_reckoned_dear(seen: str, new: str, count: Count) -> None:
    chance = random.Random(seen)
    estimator = taught(seen, count, chance)

    for _, request in zip(range(50), requests(new, chance), strict=False):
        assert estimator.reserve("m", request).tokens_in >= count(request)


@pytest.mark.parametrize(("factor", "calls"), [(1.5, 2), (0.6, 300)])
def test_another_tokenizer_is_followed_up_at_once_and_down_in_time(factor: float, calls: int) -> None:
    def other(request: Json) -> int:
        return int(by_the_stub(request) * factor)

    chance = random.Random(7)
    estimator = taught("english", by_the_stub, chance, 300)
    stream = requests("english", chance)
    for _, request in zip(range(calls), stream, strict=False):
        teach(estimator, request, other(request))

    parts = [estimator.reserve("m", one).tokens_in / other(one) for _, one in zip(range(100), stream, strict=False)]
    assert min(parts) >= 1
    assert sum(parts) / len(parts) <= (2.0 if factor > 1 else 1.25)


@pytest.mark.parametrize("tokens_in", [0, -1, 1, 10**6, MOST_TOKENS, 10**400, True, None, float("nan"), "12"])
@pytest.mark.parametrize("tokens_out", [0, -1, MOST_TOKENS, 10**400, None])
def test_usage_that_no_request_takes_teaches_nothing(tokens_in: Any, tokens_out: Any) -> None:
    estimator, request = Estimator(), says("Write a line about a mug, please.")
    before = estimator.reserve("m", request)
    teach(estimator, request, tokens_in, tokens_out, times=ANSWERS_TO_KNOW)

    assert estimator.reserve("m", request) == before


def test_one_answer_that_could_be_true_but_is_not_costs_little_and_is_forgotten() -> None:
    chance = random.Random(3)
    estimator = taught("english", by_the_stub, chance)
    request = next(requests("english", chance))
    before = estimator.reserve("m", request).tokens_in
    teach(estimator, request, measure(request).plain)
    after = estimator.reserve("m", request).tokens_in
    for _, one in zip(range(300), requests("english", chance), strict=False):
        teach(estimator, one, by_the_stub(one))

    assert before <= after <= 1.6 * before
    assert estimator.reserve("m", request).tokens_in <= before


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.floats(0, 1)), max_size=40))
def test_whatever_was_learned_the_rate_stays_within_sane_bounds(usage: list[tuple[int, int, float]]) -> None:
    estimator = Estimator()
    for english, chinese, part in usage:
        request = says("word " * english + "杯" * chinese)
        teach(estimator, request, int(part * (english * 5 + chinese * 3)))

    for text in ("word " * 400, "杯" * 700):
        size = len(text.encode())
        assert 0.03 * size <= estimator.reserve("m", says(text)).tokens_in <= 4.5 * size + 2000


def test_before_it_knows_anything_it_fears_the_worst() -> None:
    reserved = Estimator(most_answer_tokens=500).reserve("m", says("杯" * 100))

    assert reserved.tokens_in >= 250
    assert reserved.tokens_out == 500
    assert reserved.total == reserved.tokens_in + 500


def test_an_answer_is_what_the_request_allows_for_each_choice() -> None:
    def out(**more: Any) -> int:
        return Estimator(100).reserve("m", says("hi", **more)).tokens_out

    assert out(max_tokens=7) == out(max_completion_tokens=7) == 7
    assert out(max_tokens=7, max_completion_tokens=9) == out(max_tokens=9, max_completion_tokens=7) == 9
    assert out(n=3) == 300
    assert out(n=3, max_tokens=7) == 21
    assert out(max_tokens=10**400) == out(max_tokens=10**7, n=100) == MOST_TOKENS
    assert out(max_tokens=1, n=10**400) == MOST_CHOICES


@pytest.mark.parametrize("nonsense", [0, -1, True, None, "7", 2.5, float("nan"), [], {}])
def test_a_bound_that_is_none_is_no_bound(nonsense: Any) -> None:
    request = says("hi", max_tokens=nonsense, max_completion_tokens=nonsense, n=nonsense)

    assert Estimator(100).reserve("m", request).tokens_out == 100


def test_answers_are_learned_by_their_largest_between_a_floor_and_a_bound() -> None:
    def after(*answers: int, n: int = 1) -> int:
        estimator, request = Estimator(1000), says("hi", n=n)
        for answer in answers:
            teach(estimator, request, 0, answer)
        return estimator.reserve("m", request).tokens_out

    assert after(*[200] * (ANSWERS_TO_KNOW - 1)) == 1000
    assert after(*range(200, 200 + ANSWERS_TO_KNOW)) == pytest.approx(1.25 * (200 + ANSWERS_TO_KNOW), abs=2)
    assert after(*[3] * ANSWERS_TO_KNOW) == LEAST_ANSWER
    assert after(*[5000] * ANSWERS_TO_KNOW) == 1000
    assert after(*[400] * ANSWERS_TO_KNOW, n=2) == 500


def test_answers_99_in_100_are_covered() -> None:
    chance, covered = random.Random(5), list[bool]()
    for _ in range(10):
        estimator, request = Estimator(4096), says("hi")
        for number in range(150):
            answer = int(chance.lognormvariate(5.5, 0.4))
            if number >= 50:
                covered.append(estimator.reserve("m", request).tokens_out >= answer)
            teach(estimator, request, 0, answer)

    assert sum(covered) >= 0.99 * len(covered)


def test_an_answer_that_was_cut_teaches_nothing() -> None:
    estimator = Estimator(1000)
    teach(estimator, says("hi", max_tokens=5), 10, 5, times=ANSWERS_TO_KNOW)

    assert estimator.reserve("m", says("hi")).tokens_out == 1000


def test_an_image_costs_its_fixed_number_and_its_prompt_teaches_nothing() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    text = {"type": "text", "text": "What is on it?"}
    estimator = Estimator()
    plain = estimator.reserve("m", says("What is on it?")).tokens_in

    assert estimator.reserve("m", says([text])).tokens_in == plain
    assert estimator.reserve("m", says([text, image, image])).tokens_in == plain + 2 * IMAGE_TOKENS
    teach(estimator, says([text, image]), 20, times=50)
    assert estimator.reserve("m", says([text])).tokens_in == plain
    for small in ({"detail": "low"}, {"detail": "high"}):
        request = says([text, {**image, "image_url": {"url": "https://shop.example/1.png", **small}}])
        assert estimator.reserve("m", request).tokens_in >= by_the_stub(request)


def test_tools_and_what_they_say_are_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": '{"sku": "mug-1"}'}}
    talk = [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"left": 12}'},
    ]
    tools = [{"type": "function", "function": {"name": "stock", "description": "What is left of a mug 杯."}}]
    bare, told = measure({"messages": talk}), measure({"messages": talk, "tools": tools})

    assert bare.messages == 4
    assert bare.plain + bare.signs > len("How many?" + '{"left": 12}' + '{"sku": "mug-1"}' + "stock")
    assert told.plain > bare.plain + len("What is left of a mug")
    assert (bare.other, told.other) == (0, 3)


def test_a_prompt_is_measured_in_bytes_of_three_sorts() -> None:
    assert measure(says("two mugs: 12 € 杯😀\ud800")) == Size(plain=11, signs=3, other=13, messages=2, images=0)


def test_models_are_apart_and_those_taught_last_are_remembered() -> None:
    estimator, request = Estimator(), says("Write a line about a mug, please. " * 20)
    cold = estimator.reserve("m", request)
    for model in ("kept", "forgotten", "kept"):
        for _ in range(20):
            estimator.learn(model, request, estimator.reserve(model, request), 170, 0)
    for number in range(MOST_MODELS - 1):
        estimator.learn(f"m{number}", request, cold, 170, 0)

    assert estimator.reserve("m", request) == cold
    assert estimator.reserve("forgotten", request) == cold
    assert estimator.reserve("kept", request).tokens_in < cold.tokens_in / 2


def test_a_reservation_made_by_hand_teaches_the_same() -> None:
    one, other, request = Estimator(), Estimator(), says("Write a line about a mug, please.")
    teach(one, request, 13, 40)
    other.learn("m", request, Reservation(1, 2), 13, 40)

    assert one.reserve("m", request) == other.reserve("m", request)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGE = st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "name"]), JSON) | JSON


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "messages": st.lists(MESSAGE, max_size=3) | JSON,
            "tools": JSON,
            "max_tokens": JSON,
            "n": JSON,
        },
    ),
    st.integers(),
    st.integers(),
)
def test_whatever_a_request_holds_it_is_reckoned_with(request: Json, tokens_in: int, tokens_out: int) -> None:
    estimator = Estimator()
    teach(estimator, request, tokens_in, tokens_out, times=2)
    reserved = estimator.reserve("m", request)

    assert 1 <= reserved.tokens_in <= MOST_TOKENS
    assert 1 <= reserved.tokens_out <= MOST_TOKENS


def test_what_is_no_json_is_never_sent_and_counts_for_nothing() -> None:
    loop: list[Any] = []
    loop.append(loop)

    assert measure(says(object(), tools=loop, functions={1, 2})) == measure(says(""))
