"""Counters for many keys in little memory: an int a key, the key only as its hash, the least recently used go. Pure.

With 64-bit hashes of a million keys, the chance that any two meet is below one in ten million.
"""

from collections import OrderedDict
from typing import NamedTuple

_BITS = 32
_MOST = (1 << _BITS) - 1


class Counts(NamedTuple):
    """What was counted for a key; each but the tokens stays below 4,294,967,296."""

    calls: int = 0
    answered: int = 0
    paid: int = 0
    refused: int = 0
    tokens: int = 0

    def plus(self, more: "Counts") -> "Counts":
        """The sum, count by count."""
        return _unpack(_pack(self) + _pack(more))


class Counters:
    """Counts by key for the `capacity` keys used last."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.forgotten = 0
        self._packed: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, key: str) -> Counts:
        """The counts of a key; all 0 if it was never seen or is forgotten."""
        return _unpack(self._packed.get(hash(key), 0))

    def add(self, key: str, more: Counts) -> Counts:
        """Add to a key; answers its new counts."""
        hashed = hash(key)
        packed = self._packed.pop(hashed, 0) + _pack(more)
        self._packed[hashed] = packed
        if len(self._packed) > self.capacity:
            self._packed.popitem(last=False)
            self.forgotten += 1
        return _unpack(packed)


def _pack(counts: Counts) -> int:
    calls, answered, paid, refused, tokens = counts
    return calls | answered << _BITS | paid << 2 * _BITS | refused << 3 * _BITS | tokens << 4 * _BITS


def _unpack(packed: int) -> Counts:
    return Counts(
        packed & _MOST,
        packed >> _BITS & _MOST,
        packed >> 2 * _BITS & _MOST,
        packed >> 3 * _BITS & _MOST,
        packed >> 4 * _BITS,
    )
