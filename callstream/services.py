"""Which services there are for some chains."""

from collections.abc import Iterable, Sequence

from callstream.streams.chain import Chains
from callstream.streams.foreseen import Foreseen
from callstream.streams.topics import INTAKE, NOTIFY, PAUSED, REVIEW, SCHEDULE, TIMER

GATEWAY = "gateway"


class UnknownBudget(Foreseen, ValueError):
    """A budget is for a chain that is not there; the message says which there are."""


class UnknownService(Foreseen, ValueError):
    """No such service; the message says which there are."""


def services_of(chains: Chains) -> tuple[str, ...]:
    """Every service that these chains need, in the order of a task's way."""
    return tuple(dict.fromkeys((GATEWAY, INTAKE, *chains.services(), TIMER, REVIEW, NOTIFY, SCHEDULE, PAUSED)))


def load_steps(chains: Chains, services: Sequence[str]) -> None:
    """Have every step that runs on these services read what takes long, before an event loop would stand still."""
    for service in dict.fromkeys(services):
        for step in chains.steps_of(service):
            step.load()


def check_services(chains: Chains, names: Sequence[str]) -> tuple[str, ...]:
    """Every service of these chains, those that were named among them. Raises UnknownService."""
    known = services_of(chains)
    if unknown := [name for name in names if name not in known]:
        raise UnknownService(f"no service is called {unknown[0]!r}; there are: {', '.join(known)}")
    return known


def check_budgets(named: Iterable[str], chains: Chains) -> None:
    """Compare the chains that have a budget with those that there are. Raises UnknownBudget."""
    known = sorted({chain.name for chain in chains})
    if unknown := [name for name in named if name not in known]:
        raise UnknownBudget(f"inference.budgets.chains names {unknown[0]!r}; there are: {', '.join(known)}")
