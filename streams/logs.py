"""Structured logs: one line an event, with the task and the trace it belongs to, bounded and without secrets.

`bind` names what the code below it works on; every line logged inside carries those fields. `dict_config` is the
whole set-up as `logging.config` takes it (and Faust's `logging_config`); `setup` applies it.
"""

import json
import logging
import logging.config
import re
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field

from callstream.streams.within import Within

Level = Literal["debug", "info", "warning", "error"]
Scalar = str | int | float | bool | None

MESSAGE_CHARS = 2000
FIELD_CHARS = 300
FIELDS = 32
MASK = "***"

QUIET: Mapping[str, int] = {
    # One line for each topic, partition or request: noise at any rate worth running.
    "aiohttp.access": logging.WARNING,
    "aiokafka.cluster": logging.WARNING,
    "aiokafka.consumer": logging.WARNING,
    "aiokafka.producer": logging.WARNING,
    "aiokafka.conn": logging.ERROR,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    # Our subclasses of Faust's services log as what they are: every start and stop of every part.
    "callstream.streams.engine": logging.WARNING,
    "callstream.streams.monitor": logging.WARNING,
    "callstream.streams.transport": logging.WARNING,
    "callstream.tables.durable": logging.WARNING,
    "callstream.tables.recovery": logging.WARNING,
    "jaeger_tracing": logging.ERROR,
    "jieba": logging.WARNING,
    "PIL": logging.WARNING,
    "RapidOCR": logging.WARNING,
    "asyncio": logging.INFO,
}

RECONNECTING = frozenset(
    {
        'Unable connect to "%s:%s": %s',
        "Unable connect to node with id %s: %s",
        "Unable to update metadata from %s",
        "Error sending %s to node %s [%s] -- marking coordinator dead",
        "Group Coordinator Request failed: %s",
        "Heartbeat session expired - marking coordinator dead",
        "Heartbeat send request failed: %s. Will retry.",
        "LeaveGroup request failed: %s",
        "OffsetCommit failed before join, ignoring: %s",
        "OffsetCommit failed for group %s due to group error (%s), will rejoin",
        "Failed to commit on finallization: %s",
        "Failed fetch messages from %s: %s",
        "Failed fetch offsets from %s: %s",
    }
)
"""What aiokafka logs as errors of its own while a broker is away or comes back, and then tries again."""

_SECRETS = re.compile(
    r"""(?ix)
    ( \bauthorization['"]?\s*[:=]\s*['"]?(?:(?:bearer|basic)\s+)?
    | \bbearer\s+
    | (?<![\w-])[\w-]{0,40}?(?:(?:api|access|private)[-_]?key|password|passwd|secret|token)['"]?\s*[:=]\s*['"]?
    ) [^\s'",;&@]{3,}
    | (://[^/\s:@]{0,80}:) [^/\s]{1,200}(?=@)
    | (\b(?:set-)?cookie['"]?\s*[:=]\s*['"]?) [^\r\n'"]{3,2000}
    | \b(sk-|whsec_|gh[oprsu]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|AIza) [A-Za-z0-9_-]{8,}
    | \b(eyJ) [\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?
    | (-----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----) (?:(?!-----END)[\s\S]){1,8000}
    """
)
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogOptions(BaseModel):
    """How much is logged and how a line looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Level = Field(default="info", description="lowest level logged: debug, info, warning or error")
    format: Literal["json", "console"] = Field(default="console", description="json: one object a line; console: text")
    line_bytes: int = Field(default=8192, ge=1024, le=1024**2, description="longest line; what is longer is cut")
    repeat_seconds: float = Field(default=10, ge=0, le=3600, description="time in which the same line counts as repeat")
    repeats: int = Field(default=5, ge=1, le=1000, description="how often the same line appears in that time")


_bound: ContextVar[Mapping[str, Scalar]] = ContextVar("callstream_log_fields", default=MappingProxyType({}))


def bind(**fields: Scalar) -> Within[Mapping[str, Scalar]]:
    """Adds fields to every line logged inside the `with`, in this task and those started from it."""
    return Within(_bound, {**_bound.get(), **fields})


def bound() -> Mapping[str, Scalar]:
    """The fields in force here."""
    return _bound.get()


def redact(text: str) -> str:
    """The text with what looks like a credential masked. A net under the rule that none is logged."""
    return _SECRETS.sub(lambda match: f"{match[match.lastindex or 0]}{MASK}", text)


def dict_config(options: LogOptions, stream: TextIO | None = None) -> dict[str, Any]:
    """The set-up in the words of `logging.config.dictConfig`; `stream` is standard error if not given."""
    level = getattr(logging, options.level.upper())
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": JsonLine if options.format == "json" else ConsoleLine, "limit": options.line_bytes}
        },
        "filters": {
            "reconnects": {"()": Reconnects, "level": level},
            "repeats": {"()": Repeats, "seconds": options.repeat_seconds, "most": options.repeats},
        },
        "handlers": {
            "line": {
                "class": "logging.StreamHandler",
                "stream": stream or sys.stderr,
                "formatter": "line",
                "filters": ["reconnects", "repeats"],
            }
        },
        "loggers": {name: {"level": max(level, quiet)} for name, quiet in QUIET.items()},
        "root": {"level": level, "handlers": ["line"]},
    }


def setup(options: LogOptions, stream: TextIO | None = None) -> None:
    """Route every logger of this process to one handler, and quieten the talkative ones."""
    logging.config.dictConfig(dict_config(options, stream))
    logging.captureWarnings(True)


class Reconnects(logging.Filter):
    """Makes warnings of aiokafka's errors that its next try settles; what ends a worker is told by the worker."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line appears."""
        if record.levelno == logging.ERROR and _reconnects(record):
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return record.levelno >= self._level


