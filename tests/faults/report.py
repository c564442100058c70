"""What the kills at points came to, as a table at the end of the tests."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.verdict import Evidence, Verdict

SEED_VARIABLE, USUAL_SEED = "FAULTS_SEED", 6
COLUMNS = ("point", "load", "hit", "killed at", "tasks", "lost", "calls again", "told again", "verdict")


@dataclass
class Row:
    """One run: at which hit of which point, and, when it has ended, how."""

    point: str
    load: str
    hit: int
    killed_at: str = "-"
    tasks: int = 0
    lost: int = 0
    repeated: int = 0
    told_again: int = 0
    verdict: str = "no end"

    def ended(self, verdict: Verdict, evidence: Evidence, armed_at: float) -> None:
        """What the judge says. `armed_at` is epoch seconds."""
        self.killed_at = f"{evidence.kills[-1] - armed_at:.2f} s" if evidence.kills else "-"
        self.tasks = len(evidence.wants)
        self.lost, self.repeated, self.told_again = verdict.lost, verdict.repeated, verdict.told_again
        self.verdict = "; ".join(verdict.faults)[:120] or "right"

    def cells(self) -> tuple[str, ...]:
        """Its columns as text."""
        numbers = map(str, (self.tasks, self.lost, self.repeated, self.told_again))
        return (self.point, self.load, str(self.hit), self.killed_at, *numbers, self.verdict)


KILL = "kill"
"""The property of a test that holds its row: it reaches the process that reports, whichever ran the test."""


def seed() -> int:
    """What the hits are drawn from."""
    return int(os.environ.get(SEED_VARIABLE, USUAL_SEED))


def table(rows: Sequence[Row]) -> list[str]:
    """The runs, one a line, and their sums."""
    cells = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    right = sum(row.verdict == "right" for row in rows)
    sums = f"{sum(row.tasks for row in rows)} tasks, {sum(row.lost for row in rows)} lost"
    again = f"{sum(row.repeated for row in rows)} calls under way made again"
    return [*lines, f"{len(rows)} kills, {right} right; {sums}; {again}"]
