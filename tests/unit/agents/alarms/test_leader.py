"""Who judges: reads the log first, sends under its claim, and begins anew when it is not known what the log has."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from callstream.agents.alarms import leader as module
from callstream.agents.alarms.incident import read_incident, record_of
from callstream.agents.alarms.leader import Leader, Turn
from callstream.agents.alarms.options import AlarmOptions, Kind, Rule
from callstream.agents.settle import Work, settle
from callstream.streams import strict_json
from callstream.streams.broadcast import Heard
from callstream.streams.event import Failure
from callstream.streams.lag import Lag, LagUnknown
from callstream.streams.outcome import Bury
from callstream.streams.ownership import Claim, LostOwnership
from callstream.streams.topics import POOLS, topic_of
from callstream.streams.wire import LogUnavailable, Record
from callstream.tables.fakes import MemoryRows
from tests.support.events import CHAINS, an_event

OPTIONS = AlarmOptions(
    standard_rules=False,
    rules=(Rule(name="dead", kind=Kind.DEAD_LETTERS, threshold=1, quiet_seconds=0),),
)
NOW = 10_000.0


class Log:
    """The topics in memory, each record with when it was written."""

    def __init__(self) -> None:
        self.records: list[Heard] = []
        self.turns: list[dict[str, float]] = []
        self.sent: list[Record] = []
        self.lost = self.refused = False

    def put(self, record: Record, at: float = NOW) -> None:
        headers: list[tuple[str, bytes | None]] = [*record.headers]
        self.records.append(Heard(record.topic, 0, len(self.records), at, record.key, record.value, headers))

    async def hear(self, since: Mapping[str, float], hear: Callable[[Heard], None], caught_up: asyncio.Event) -> None:
        self.turns.append(dict(since))
        reached = 0
        while True:
            for one in self.records[reached:]:
                if one.topic in since and one.at >= since[one.topic]:
                    hear(one)
            reached = len(self.records)
            caught_up.set()
            await asyncio.sleep(0.001)

    async def send(self, record: Record, claim: Claim) -> None:
        if self.lost:
            raise LostOwnership("partition 0 was revoked")
        self.put(record)
        self.sent.append(record)
        if self.refused:
            # It is there, and the one who sent it does not know.
            self.refused = False
            raise LogUnavailable("no answer")

    async def lag(self) -> list[Lag]:
        raise LagUnknown("nobody answers")


def letter(task: str) -> Record:
    return settle(an_event(task=task, sequence=2), Bury(Failure(kind="bug", message="")), WORK, CHAINS)[0]


WORK = Work("infer", "copy", 1.0, 2.0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARM_SECONDS", "IDLE_SECONDS", "LOOK_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(module, name, 0.001)


async def eventually(look: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(5):
        while True:
            if look():
                return
            await asyncio.sleep(0.001)


async def run(log: Log, rows: MemoryRows, until: Callable[[], bool], options: AlarmOptions = OPTIONS) -> None:
    """Judge until that is so."""
    judging = asyncio.create_task(Leader(options, CHAINS, rows, lambda: NOW).run(log.hear, log.send, log.lag))
    await eventually(until)
    # nothing more comes of it
    await asyncio.sleep(0.02)
    judging.cancel()
    await asyncio.wait([judging])


def ids(log: Log) -> list[str]:
    return [read_incident(one.value).id for one in log.sent]


async def test_it_reads_the_log_and_the_window_and_rings_once() -> None:
    log, rows = Log(), MemoryRows()
    log.put(letter("mug-1"), NOW - 30)
    log.put(letter("mug-1"), NOW - 29)
    await run(log, rows, lambda: bool(log.sent))
    assert ids(log) == ["dead/shop/copy/1"]
    assert log.turns == [{"callstream.alarms": 0.0, "callstream.dead": NOW - 60}]
    # whoever judges next knows of it
    await run(log, rows, lambda: len(log.turns) == 2)
    assert len(log.sent) == 1


async def test_after_a_send_of_which_nothing_is_known_the_log_is_read_again() -> None:
    log = Log()
    log.put(letter("mug-1"))
    log.refused = True
    await run(log, MemoryRows(), lambda: len(log.turns) == 2)
    assert ids(log) == ["dead/shop/copy/1"]


async def test_whoever_lost_the_partition_sends_nothing_and_begins_anew() -> None:
    log, rows = Log(), MemoryRows()
    log.lost = True
    log.put(letter("mug-1"))
    await run(log, rows, lambda: len(log.turns) >= 3)
    assert log.sent == []
    log.lost = False
    turns = len(log.turns)
    judging = asyncio.create_task(Leader(OPTIONS, CHAINS, rows, lambda: NOW).run(log.hear, log.send, log.lag))
    await eventually(lambda: bool(log.sent))
    rows.revoke()
    await eventually(lambda: len(log.turns) >= turns + 2)
    judging.cancel()
    await asyncio.wait([judging])
    assert ids(log) == ["dead/shop/copy/1"]


async def test_it_judges_nothing_without_partition_0() -> None:
    log, rows = Log(), MemoryRows(partitions=0)
    log.put(letter("mug-1"))
    await run(log, rows, lambda: True)
    assert (log.turns, log.sent) == ([], [])


async def test_no_record_ends_the_judging(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    for topic in ("callstream.alarms", "callstream.dead", "callstream.pools"):
        for value in (b"", b"no json", b"[1]", b'{"pools": [1, {"endpoints": [2]}]}', b'{"refused": 7}'):
            log.put(Record(topic, b"\xff", value, []))
    log.put(letter("mug-1"))
    options = OPTIONS.model_copy(update={"standard_rules": True})
    await run(log, MemoryRows(), lambda: bool(log.sent), options)
    assert ids(log) == ["dead/shop/copy/1"]
    assert "is no alarm" in caplog.text


async def test_a_breaker_that_is_open_rings_and_one_that_is_closed_ends_it() -> None:
    now = NOW
    rule = Rule(name="open", kind=Kind.BREAKER, threshold=1, for_seconds=5, quiet_seconds=2)
    turn = Turn(AlarmOptions(standard_rules=False, rules=(rule,)), CHAINS, lambda: now)
    turn.caught_up.set()
    log = Log()
    told: list[str] = []

    async def look(after: float, state: str) -> None:
        nonlocal now
        now += after
        report = {"pools": [{"pool": "writer", "endpoints": [{"endpoint": "mini", "breaker": state}]}]}
        turn.hear(Heard(topic_of(POOLS), 0, len(told), now, b"a:1", strict_json.dumps(report), []))
        await turn.look(Claim(0, 0), log.send)
        told.append(state)

    await look(0, "open")
    await look(4, "half-open")
    assert log.sent == []
    await look(1, "open")
    assert ids(log) == ["open/writer/mini/1"]
    await look(1, "closed")
    await look(2, "closed")
    assert [read_incident(one.value).state for one in log.sent] == ["open", "ended"]
    assert record_of(read_incident(log.sent[1].value)) == log.sent[1]