class Repeats(logging.Filter):
    """Lets the same line of the same task through `most` times in `seconds`; the next says how many were cut.

    Lines about a lost connection count as the same whichever node or group they name: each service has its own.
    """

    REMEMBERED = 1024

    def __init__(self, seconds: float, most: int) -> None:
        super().__init__()
        self._seconds = seconds
        self._most = most
        self._seen: OrderedDict[tuple[object, ...], list[float]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line appears."""
        if self._seconds <= 0:
            return True
        now = time.monotonic()
        said = str(record.msg) if _reconnects(record) else _message(record)[:200]
        key = (record.name, record.levelno, said, _bound.get().get("task"))
        since, count = self._seen.pop(key, (now, 0))
        suppressed = 0
        if now - since >= self._seconds:
            suppressed, since, count = max(0, int(count) - self._most), now, 0
        self._seen[key] = [since, count + 1]
        if len(self._seen) > self.REMEMBERED:
            self._seen.popitem(last=False)
        if suppressed:
            record.suppressed = suppressed
        return count < self._most


class JsonLine(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, the bound fields, those of `extra`, exception."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def format(self, record: logging.LogRecord) -> str:
        """One line of at most `limit` bytes."""
        message = _cut(redact(_message(record)), min(MESSAGE_CHARS, self._limit // 4))
        line: dict[str, Scalar] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name[:100],
            "message": message,
        }
        line.update(_fields(record))
        text = _json(line)
        if len(text.encode("utf-8", "replace")) > self._limit:
            kept = {name: line[name] for name in ("time", "level", "logger")}
            text = _json({**kept, "message": message[: self._limit // 8], "cut": True})
        elif exception := _exception(record):
            # The end of a traceback says most; each character may take four bytes or six when escaped.
            room = (self._limit - len(text.encode("utf-8", "replace")) - 40) // 6
            if room > 0:
                text = _json({**line, "exception": exception[-room:]})
        return text


class ConsoleLine(logging.Formatter):
    """A record for people: time, level, logger, message, then `name=value` for each field."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several for an exception; at most `limit` bytes of text."""
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        message = _cut(redact(_message(record)), MESSAGE_CHARS).replace("\r", "\\r").replace("\n", "\n    ")
        fields = "".join(f" {name}={_text(value)}" for name, value in _fields(record).items())
        line = f"{moment} {record.levelname:<7} {record.name}: {message}{fields}"
        if exception := _exception(record):
            line += "\n" + exception[-self._limit // 2 :]
        return line.encode("utf-8", "backslashreplace")[: self._limit].decode("utf-8", "ignore")


def _reconnects(record: logging.LogRecord) -> bool:
    return record.name.startswith("aiokafka") and record.msg in RECONNECTING


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a wrong format string or a __str__ that raises must not end the caller
        return f"{record.msg!s:.200} (arguments do not fit: {type(error).__name__})"


def _fields(record: logging.LogRecord) -> dict[str, Scalar]:
    """The bound fields and those given as `extra`, bounded in number and length."""
    given = {**_bound.get(), **{name: value for name, value in vars(record).items() if name not in _PLAIN}}
    return {name: _scalar(value) for name, value in list(given.items())[:FIELDS] if value is not None}


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool | int | float):
        return value if abs(value) < 1e300 else str(value)[:FIELD_CHARS]
    try:
        return _cut(redact(str(value)), FIELD_CHARS)
    except Exception as error:  # a foreign __str__ may raise anything
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _text(value: Scalar) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c in '"=' for c in text) else text


def _exception(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[1] is not None:
        lines = traceback.format_exception(record.exc_info[1], limit=-20)
        return redact("".join(lines)[-20_000:].rstrip())
    return ""


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _json(line: Mapping[str, Scalar]) -> str:
    text = json.dumps(line, ensure_ascii=False, default=str, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
