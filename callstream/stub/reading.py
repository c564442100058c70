"""What comes in: the JSON body and who sends it. Pure."""

import json
from collections.abc import Mapping

from callstream.stub.errors import bad_request
from callstream.stub.witness import Caller
from callstream.stub.work import Json

MOST_ID_CHARS = 512
ANONYMOUS = "(none)"


def read_json(raw: bytes) -> Json:
    """The object in a request's body. Raises ApiError 400."""
    try:
        found = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not JSON that can be read: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise bad_request("the body must be a JSON object")
    return found


def read_caller(headers: Mapping[str, str], identity: str) -> Caller:
    """Who calls, by header.

    The call id is the `Idempotency-Key`. The task is `X-Callstream-Task`, else `X-Task`, else the key up to its first
    `/`, else `identity`. The tenant is `X-Callstream-Tenant`.
    """
    call_id = _header(headers, "Idempotency-Key")
    task = _header(headers, "X-Callstream-Task") or _header(headers, "X-Task")
    if task is None:
        task = call_id.partition("/")[0] if call_id else identity
    return Caller(task, _header(headers, "X-Callstream-Tenant") or ANONYMOUS, call_id)


def read_number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number from 0 to `most` out of a query string. Raises ApiError 400."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) > most:
        raise bad_request(f"{name} must be a whole number from 0 to {most}")
    return int(text)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return headers.get(name, "")[:MOST_ID_CHARS] or None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
