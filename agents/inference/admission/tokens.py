"""How many tokens a request will take, before it is sent: an upper estimate, learned from `usage`. Pure.

A prompt's letters and spaces, other ASCII, bytes of other scripts, and messages each take tokens at a rate. A Kalman
filter learns the rates of each model and how little is known of each; the estimate is its mean and two standard
deviations, so what was never seen (Chinese, after English alone) is reckoned dear. It is scaled by the largest part of
such estimates that calls took of late, and by some spare.
"""

import json
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Any, NamedTuple

from callstream.streams.event import Json

MOST_TOKENS, MOST_CHOICES, MOST_MODELS = 10_000_000, 128, 64
"""A request that wants more is reckoned with these; and of how many models, those taught last, something is known."""
IMAGE_TOKENS = 1445
"""For each image, and each other part that is no text: the most of OpenAI's tiled models, 8 tiles of 170 and 85."""
RATES, DEVIATIONS = (0.25, 0.5, 0.4, 6.0), (0.6, 0.4, 0.4, 1.0)
"""Tokens of a letter or space, another byte of ASCII, a byte of other scripts, a message; and how far off, as parts."""
LEAST_RATES, MOST_RATES = (0.05, 0.05, 0.08, 1.0), (1.0, 1.0, 1.0, 256.0)
"""No byte is more than a token; a server's own words around a message may be many. Usage beyond these is nonsense."""
NOISE, DRIFT, MOST_SURPRISE = 0.1, 1e-5, 0.5
"""How far prompts of one kind are off their rates, as a part; what a call adds to the doubt, so that about 80 count;
and how far off one is taken to be at most, as outliers pull a mean."""
REMEMBERED, MOST_SCALE, STRAY = 128, 4.0, 1.25
SPARE, SPARE_OF_SPREAD, SPARE_WHILE_NEW = 0.02, 25, 0.3
"""On top of the largest part: always; so many nths, after n calls, of its way from the middle one; an nth of this.
So 99 of 100 calls held after 50 of their kind, with two real tokenizers, at 24 % too much on average at most."""
ANSWERS_TO_KNOW, ANSWER_SPARE, LEAST_ANSWER = 32, 1.25, 64

_PLAIN = b" ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ASCII = bytes(range(128))


