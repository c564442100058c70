"""Errors as RFC 9457 problem details, whoever raised them: a handler, aiohttp itself, the engine, or a bug."""

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TypeVar
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError

from callstream.streams import strict_json
from callstream.streams.event import Json
from callstream.streams.findings import MOST_FINDINGS, findings_of
from callstream.streams.wire import EventTooLarge
from callstream.web.port import Unavailable

Model = TypeVar("Model", bound=BaseModel)

CONTENT_TYPE = "application/problem+json"
_MOST_ERRORS = 20
_MOST_NAMED = 5
_LOG = logging.getLogger(__name__)


class Problem(Exception):
    """An answer that is an error. `kind` names it for programs, `detail` tells people what to do.

    `errors` has one entry a place: `pointer` (RFC 6901, as a URI fragment) and `detail`.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Iterable[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = [dict(entry) for entry in errors]
        self.headers = dict(headers or {})

    def document(self, instance: str) -> Json:
        """The members of the problem; `instance` is the path that was asked for."""
        document: Json = {
            "type": f"urn:callstream:problem:{self.kind}" if self.kind else "about:blank",
            "title": self.kind.replace("-", " ").capitalize() or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance[:300],
        }
        return document | ({"errors": self.errors} if self.errors else {})


def validated(model: type[Model], document: object) -> Model:
    """A document as its model has it. Raises Problem 422."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(error, document) from None


def invalid(error: ValidationError, document: object, at: str = "") -> Problem:
    """422 naming each place of a document that does not fit; `at` is the pointer of that document in what was sent."""
    if error.error_count() > MOST_FINDINGS:
        return Problem(422, "invalid-input", f"{error.error_count():,} places do not fit")
    findings = findings_of(error, document)
    errors = [{"pointer": "#" + at + _pointer(one.path), "detail": one.detail} for one in findings[:_MOST_ERRORS]]
    if len(errors) == 1:
        return unacceptable(**errors[0])
    places = ", ".join(entry["pointer"] for entry in errors[:_MOST_NAMED])
    first = f", the first {_MOST_NAMED}" if len(findings) > _MOST_NAMED else ""
    return Problem(422, "invalid-input", f"{len(findings)} places do not fit{first}: {places}"[:500], errors)


def unacceptable(pointer: str, detail: str) -> Problem:
    """422 naming one place."""
    return Problem(422, "invalid-input", f"{pointer}: {detail}", [{"pointer": pointer, "detail": detail}])


def answer(request: web.BaseRequest, problem: Problem) -> web.Response:
    """The problem as a response."""
    return web.Response(
        status=problem.status,
        body=strict_json.dumps(problem.document(printable(request.path))),
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


def as_problem(error: Exception) -> Problem:
    """The problem that an exception means; of one that nobody expected only a reference is told."""
    match error:
        case Problem():
            return error
        case Unavailable():
            wait = {"Retry-After": str(max(1, round(error.retry_after_seconds)))}
            return Problem(503, "unavailable", str(error) or "not available right now", headers=wait)
        case EventTooLarge():
            return Problem(413, "too-large", f"{error}; hand large parts to POST /v1/blobs and send their references")
        case web.HTTPException():
            kept = {name: value for name, value in error.headers.items() if name in ("Allow", "Retry-After")}
            return Problem(error.status, "", _explain(error), headers=kept)
        case _:
            reference = uuid4().hex[:12]
            _LOG.error("request failed, reference %s", reference, exc_info=error)
            return Problem(500, "", f"the gateway failed; its log tells why under reference {reference}")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of an answer that has not begun into a problem."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return answer(request, as_problem(error))
    except Exception as error:
        return answer(request, as_problem(error))


def printable(text: str) -> str:
    """Text from outside as it may stand in an answer: what cannot be printed or encoded is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _explain(error: web.HTTPException) -> str:
    match error:
        case web.HTTPMethodNotAllowed():
            return f"{error.method[:20]} is not possible here; possible: {', '.join(sorted(error.allowed_methods))}"
        case web.HTTPNotFound():
            return "nothing is at this path; GET / lists what is"
        case _:
            return error.text or error.reason


def _pointer(location: Iterable[int | str]) -> str:
    return "".join("/" + printable(str(part))[:80].replace("~", "~0").replace("/", "~1") for part in location)
