"""What a run of the demo came to: the line of figures, and whether it is what it should be."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from callstream.cli.follow import Sent, Tally

COMPARED = ("category", "brand", "colour")


@dataclass(frozen=True)
class Figures:
    """Counts of tasks by how they ended; `lost` did not settle, `model_calls` were made by all of them."""

    tasks: int
    finished: int
    held: int
    rejected: int
    failed: int
    lost: int
    model_calls: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The members, in order."""
        return asdict(self)


def figures(tally: Tally, model_calls: int, seconds: float) -> Figures:
    """The figures of a run."""
    states = tally.states
    return Figures(
        tasks=len(tally.sent),
        finished=states["finished"],
        held=states["held"],
        rejected=states["rejected"],
        failed=states["failed"],
        lost=tally.lost,
        model_calls=model_calls,
        seconds=round(seconds, 1),
    )


def calls_in_rows(tally: Tally) -> int:
    """Model calls as the tasks' own steps tell them."""
    return sum(step.get("calls") or 0 for sent in tally.sent if sent.row for step in sent.row["steps"])


def is_good(tally: Tally) -> bool:
    """Whether every task ended as its line says; an empty run is not good."""
    return bool(tally.sent) and not tally.unexpected


def attributes(sent: Sent) -> Mapping[str, Any]:
    """What was recognised on the product, by name."""
    result = (sent.row or {}).get("result") or {}
    found = result.get("attributes")
    return found if isinstance(found, dict) else {}


def recognised(tally: Tally) -> tuple[int, int]:
    """How many attributes of finished tasks are as their lines say, of how many."""
    right = total = 0
    for sent in tally.sent:
        if sent.state == "finished":
            expected = {name: value for name, value in sent.order.line.expect.items() if name in COMPARED}
            total += len(expected)
            right += sum(attributes(sent).get(name) == value for name, value in expected.items())
    return right, total
