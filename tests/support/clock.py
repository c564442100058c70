"""A clock for tests."""


class Clock:
    """Seconds that a test moves by hand."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
