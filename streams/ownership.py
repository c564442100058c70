"""Whether this worker still owns what it works on.

A worker learns that it lost a partition only when its consumer tells it; a process that was stopped (SIGSTOP, a
suspended machine, a loop that was blocked) learns it late. So ownership has two parts: an epoch, which every
revocation ends, and a lease, which lasts only while the event loop has run recently.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from callstream.streams.watchdog import stood_still


class LostOwnership(Exception):
    """The partition belongs to another worker by now: stop, write nothing, acknowledge nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition number as it was owned in one epoch."""

    partition: int
    epoch: int


class Ownership:
    """The partitions of one service's group that this worker owns, from a monotonic clock in seconds.

    `lease_seconds` is how long the loop may stand still before the worker must take its partitions for lost; it is
    below the group's session time-out, after which the broker gives them to another.
    """

    def __init__(self, lease_seconds: float, monotonic: Callable[[], float]) -> None:
        self._lease = lease_seconds
        self._monotonic = monotonic
        self._beat = monotonic()
        self._owned: frozenset[int] = frozenset()
        self.epoch = 0

    @property
    def owned(self) -> frozenset[int]:
        """Partition numbers owned now."""
        return self._owned

    def assign(self, partitions: Iterable[int]) -> None:
        """The group gave these partitions to this worker."""
        self._owned = frozenset(partitions)
        self._beat = self._monotonic()

    def revoke(self) -> None:
        """The group takes all partitions back; what was claimed before is void for good."""
        self._owned = frozenset()
        self.epoch += 1

    def beat(self) -> float:
        """The loop runs. Gives for how long it stood still; a broken lease is not renewed.

        While nothing is owned, as when a worker loads what it needs, there is no lease to break.
        """
        gap = self._monotonic() - self._beat
        if not self._owned:
            self._beat += gap
            return 0.0
        if gap <= self._lease:
            self._beat += gap
        return gap

    def claim(self, partition: int) -> Claim:
        """Remember that work began while this partition was ours."""
        return Claim(partition, self.epoch)

    def require(self, claim: Claim) -> None:
        """Raises LostOwnership unless the claim still stands."""
        if claim.epoch != self.epoch or claim.partition not in self._owned:
            raise LostOwnership(f"partition {claim.partition} was revoked")
        gap = self._monotonic() - self._beat
        if gap > self._lease:
            raise LostOwnership(f"partition {claim.partition}: {stood_still(gap)}")
