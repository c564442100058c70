"""The process that judges: the gateway that owns partition 0, for as long as it does.

It reads the log of incidents and the dead letters of the latest windows to their ends, then looks once a second. What
is to be told is sent under the claim; whoever has lost the partition sends nothing. A send of which it is not known
whether the log has it ends this turn, and the next one begins by reading the log.

What has held for a part of `for_seconds` begins anew with each turn, and so does quiet: an alarm may ring, or end, so
much later than it would have, never twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from callstream.agents.alarms.incident import read_incident, record_of
from callstream.agents.alarms.judge import Judge, Level
from callstream.agents.alarms.options import AlarmOptions, Kind
from callstream.agents.alarms.sightings import breakers, budgets, of_letter, of_refusals, waiting
from callstream.agents.inference.admission.report import SILENT_SECONDS, Reports
from callstream.streams import strict_json
from callstream.streams.broadcast import Heard
from callstream.streams.chain import Chains
from callstream.streams.lag import Lag, LagUnknown
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.strict_json import BadJson
from callstream.streams.topics import ALARMS, DEAD, POOLS, topic_of
from callstream.streams.wire import MAX_RECORD_BYTES, BadEvent, LogUnavailable, Record
from callstream.tables.rows import Rows

log = logging.getLogger("callstream.alarms")

PARTITION = 0
LOOK_SECONDS = 1.0
LAG_SECONDS = 10.0
IDLE_SECONDS = 0.5
AGAIN_SECONDS = 5.0
WARM_SECONDS = 3.0
"""As long a process lets pass before it judges, so that each replica has told of itself."""

Hear = Callable[[Mapping[str, float], Callable[[Heard], None], asyncio.Event], Awaitable[None]]
"""Reads topics from moments on, for ever; `callstream.streams.broadcast.hear_since` on Kafka."""
Send = Callable[[Record, Claim], Awaitable[None]]
"""Puts a record on the log under a claim. Raises LostOwnership, LogUnavailable."""
LookAtLag = Callable[[], Awaitable[list[Lag]]]
"""Raises LagUnknown."""


class Leader:
    """Judges while `rows` says that partition 0 is held here. `clock` gives epoch seconds."""

    def __init__(self, options: AlarmOptions, chains: Chains, rows: Rows, clock: Callable[[], float]) -> None:
        self._options = options
        self._chains = chains
        self._rows = rows
        self._clock = clock
        self._kinds = {rule.kind for rule in options.in_force}

    async def run(self, hear: Hear, send: Send, lag: LookAtLag) -> None:
        """Judge whenever it is this process's turn, until cancelled."""
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            if PARTITION not in self._rows.open_partitions():
                continue
            turn = Turn(self._options, self._chains, self._clock)
            following = [asyncio.ensure_future(hear(turn.since(), turn.hear, turn.caught_up))]
            if Kind.LAG in self._kinds:
                following.append(asyncio.ensure_future(turn.follow_lag(lag)))
            try:
                await self._judge(turn, following, send)
            except LostOwnership:
                log.info("another gateway judges alarms from now on")
            except LogUnavailable as error:
                log.warning("it is not known whether an alarm is on the log, which is read again: %s", error)
            except Exception:
                log.exception("alarms are not judged for a moment")
                await asyncio.sleep(AGAIN_SECONDS)
            finally:
                for one in following:
                    one.cancel()
                await asyncio.wait(following)

    async def _judge(self, turn: "Turn", following: Sequence[asyncio.Future[None]], send: Send) -> None:
        """Raises LostOwnership when the turn is over, LogUnavailable, and what whoever is followed raised."""
        claim = self._rows.claim(PARTITION)
        await asyncio.sleep(WARM_SECONDS)
        while True:
            for ended in [one for one in following if one.done()]:
                ended.result()
            if self._rows.claim(PARTITION) != claim or PARTITION not in self._rows.open_partitions():
                raise LostOwnership("partition 0 was revoked")
            if turn.caught_up.is_set():
                await turn.look(claim, send)
            await asyncio.sleep(LOOK_SECONDS)


class Turn:
    """What one process has seen since it began to judge."""

    def __init__(self, options: AlarmOptions, chains: Chains, clock: Callable[[], float]) -> None:
        self._chains = chains
        self._clock = clock
        self._began = clock()
        self._window = max((rule.window_seconds for rule in options.in_force), default=0.0)
        self._kinds = {rule.kind for rule in options.in_force}
        self._reports = Reports()
        self._lag: list[Lag] | None = None
        self._was_full = False
        self.judge = Judge(options.in_force, options.most_open, self._began)
        self.caught_up = asyncio.Event()

    def since(self) -> dict[str, float]:
        """Which topics the rules need, each since when."""
        topics = {topic_of(ALARMS): 0.0}
        if self._kinds & {Kind.DEAD_LETTERS, Kind.LATE}:
            topics[topic_of(DEAD)] = self._began - self._window
        if self._kinds & {Kind.BREAKER, Kind.BUDGET, Kind.LAG, Kind.SPENDING}:
            topics[topic_of(POOLS)] = self._began - SILENT_SECONDS
        return topics

    def hear(self, heard: Heard) -> None:
        """Take one record in. What says nothing is left out."""
        now = self._clock()
        if heard.topic == topic_of(DEAD):
            for sighting in of_letter(heard.value, heard.headers, heard.at, self._chains):
                self.judge.saw(sighting, now)
        elif heard.topic == topic_of(POOLS):
            self._hear_pools(heard, now)
        else:
            try:
                self.judge.heard(read_incident(heard.value))
            except BadEvent as error:
                log.warning("%s/%d@%d is no alarm: %s", heard.topic, heard.partition, heard.offset, error)

    async def follow_lag(self, lag: LookAtLag) -> None:
        """Look at the lag now and then, until cancelled."""
        while True:
            try:
                self._lag = await lag()
            except LagUnknown as error:
                self._lag = None
                log.warning("alarms about lag are not judged for now: %s", error)
            await asyncio.sleep(LAG_SECONDS)

    async def look(self, claim: Claim, send: Send) -> None:
        """Tell what there is to tell. Raises LostOwnership, LogUnavailable."""
        reports = self._reports.alive(self._clock())
        levels: dict[Kind, list[Level]] = {Kind.BREAKER: breakers(reports), Kind.SPENDING: budgets(reports)}
        if self._lag is not None:
            levels[Kind.LAG] = waiting(self._lag, reports)
        for incident in self.judge.due(self._clock(), levels):
            await send(record_of(incident), claim)
            self.judge.heard(incident)
            say = log.warning if incident.is_open else log.info
            say("alarm %s %s: %s", incident.id, "rings" if incident.is_open else "is over", incident.message)
        if self.judge.kept_out and not self._was_full:
            log.error("%d alarms do not ring: as many are open as may be", len(self.judge.kept_out))
        self._was_full = bool(self.judge.kept_out)

    def _hear_pools(self, heard: Heard, now: float) -> None:
        with suppress(BadJson):
            told = strict_json.loads(heard.value or b"", MAX_RECORD_BYTES)
            place = f"{heard.topic}/{heard.partition}/{heard.offset}"
            for sighting in of_refusals(told, place, heard.at):
                self.judge.saw(sighting, now)
            # Read from before, it was told then; read as it comes, by a clock that may differ, it is told now.
            at = now if self.caught_up.is_set() else min(heard.at, now)
            self._reports.hear((heard.key or b"").decode("utf-8", "replace")[:200], told, at)
