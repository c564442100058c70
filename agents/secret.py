"""Keys and secret headers from settings: read, and checked without ever being shown."""

import errno
import re
from pathlib import Path

from pydantic import SecretStr

from callstream.streams.foreseen import Foreseen

MOST_KEY_BYTES = 8192
MOST_HEADER_CHARS = 4096
BAD_IN_HEADER = re.compile(r"[^\x20-\x7e]")
BAD_IN_KEY = re.compile(r"[^\x21-\x7e]")


class UnusableSecret(Foreseen, ValueError):
    """A key or secret header that cannot be read or sent; the message says where it is set and never what it is.

    `place` is where, from the endpoint's settings on.
    """

    def __init__(self, message: str, *place: str) -> None:
        super().__init__(message)
        self.place = place


def key_of(who: str, key: SecretStr | None, file: Path | None) -> str:
    """The key that a setting or its file gives, in the clear; empty if none is set. `who` is named in errors.

    Raises UnusableSecret.
    """
    if file is not None:
        found, place = _key_in(who, file), "api_key_file"
        where = f"the key in api_key_file {file}"
    elif key is not None:
        found, place = key.get_secret_value().strip(), "api_key"
        where = "api_key"
    else:
        return ""
    if wrong := unfit(found, BAD_IN_KEY) if found else "is empty: set it to the key, or leave it unset":
        raise UnusableSecret(f"{who}: {where} {wrong}", place)
    return found


def _key_in(who: str, path: Path) -> str:
    where = f"{who}: api_key_file {path}"
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for without end.
            raise OSError(errno.EINVAL, "it is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MOST_KEY_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnusableSecret(
            f"{where} cannot be read: {reason}; name a file that the worker may read", "api_key_file"
        ) from None
    if key := raw.decode("utf-8", "replace").strip():
        return key
    raise UnusableSecret(f"{where} is empty: it must hold the key and nothing else", "api_key_file")


def unfit(secret: str, bad: re.Pattern[str]) -> str:
    """Why a header cannot hold a secret that has none of what is `bad`, without a part of it; empty if it can."""
    found = bad.search(secret)
    if secret[:7].lower() == "bearer " and bad is BAD_IN_KEY:
        wrong = "begins with Bearer: give the key alone"
    elif found is not None:
        named = {"\n": "a line break", "\r": "a line break", " ": "a space"}
        what = named.get(found[0], "a character that no header can carry")
        wrong = f"has {what} at character {found.start() + 1}: copy it anew"
    elif len(secret) > MOST_HEADER_CHARS:
        wrong = f"has {len(secret):,}"
    else:
        return ""
    return f"must be printable ASCII, at most {MOST_HEADER_CHARS:,} characters, and {wrong}"
