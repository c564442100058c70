"""Errors as an OpenAI-compatible server words them. Pure."""

from callstream.stub.faults import FaultKind


class ApiError(Exception):
    """An answer other than 200: HTTP status, `error.type`, `error.code` and a message that says what to do."""

    def __init__(self, status: int, kind: str, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.headers: dict[str, str] = {}

    @property
    def body(self) -> dict[str, object]:
        """The JSON body."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.code}}


def bad_request(message: str) -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, "invalid_request_error", "invalid_request", message)


def limited(message: str, headers: dict[str, str]) -> ApiError:
    """429 with its Retry-After header."""
    error = ApiError(429, "rate_limit_error", "rate_limit_exceeded", message)
    error.headers = headers
    return error


def refused_by(fault: FaultKind) -> ApiError:
    """The answer to a call that is failed at the door; 429 is worded by `limited`."""
    if fault is FaultKind.CONTEXT:
        text = "This model's maximum context length is exceeded. Please reduce the length of the messages."
        return ApiError(400, "invalid_request_error", "context_length_exceeded", text)
    if fault is FaultKind.POLICY:
        text = "Your request was rejected as a result of our safety system."
        return ApiError(400, "invalid_request_error", "content_policy_violation", text)
    return ApiError(503, "server_error", "service_unavailable", "The server is overloaded or not ready yet.")
