"""What an exception says may hold a secret; what is kept of it may not."""

from collections.abc import Iterable

from callstream.streams.logs import MASK, redact

SHORTEST_SECRET = 6
"""A shorter one is found in words that are none; no key that is one is that short."""


class Mask:
    """Masks what looks like a credential, and every secret it was told of."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these too, from now on; none is forgotten."""
        known = {*self._secrets, *(one for one in secrets if len(one) >= SHORTEST_SECRET)}
        # The longest first: one may be a part of another.
        self._secrets = tuple(sorted(known, key=lambda one: (-len(one), one)))

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return redact(text)