class Size(NamedTuple):
    """What a prompt is made of: bytes of three sorts, messages and one for the whole, parts that are no text."""

    plain: int
    signs: int
    other: int
    messages: int
    images: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens that a request is reckoned with. `size` saves `learn` from measuring it again."""

    tokens_in: int
    tokens_out: int
    size: Size | None = field(default=None, repr=False, compare=False)

    @property
    def total(self) -> int:
        """Both together."""
        return self.tokens_in + self.tokens_out


class Estimator:
    """Reserves tokens for requests (bodies of chat completions), and learns from what they took.

    `most_answer_tokens` is for an answer without `max_tokens`: the most, and as long as few were seen.
    """

    def __init__(self, most_answer_tokens: int = 1024) -> None:
        self._most_answer = most_answer_tokens
        self._models: dict[str, _Model] = {}
        self._unknown = _Model()

    def reserve(self, model: str, request: Json) -> Reservation:
        """The most it may take of this model: its prompt once, its answer `n` times."""
        known, size, (bound, choices) = self._models.get(model, self._unknown), measure(request), _asked(request)
        tokens_in = known.prompt(size) + size.images * IMAGE_TOKENS
        answers = "messages" in request or "input" not in request
        tokens_out = (bound or known.answer(self._most_answer)) * choices if answers else 0
        return Reservation(min(tokens_in, MOST_TOKENS), min(tokens_out, MOST_TOKENS), size)

    def learn(self, model: str, request: Json, reserved: Reservation, tokens_in: int, tokens_out: int) -> None:
        """Take in what it took. A count that no such request takes teaches nothing.

        Nor does a prompt with images, whose part in it is not told, nor an answer that `max_tokens` may have cut.
        """
        size, (bound, choices) = reserved.size or measure(request), _asked(request)
        tokens_in, tokens_out = _whole(tokens_in, MOST_TOKENS), _whole(tokens_out, MOST_TOKENS)
        prompt = not size.images and _dot(size, LEAST_RATES) <= tokens_in <= _dot(size, MOST_RATES)
        answer = 0 < tokens_out < MOST_TOKENS and not bound
        if not prompt and not answer:
            return
        known = self._models.pop(model) if model in self._models else _Model()
        self._models[model] = known
        if len(self._models) > MOST_MODELS:
            del self._models[next(iter(self._models))]
        if prompt:
            known.learn(size, tokens_in)
        if answer:
            known.answers.add(tokens_out / choices)


class _Window:
    """The latest values. `top` is the largest, but at most STRAY times the next: one alone may be wrong."""

    def __init__(self) -> None:
        self._latest, self._sorted = deque[float](), list[float]()
        self.count, self.top, self.middle = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        values = self._sorted
        if self.count == REMEMBERED:
            del values[bisect_left(values, self._latest.popleft())]
        self._latest.append(value)
        insort(values, value)
        self.count = len(values)
        self.top, self.middle = min(values[-1], STRAY * values[-2:][0]), values[(self.count - 1) // 2]


class _Model:
    """Answers of a model, its rates as multiples of RATES with their covariance, and how estimates have done."""

    def __init__(self) -> None:
        self.answers, self._parts = _Window(), _Window()
        self._rates = [1.0 for _ in RATES]
        self._doubt = [[d * d * (i == j) for j in range(len(RATES))] for i, d in enumerate(DEVIATIONS)]
        self._scale = 1 + SPARE_WHILE_NEW

    def answer(self, most: int) -> int:
        upper = max(math.ceil(self.answers.top * ANSWER_SPARE), LEAST_ANSWER)
        return most if self.answers.count < ANSWERS_TO_KNOW else min(upper, most)

    def prompt(self, size: Size) -> int:
        base, mean, variance, _ = self._expect(size)
        return math.ceil(base * (mean + 2 * math.sqrt(variance)) * self._scale)

    def learn(self, size: Size, tokens: int) -> None:
        base, mean, variance, pull = self._expect(size)
        took, parts = tokens / base, self._parts
        parts.add(min(took / (mean + 2 * math.sqrt(variance)), MOST_SCALE))
        spread = min(1.0, SPARE_OF_SPREAD / parts.count) * (parts.top - parts.middle)
        self._scale = max(1.0, parts.top) + spread + SPARE + SPARE_WHILE_NEW / (parts.count + 1)
        surprise = max(-MOST_SURPRISE * mean, min(took - mean, MOST_SURPRISE * mean))
        for i, one in enumerate(pull):
            gain = one / (variance + NOISE**2)
            rate = self._rates[i] + gain * surprise
            self._rates[i] = max(LEAST_RATES[i] / RATES[i], min(rate, MOST_RATES[i] / RATES[i]))
            row = self._doubt[i] = [old - gain * other for old, other in zip(self._doubt[i], pull, strict=True)]
            row[i] += DRIFT * max(0.0, DEVIATIONS[i] ** 2 - row[i])

    def _expect(self, size: Size) -> tuple[float, float, float, list[float]]:
        """Tokens by RATES; as multiples of these what is expected, its variance, and how the rates vary with it."""
        base = _dot(size, RATES)
        shape = [count * rate / base for count, rate in zip(size, RATES, strict=False)]
        pull = [_dot(row, shape) for row in self._doubt]
        return base, _dot(self._rates, shape), max(0.0, _dot(pull, shape)), pull


def measure(request: Json) -> Size:
    """What the prompt of a request's body is made of: messages, or inputs. Anything may stand in it."""
    found = request.get("messages")
    messages = [message for message in found if isinstance(message, dict)] if isinstance(found, list) else []
    texts = [_written(request.get(name)) for name in ("tools", "functions", "response_format", "input")]
    images = 0
    for message in messages:
        for name, value in message.items():
            if name == "content" and isinstance(value, list):
                parts = [part.get("text") if isinstance(part, dict) else None for part in value]
                texts += (part for part in parts if isinstance(part, str))
                images += sum(not isinstance(part, str) for part in parts)
            elif name != "role":
                texts.append(_written(value))
    raw = "".join(texts).encode(errors="surrogatepass")
    rest = raw.translate(None, _PLAIN)
    other = len(rest.translate(None, _ASCII))
    return Size(len(raw) - len(rest), len(rest) - other, other, len(messages) + 1, images)


def _written(value: Any) -> str:
    """A text, or other things as JSON; nothing for None, and for what is no JSON, as it is never sent."""
    try:
        return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(map(mul, one, other), 0.0)


def _whole(value: Any, most: int) -> int:
    return min(max(value, 0), most) if isinstance(value, int) and not isinstance(value, bool) else 0


def _asked(request: Json) -> tuple[int, int]:
    """Its bound of an answer (the larger, as servers differ in which they heed; 0 for none), and how many it wants."""
    bounds = [_whole(request.get(name), MOST_TOKENS) for name in ("max_completion_tokens", "max_tokens")]
    return max(bounds), max(1, _whole(request.get("n"), MOST_CHOICES))
