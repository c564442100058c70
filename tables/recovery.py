"""How tables come back: Faust's recovery, with copies that are looked at before they are gone on with.

Faust goes on with any database that it finds, logs what goes wrong while it reads and goes on, and takes changes one at
a time. Here a copy that does not belong to the changelog is thrown away and read back, a change that cannot be kept
ends the worker, and what has come is taken together.
"""

import asyncio
import logging
import shutil
import time
from collections import Counter
from itertools import repeat
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, EventT
from mode import Service

from callstream.streams.engine import ServiceApp
from callstream.tables.copies import STAMP_KEY, Changelog, distrust, read_copy, stamp
from callstream.tables.durable import broken

log = logging.getLogger("callstream.tables")

STAMP_SECONDS = 60.0
QUIET_SECONDS = 2.0
"""With nothing read for so long, what is missing may not be there: a changelog's last records can be compacted away."""
TAKEN_AT_ONCE = 500


class CarefulRecovery(Recovery):
    """Reads the tables of one app back."""

    app: ServiceApp

    def _set_recovery_started(self) -> None:
        """Wait for an end from now on: what was told of an earlier recovery is no end of this one."""
        self.signal_recovery_end.clear()
        super()._set_recovery_started()

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str) -> None:
        """Throw away the copies that do not belong to their changelog, then see where reading begins."""
        kept = {tp for tp in tps if destination[tp] is not None}
        if kept:
            cluster = await self.app.outlet.cluster.id()
            first, end = await consumer.earliest_offsets(*kept), await consumer.highwaters(*kept)
            for tp in sorted(kept):
                if self._thrown_away(tp, Changelog(cluster, first[tp] or 0, end[tp] or 0)):
                    destination[tp] = cast(int, None)
        await super()._build_offsets(consumer, tps, destination, title)

    def _thrown_away(self, tp: TP, changelog: Changelog) -> bool:
        """Whether the copy was no good and is gone."""
        store = cast(Any, self.tp_to_table[tp]).data
        database = store._db_for_partition(tp.partition)
        copy = read_copy(store.persisted_offset(tp), database.get(STAMP_KEY))
        why = distrust(copy, changelog, time.time()) if copy is not None else None
        if why is None:
            return False
        folder = store.partition_path(tp.partition)
        log.warning("%s is thrown away and read back from %s/%d: %s", folder, tp.topic, tp.partition, why)
        del store._dbs[tp.partition]
        database.close()
        shutil.rmtree(folder)
        return True

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """What was read is all that there is: say so in each copy."""
        cluster = await self.app.outlet.cluster.id()
        self.set_stamps(cluster)
        await super().on_recovery_completed(generation_id)

    def set_stamps(self, cluster: str) -> None:
        """Say in each copy that it has all of its changelog, of this cluster, now."""
        for tp in self.active_tps:
            table = cast(Any, self.tp_to_table[tp])
            try:
                table.data._db_for_partition(tp.partition).put(STAMP_KEY, stamp(cluster, time.time()))
            except Exception as error:
                broken(self.app, table.name, error)

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Take what comes of the changelogs until the app stops: in a recovery, and behind it of global tables."""
        queue = self.tables.changelog_queue
        while not self.should_stop:
            try:
                event = await asyncio.wait_for(queue.get(), QUIET_SECONDS)
            except TimeoutError:
                await self._pass_gaps()
            else:
                began, taken = time.monotonic(), 1
                self._take(event)
                while taken < TAKEN_AT_ONCE and not queue.empty():
                    self._take(queue.get_nowait())
                    taken += 1
                self._count(taken, time.monotonic() - began)
            self._look_for_the_end()

    def _take(self, event: EventT[Any]) -> None:
        tp, offset = event.message.tp, event.message.offset
        is_active = tp in self.active_tps
        if not is_active and tp not in self.standby_tps:
            return
        table = self.tp_to_table[tp]
        offsets = self.active_offsets if is_active else self.standby_offsets
        seen = offsets.get(tp)
        if seen is not None and offset <= seen:
            return
        offsets[tp] = offset
        buffer = self.buffers[table]
        buffer.append(event)
        if len(buffer) >= (table.recovery_buffer_size if is_active else table.standby_buffer_size):
            self._apply(table)
        received = self._active_events_received_at if is_active else self._standby_events_received_at
        cast(dict[TP, float], received)[tp] = time.monotonic()

    def _apply(self, table: Any) -> None:
        try:
            table.apply_changelog_batch(self.buffers[table])
        except Exception as error:
            broken(self.app, table.name, error)
        # Also what could not be kept: the copy does not say that it has it, and the worker ends.
        self.buffers[table].clear()
        self._last_flush_at = time.monotonic()

    def flush_buffers(self) -> None:
        """Apply what has been read and waits for more."""
        for table in list(self.buffers):
            self._apply(table)

    def _count(self, taken: int, seconds: float) -> None:
        """What the estimate of the time that is left is made from."""
        self._last_active_event_processed_at = time.monotonic()
        self._processing_times.extend(repeat(seconds / taken, taken))
        while len(self._processing_times) > self.num_samples_required_for_estimate:
            self._processing_times.popleft()

    async def _pass_gaps(self) -> None:
        """Count as read what the consumer has passed without a record in it."""
        if not self.in_recovery:
            return
        for tp, highwater in list(self.active_highwaters.items()):
            if (self.active_offsets.get(tp) or 0) < highwater and tp in self.app.consumer.assignment():
                position = await self.app.consumer.position(tp)
                if position is not None and position > highwater:
                    self.active_offsets[tp] = highwater

    def _look_for_the_end(self) -> None:
        if self.in_recovery and self.app.failure is None and not self.need_recovery():
            self.flush_buffers()
            self._set_recovery_ended()
            self.signal_recovery_end.set()
        if not self.tables.standbys_ready and not self.standby_remaining_total():
            self.tables.on_standbys_ready()


class Tables(TableManager):
    """The tables of one app, and their recovery."""

    app: ServiceApp

    @property
    def recovery(self) -> Recovery:
        """What reads them back."""
        if self._recovery is None:
            self._recovery = CarefulRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Open the databases of what was assigned. Raises DiskUnusable."""
        try:
            await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        except Exception as error:
            if type(error) is not Exception:
                raise
            # That is how RocksDB's own errors come.
            raise broken(self.app, f"of {self.app.service_name}", error) from None

    @Service.task
    async def _stamp(self) -> None:
        async for _ in self.itertimer(STAMP_SECONDS, name="tables.stamp"):
            if self.app.rebalancing or self.app.in_recovery:
                continue
            cluster = await self.app.outlet.cluster.id()
            if not (self.app.rebalancing or self.app.in_recovery):
                cast(CarefulRecovery, self.recovery).set_stamps(cluster)
