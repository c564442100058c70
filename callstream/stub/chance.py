"""Seeded chance without state: the same question gets the same number, in any order and in any process. Pure."""

import hashlib


def digest(seed: int, *parts: str | int) -> bytes:
    """32 bytes that depend on the seed and on every part, and on where one part ends and the next begins."""
    joined = "\x1f".join([str(seed), *map(str, parts)])
    return hashlib.blake2b(joined.encode(errors="surrogatepass"), digest_size=32).digest()


def uniform(seed: int, *parts: str | int) -> float:
    """A number in the open interval (0, 1)."""
    return ((int.from_bytes(digest(seed, *parts)[:8], "big") >> 11) + 0.5) / 2**53


def pick(count: int, seed: int, *parts: str | int) -> int:
    """A whole number in range(count); count is at least 1."""
    return int(uniform(seed, *parts) * count)
