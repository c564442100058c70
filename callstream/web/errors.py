"""What the engine behind the web may answer instead of serving."""


class Unavailable(Exception):
    """The engine cannot serve this now; the message says why. Worth trying again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
