"""Counters for many keys in little memory: an int a key, the key only as its hash, the least recently used go. Pure.

With 64-bit hashes of a million keys, the chance that any two meet is below one in ten million.
"""

from collections import OrderedDict
from typing import NamedTuple

_COUNT_BITS = 20
_COUNT_MOST = (1 << _COUNT_BITS) - 1
_TOKEN_MOST = (1 << 44) - 1


class Counts(NamedTuple):
    """What was counted for a key; calls, answered, paid and refused stop at 1,048,575."""

    calls: int = 0
    answered: int = 0
    paid: int = 0
    refused: int = 0
    tokens: int = 0


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
        new = Counts(*map(sum, zip(_unpack(self._packed.pop(hashed, 0)), more, strict=True)))
        self._packed[hashed] = _pack(new)
        if len(self._packed) > self.capacity:
            self._packed.popitem(last=False)
            self.forgotten += 1
        return new


def _pack(counts: Counts) -> int:
    packed = min(counts.tokens, _TOKEN_MOST)
    for count in (counts.refused, counts.paid, counts.answered, counts.calls):
        packed = packed << _COUNT_BITS | min(count, _COUNT_MOST)
    return packed


def _unpack(packed: int) -> Counts:
    small = [packed >> (_COUNT_BITS * place) & _COUNT_MOST for place in range(4)]
    return Counts(small[0], small[1], small[2], small[3], packed >> (_COUNT_BITS * 4))
