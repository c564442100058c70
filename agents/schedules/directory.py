"""Every schedule as the changelog of the table `schedules` tells it: what each gateway knows, without asking anyone."""

import logging

from callstream.agents.schedules.schedule import Schedule, read_row
from callstream.streams import strict_json
from callstream.streams.keys import split_key
from callstream.streams.strict_json import BadJson

log = logging.getLogger("callstream.schedule")

MOST_KEPT = 10_000
MOST_ROW_BYTES = 64 * 1024


class Directory:
    """Schedules by tenant and name, `most` at most. `ready` once all that the changelog holds has been heard."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._schedules: dict[str, dict[str, Schedule]] = {}
        self._overfull = False
        self.ready = False

    def __len__(self) -> int:
        return sum(map(len, self._schedules.values()))

    @property
    def full(self) -> bool:
        """Whether no more are kept."""
        return len(self) >= self._most

    def caught_up(self) -> None:
        """All that was there has been told."""
        self.ready = True

    def hear(self, key: str, value: bytes | None) -> None:
        """A row, or that it is gone (None)."""
        try:
            tenant, name = split_key(key.encode())
            row = None if value is None else strict_json.loads(value, MOST_ROW_BYTES, strict_json.MAX_DEPTH + 8)
        except (ValueError, BadJson) as error:
            log.warning("a schedule that nobody can read is left out: %s", error)
            return
        of_tenant = self._schedules.setdefault(tenant, {})
        schedule = read_row(row) if isinstance(row, dict) else None
        if schedule is None:
            of_tenant.pop(name, None)
            if row is not None:
                log.warning("schedule %s of %s is left out: this version cannot read its row", name, tenant)
        elif name in of_tenant or not self.full:
            of_tenant[name] = schedule
        elif not self._overfull:
            self._overfull = True
            log.warning("schedule %s of %s, and maybe others, are not shown: over %d", name, tenant, self._most)
        if not of_tenant:
            del self._schedules[tenant]

    def get(self, tenant: str, name: str) -> Schedule | None:
        """A schedule, or None."""
        return self._schedules.get(tenant, {}).get(name)

    def page(self, tenant: str, after: str | None, limit: int) -> list[Schedule]:
        """Schedules of a tenant in the order of their names, those after a name."""
        found = self._schedules.get(tenant, {})
        return [found[name] for name in sorted(found) if name > (after or "")][:limit]
