"""What can go wrong with the embedded broker; each message says what, where and what to do."""

from callstream.streams.foreseen import Foreseen


class BrokerError(Foreseen, RuntimeError):
    """Any failure of the embedded broker; `str()` is one paragraph fit for a terminal."""


class BrokerUnavailable(BrokerError):
    """What the broker is made of is missing: the `kafka` extra, or its jars without a network."""


class BrokerInUse(BrokerError):
    """Another live process holds the data folder.

    Attributes:
        pid: process id of the broker, or of the process starting it; None when it has not been written down yet.
        bootstrap: "host:port" of that broker, or None while it is not known.
    """

    def __init__(self, message: str, pid: int | None, bootstrap: str | None) -> None:
        super().__init__(message)
        self.pid = pid
        self.bootstrap = bootstrap


class BrokerFailed(BrokerError):
    """The broker's process ended or did not answer in time."""
