"""What is known about users: a global table, so that every worker that prepares tasks has all of it.

Its changelog is its source: whoever puts a profile there, keyed by tenant and user, has changed the table everywhere;
a tombstone erases it. The topic has the name that Faust gives it, because Faust's assignor knows no other and a global
table with a topic of its own never starts.
"""

import logging
from typing import Annotated, Any

from pydantic import StringConstraints

from callstream.streams import strict_json
from callstream.streams.disk import DiskUnusable
from callstream.streams.engine import ServiceApp
from callstream.streams.event import Json
from callstream.streams.keys import task_key
from callstream.streams.topics import PROFILES
from callstream.tables.durable import Readable, broken

log = logging.getLogger("callstream.profiles")

MAX_PROFILE_BYTES = 64 * 1024

User = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\p{C}\p{Z}]([^\p{C}]*[^\p{C}\p{Z}])?$")
]
"""Whom a profile is about, as its tenant calls them: printable, with no white space at the ends."""


def profile_key(tenant: str, user: str) -> bytes:
    """Key of a user's profile: made as a task's key is."""
    return task_key(tenant, user)


class Profiles(Readable):
    """Look-ups in the global table of one app."""

    def __init__(self, app: ServiceApp, options: dict[str, object]) -> None:
        self._table = app.GlobalTable(
            PROFILES,
            key_type=bytes,
            value_type=bytes,
            partitions=app.partitions,
            options=options,
            recovery_buffer_size=1,
            synchronize_all_active_partitions=True,
        )
        self._app = app
        self._partitions = app.partitions

    @property
    def data(self) -> Any:
        """The table's store, which its app makes when it starts."""
        return self._table.data

    def open_partitions(self) -> list[int]:
        """All of them, on every worker."""
        return list(range(self._partitions))

    def _failed(self, error: Exception) -> DiskUnusable:
        return broken(self._app, PROFILES, error)

    def get(self, tenant: str, user: str) -> Json | None:
        """A user's profile, or None; one that is no JSON object is logged and taken for none.

        Raises DiskUnusable.
        """
        try:
            raw = self._table.get(profile_key(tenant, user))
        except Exception as error:
            raise self._failed(error) from None
        if raw is None:
            return None
        try:
            profile = strict_json.loads(raw, MAX_PROFILE_BYTES)
        except strict_json.BadJson as error:
            log.warning("the profile of a user of %s is unreadable: %s", tenant, error)
            return None
        return profile if isinstance(profile, dict) else None
