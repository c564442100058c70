"""What an endpoint's HTTP answer means: a Reply or a CallFailed. Pure."""

import re
from dataclasses import dataclass
from typing import Any

from callstream.agents.inference.call import CHAT, Api, CallFailed, Reply
from callstream.agents.inference.data import embeddings_of, results_of
from callstream.agents.inference.failures import Kind, failed
from callstream.streams import strict_json
from callstream.streams.event import Json, Usage
from callstream.streams.strict_json import BadJson

MOST_TOKENS = 10_000_000
"""Above this a token count is taken for nonsense: no model's context is near it."""
MOST_MESSAGE = 300
USAGE = ("prompt_tokens", "completion_tokens")

CONTEXT_CODES = frozenset({"context_length_exceeded", "context_too_long", "string_above_max_length"})
POLICY_CODES = frozenset({"content_policy_violation", "content_filter", "moderation_blocked"})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

_CONTEXT_WORDS = re.compile(
    r"maximum context length|context length exceeded|context window|exceeds? the context|maximum model length"
    r"|prompt is too long|input is too long",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\ud7ff\uf900-\ufffd\U00010000-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest body and the longest text that are taken, in bytes."""

    response: int
    text: int


def reply_of(raw: bytes, model: str, endpoint: str, bounds: Bounds, api: Api = CHAT) -> Reply:
    """The Reply in the body of a 200, from `model` as it was asked for. Raises CallFailed."""
    try:
        body = strict_json.loads(raw, bounds.response)
    except BadJson as error:
        raise failed(Kind.BROKEN_REPLY, f"the answer is {error}") from None
    if not isinstance(body, dict):
        raise failed(Kind.BROKEN_REPLY, "the answer is not a JSON object")
    return reply_in(body, model, endpoint, bounds, api)


def reply_in(body: Json, model: str, endpoint: str, bounds: Bounds, api: Api = CHAT) -> Reply:
    """The Reply in what an endpoint answered. Raises CallFailed."""
    finish_reason = "stop"
    if api == CHAT:
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise failed(Kind.BROKEN_REPLY, "the answer has no choices")
        finish_reason = _name(choices[0].get("finish_reason")) or "stop"
        text = _text(choices[0].get("message"), finish_reason)
    else:
        text = embeddings_of(body) if api == "embeddings" else results_of(body)
    if (size := len(text.encode())) > bounds.text:
        raise failed(Kind.REPLY_TOO_LONG, f"the text has {size:,} bytes; at most {bounds.text:,} are kept")
    usage, notes = _usage(body.get("usage"), api)
    answered_as = body.get("model")
    if isinstance(answered_as, str) and answered_as and not _same_model(answered_as, model):
        notes += (f"asked for model {model!r}, answered as {_printable(answered_as, 100)!r}",)
    named = usage.model_copy(update={"model": model, "endpoint": endpoint, "calls": 1})
    return Reply(text, finish_reason, named, notes)


def failure_of(status: int, raw: bytes, after_seconds: float | None, secrets: tuple[str, ...]) -> CallFailed:
    """What an answer other than 200 means. Of its body only error code and message are used, without `secrets`."""
    code, message = _error(raw, secrets)
    text = f"HTTP {status}" + (f" ({code})" if code else "") + (f": {message}" if message else "")
    if code in QUOTA_CODES:
        return failed(Kind.REFUSED, text)
    if status == 429:
        return failed(Kind.OVERLOADED, text, after_seconds)
    if status == 408:
        return failed(Kind.TIMEOUT, text, after_seconds)
    if status == 409 or 500 <= status < 600:
        return failed(Kind.UNAVAILABLE, text, after_seconds)
    if 300 <= status < 400:
        return failed(Kind.REFUSED, f"{text}: redirects are not followed; set the base_url that it leads to")
    if 400 <= status < 500:
        if code in CONTEXT_CODES or _CONTEXT_WORDS.search(message):
            return failed(Kind.CONTEXT_TOO_LONG, text)
        return failed(Kind.REFUSED_BY_POLICY if code in POLICY_CODES else Kind.REFUSED, text)
    return failed(Kind.BROKEN_REPLY, f"{text}: not a status of a chat completion")


def failure_in(error: Any, secrets: tuple[str, ...], has_begun: bool) -> CallFailed:
    """What an error means that comes in a streamed answer: one that has begun may be paid."""
    kind = Kind.BROKEN_REPLY if has_begun else Kind.UNAVAILABLE
    code, message = _told({"error": error}, secrets)
    named = f" ({code})" if code else ""
    return failed(kind, f"the endpoint broke off its answer{named}" + (f": {message}" if message else ""))


def too_large(most: int) -> CallFailed:
    """Of an answer whose body, or with its events, has more than so many bytes."""
    return failed(Kind.BROKEN_REPLY, f"the answer is larger than {most:,} bytes")


def too_long(most: int) -> CallFailed:
    """Of an answer whose text has grown beyond so many bytes."""
    return failed(Kind.REPLY_TOO_LONG, f"the text has more than {most:,} bytes")


def _text(message: Any, finish_reason: str) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str) and content:
        return content
    if finish_reason == "content_filter" or (isinstance(message, dict) and message.get("refusal")):
        raise failed(Kind.REFUSED_BY_POLICY, "the endpoint's content filter left no text")
    if isinstance(content, str):
        return content
    raise failed(Kind.BROKEN_REPLY, "the answer's first choice has no text")


def _usage(given: Any, api: Api) -> tuple[Usage, tuple[str, ...]]:
    """What it took: unknown as a whole if a part is missing or absurd, so that limits keep what they reserved."""
    if api == "moderations" and given is None:
        return Usage(), ()
    if api != CHAT and isinstance(given, dict):
        given = {"completion_tokens": 0, **given}
    if not isinstance(given, dict):
        return Usage(), ("the endpoint reported no usage",)
    found: list[Any] = [given.get(name) for name in USAGE]
    notes = tuple(note for name, value in zip(USAGE, found, strict=True) if (note := _absurd(name, value)))
    if notes:
        return Usage(), notes
    return Usage(tokens_in=found[0], tokens_out=found[1], tokens_cached=_cached(given, found[0])), ()


def _cached(given: Json, tokens_in: int) -> int:
    """Of the prompt's tokens those that came from the endpoint's cache; none where that makes no sense."""
    details = given.get("prompt_tokens_details")
    cached: Any = details.get("cached_tokens") if isinstance(details, dict) else None
    return 0 if _absurd("cached_tokens", cached) or cached > tokens_in else int(cached)


def _absurd(name: str, value: Any) -> str:
    """What is wrong with a count of tokens; empty if nothing is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"the endpoint reported no {name}"
    if isinstance(value, float) or not 0 <= value <= MOST_TOKENS:
        return f"the endpoint reported {name} = {value}: the usage is not taken"
    return ""


def _same_model(answered: str, asked: str) -> bool:
    """Servers answer with a dated version, or leave out the vendor that a router's name begins with."""
    short = asked.rpartition("/")[2]
    return answered.startswith(asked) or answered.rpartition("/")[2].startswith(short)


def _error(raw: bytes, secrets: tuple[str, ...]) -> tuple[str, str]:
    """Code and message of an OpenAI error body, printable and bounded; empty where there are none."""
    try:
        return _told(strict_json.loads(raw, len(raw)), secrets)
    except BadJson:
        return "", ""


def _told(body: Any, secrets: tuple[str, ...]) -> tuple[str, str]:
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return "", ""
    message = error.get("message")
    text = message if isinstance(message, str) else ""
    for secret in secrets:
        text = text.replace(secret, "***")
    return _name(error.get("code")) or _name(error.get("type")), _printable(text, MOST_MESSAGE)


def _name(value: Any) -> str:
    return _printable(value, 64) if isinstance(value, str) else ""


def _printable(text: str, most: int) -> str:
    return _UNPRINTABLE.sub(" ", text[: most * 2]).strip()[:most]
