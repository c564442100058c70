"""A streamed chat completion: server-sent events, taken apart as their bytes come. Pure."""

from collections.abc import Iterator
from typing import Any

from callstream.agents.inference.answer import Bounds, failure_in, too_large, too_long
from callstream.agents.inference.call import Draft
from callstream.agents.inference.failures import Kind, failed
from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.strict_json import BadJson

EVENTS = "text/event-stream"
DONE = b"[DONE]"
BOM = b"\xef\xbb\xbf"
EVENT_TO_TEXT = 128
"""Bytes of events for each byte of the longest text: a token of 3 bytes comes in an event of 300."""


class Streamed:
    """One answer. Its text goes into `draft` piece by piece; the whole of it is there at the end."""

    def __init__(self, draft: Draft, bounds: Bounds, secrets: tuple[str, ...]) -> None:
        self._draft = draft
        self._bounds = bounds
        self._secrets = secrets
        self._taken = 0
        self._rest = bytearray()
        self._is_first = True
        self._data: list[bytes] = []
        self._event_bytes = 0
        self._text_bytes = len(draft.answer.encode())
        self._most = bounds.response + EVENT_TO_TEXT * bounds.text
        self._model: Any = None
        self._usage: Any = None
        self._finish_reason: Any = None
        self._has_text = False
        self._refused = False
        self._done = False

    def take(self, chunk: bytes) -> bool:
        """Whether the answer has come to its end. Raises CallFailed for what is no answer."""
        self._taken += len(chunk)
        if self._taken > self._most:
            raise too_large(self._most)
        for data in self._events(chunk):
            if data == DONE:
                self._done = True
                break
            self._piece(data)
        if self._event_bytes + len(self._rest) > self._bounds.response:
            raise failed(Kind.BROKEN_REPLY, f"a piece of the answer is larger than {self._bounds.response:,} bytes")
        return self._done

    def whole(self) -> Json:
        """The answer as an endpoint gives it that is not asked for pieces. Raises CallFailed if it broke off."""
        if self._finish_reason is None:
            came = len(self._draft.answer) - self._draft.begun
            raise failed(Kind.BROKEN_REPLY, f"the answer broke off after {came:,} characters")
        # One who has nothing to add has said all before; one who refuses has not.
        has_text = self._has_text or (self._draft.begun > 0 and not self._refused)
        message: Json = {"content": self._draft.answer if has_text else None}
        if self._refused:
            message["refusal"] = True
        choice = {"message": message, "finish_reason": self._finish_reason}
        return {"choices": [choice], "usage": self._usage, "model": self._model}

    def _events(self, chunk: bytes) -> Iterator[bytes]:
        """The data of each event that has become whole, as the HTML standard has it; no line ends with a mere CR."""
        looked = len(self._rest)
        self._rest += chunk
        end = self._rest.rfind(b"\n", looked)
        if end < 0:
            return
        lines = bytes(self._rest[:end]).split(b"\n")
        del self._rest[: end + 1]
        if self._is_first:
            lines[0], self._is_first = lines[0].removeprefix(BOM), False
        for line in (one.removesuffix(b"\r") for one in lines):
            if not line:
                data, self._data, self._event_bytes = b"\n".join(self._data), [], 0
                if data:
                    yield data
            elif line.startswith(b"data:"):
                self._event_bytes += len(line)
                self._data.append(line[5:].removeprefix(b" "))

    def _piece(self, data: bytes) -> None:
        try:
            piece = strict_json.loads(data, self._bounds.response)
        except BadJson as error:
            raise failed(Kind.BROKEN_REPLY, f"a piece of the answer is {error}") from None
        if not isinstance(piece, dict):
            raise failed(Kind.BROKEN_REPLY, "a piece of the answer is not a JSON object")
        if piece.get("error"):
            raise failure_in(piece["error"], self._secrets, self._has_text)
        self._model = piece.get("model") or self._model
        self._usage = piece.get("usage") or self._usage
        choices = piece.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict) or choice.get("index", 0) != 0:
            return
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        self._refused = self._refused or bool(delta.get("refusal"))
        if not isinstance(text := delta.get("content"), str):
            return
        self._has_text = True
        if text:
            self._text_bytes += len(text.encode())
            if self._text_bytes > self._bounds.text:
                raise too_long(self._bounds.text)
            self._draft.add(text)
