"""`POST /v1/chat/completions`: the request checked, the answer written. Pure."""

import json
import re
from collections.abc import Iterator
from functools import partial

from callstream.stub import tokens
from callstream.stub.chance import digest
from callstream.stub.errors import bad_request
from callstream.stub.prompt import Message, directives, instructions, read_brief
from callstream.stub.reply import is_asked_for, write_reply
from callstream.stub.shaped import schema_of, shaped
from callstream.stub.translation import translate
from callstream.stub.work import Json, Work
from callstream.stub.writer import write_copy

ROLES = ("system", "developer", "user", "assistant", "tool")
MOST_MESSAGES = 1000
DEFAULT_MODEL = "stub-writer"
_PIECES = re.compile(r"\s*\S{1,12}")


def chat_work(body: Json, seed: int, created: int) -> Work:
    """The completion of a chat request; `created` is Unix time in seconds. Raises ApiError 400."""
    messages = _messages(body.get("messages"))
    model = _text(body, "model", DEFAULT_MODEL)
    begun = _begun(body, messages)
    messages = messages[:-1] if begun else messages
    user_text = "\n".join(message.text for message in messages if message.role == "user")
    said = directives(user_text)
    text, finish = _reply(messages, said, _most_tokens(body), (seed, schema_of(body.get("response_format"))))
    text = text.removeprefix(begun)
    prompt_tokens = tokens.count(begun) + tokens.count_prompt(
        [message.text for message in messages],
        len(messages),
        sum(message.images for message in messages),
        sum(message.small_images for message in messages),
    )
    completion_tokens = tokens.count(text)
    identity = digest(seed, model, *(part for m in messages for part in (m.role, m.text, m.images))).hex()[:24]
    answer: Json = {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": _usage(prompt_tokens, completion_tokens),
    }
    options = body.get("stream_options")
    return Work(
        identity=f"prompt-{identity}",
        model=model,
        answer=answer,
        tokens=prompt_tokens + completion_tokens,
        text=text,
        stream=_flag(body, "stream"),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        directives=said,
    )


def _begun(body: Json, messages: tuple[Message, ...]) -> str:
    """The answer that is to be gone on with, as vLLM has it; empty if a new one is asked for."""
    goes_on = _flag(body, "continue_final_message")
    return messages[-1].text if goes_on and len(messages) > 1 and messages[-1].role == "assistant" else ""


def chunks(work: Work, usage: bool) -> Iterator[Json]:
    """The answer as stream chunks: the role, the text in pieces, the end, and if asked for the usage."""
    head = {
        "id": work.answer["id"],
        "object": "chat.completion.chunk",
        "created": work.answer["created"],
        "model": work.model,
    }

    def chunk(delta: Json, finish: object = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    text = work.text or ""
    pieces = _PIECES.findall(text)
    for piece in pieces:
        yield chunk({"content": piece})
    rest = text[sum(map(len, pieces)) :]
    if rest:
        yield chunk({"content": rest})
    choices = work.answer["choices"]
    yield chunk({}, choices[0]["finish_reason"] if isinstance(choices, list) else "stop")
    if usage:
        yield {**head, "choices": [], "usage": work.answer["usage"]}


def _reply(
    messages: tuple[Message, ...], said: dict[str, str], most: int | None, how: tuple[int, Json | None]
) -> tuple[str, str]:
    seed, schema = how
    if "say" in said:
        text = said["say"]
    elif schema is not None:
        brief = read_brief(messages)
        put = partial(translate, language=brief.language, terms=brief.terms) if brief.translate else str
        text = json.dumps(shaped(schema, messages[-1].text, seed, put), ensure_ascii=False)
    else:
        brief = read_brief(messages)
        system = instructions(messages)
        if brief.translate:
            text = translate(brief.text, brief.language, brief.terms)
        else:
            text = write_reply(system, brief) if is_asked_for(system) else write_copy(brief, seed)
    if most is not None and tokens.count(text) > most:
        return tokens.cut(text, most), "length"
    return text, "stop"


def _usage(prompt_tokens: int, completion_tokens: int) -> Json:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def _messages(found: object) -> tuple[Message, ...]:
    if not isinstance(found, list) or not 0 < len(found) <= MOST_MESSAGES:
        raise bad_request(f"messages must be a list of 1 to {MOST_MESSAGES} messages")
    return tuple(_message(item, f"messages[{place}]") for place, item in enumerate(found))


def _message(item: object, where: str) -> Message:
    if not isinstance(item, dict) or item.get("role") not in ROLES:
        raise bad_request(f"{where} must be an object with a role out of {', '.join(ROLES)}")
    role, content = item["role"], item.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if content is None and role == "assistant":
        return Message(role, "")
    if not isinstance(content, list):
        raise bad_request(f"{where}.content must be a text or a list of parts")
    texts: list[str] = []
    images = {"low": 0, "high": 0}
    for place, part in enumerate(content):
        _part(part, f"{where}.content[{place}]", texts, images)
    return Message(role, "\n".join(texts), images["high"], images["low"])


def _part(part: object, where: str, texts: list[str], images: dict[str, int]) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text" and isinstance(part.get("text"), str):
        texts.append(part["text"])
        return
    image = part.get("image_url") if isinstance(part, dict) and kind == "image_url" else None
    if isinstance(image, dict) and isinstance(image.get("url"), str):
        if not image["url"].startswith(("data:image/", "http://", "https://")):
            raise bad_request(f"{where}.image_url.url must begin with data:image/, http:// or https://")
        images["low" if image.get("detail") == "low" else "high"] += 1
        return
    raise bad_request(f"{where} must be of type text with a text, or of type image_url with image_url.url")


def _text(body: Json, name: str, default: str) -> str:
    found = body.get(name, default)
    if not isinstance(found, str) or not 0 < len(found) <= 200:
        raise bad_request(f"{name} must be a text of 1 to 200 characters")
    return found


def _flag(body: Json, name: str) -> bool:
    found = body.get(name)
    if found is not None and not isinstance(found, bool):
        raise bad_request(f"{name} must be true or false")
    return found is True


def _most_tokens(body: Json) -> int | None:
    temperature = body.get("temperature")
    if temperature is not None and (
        isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2
    ):
        raise bad_request("temperature must be a number from 0 to 2")
    for name in ("max_completion_tokens", "max_tokens"):
        found = body.get(name)
        if found is not None:
            if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= 10_000_000:
                raise bad_request(f"{name} must be a whole number from 1 to 10000000")
            return found
    return None
