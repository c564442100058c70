"""Which services there are for some chains."""

from collections.abc import Sequence

from callstream.streams.chain import Chains
from callstream.streams.topics import INTAKE, NOTIFY, PAUSED, REVIEW, SCHEDULE, TIMER

GATEWAY = "gateway"


class UnknownService(ValueError):
    """No such service; the message says which there are."""


def services_of(chains: Chains) -> tuple[str, ...]:
    """Every service that these chains need, in the order of a task's way."""
    return tuple(dict.fromkeys((GATEWAY, INTAKE, *chains.services(), TIMER, REVIEW, NOTIFY, SCHEDULE, PAUSED)))


def check_services(chains: Chains, names: Sequence[str]) -> tuple[str, ...]:
    """Every service of these chains, those that were named among them. Raises UnknownService."""
    known = services_of(chains)
    if unknown := [name for name in names if name not in known]:
        raise UnknownService(f"no service is called {unknown[0]!r}; there are: {', '.join(known)}")
    return known
