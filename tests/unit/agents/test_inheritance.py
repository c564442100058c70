from dataclasses import replace

from callstream.agents.fakes import FakePorts, deliver
from callstream.agents.inference import receipts_state as receipts
from callstream.agents.inference.call import Reply
from callstream.agents.inference.receipts_state import Receipt, State
from callstream.agents.inheritance import cell_of
from callstream.streams.event import Event, Json, Usage
from callstream.streams.fakes import MemoryCell
from callstream.streams.replay.lineage import Manner, begin, child_of, named
from tests.support.events import an_event

PARTITIONS = 8
PARENT = an_event(sequence=2)
CHILD = child_of("acme", "mug-1", named(Manner("copy")), PARTITIONS)
REUSING = begin(PARENT, Manner("copy", reuse_answers=True), CHILD, 20.0)
PAID = Reply("A mug.", "stop", Usage(model="writer", endpoint="local", calls=2, repeated=1, tokens_in=9), ("twice",))
OPEN = Receipt(state=State.STARTED, started=10.0, flight="a.1")


def call(event: Event, number: int = 1) -> str:
    return f"{event.key.decode()}/2/call-{number}"


def paid(event: Event = PARENT) -> Json:
    """The row of a task with an answered call, an open one, and something else."""
    row = receipts.start({"mine": 1}, call(event), OPEN)
    return receipts.start(receipts.answer(row, call(event), PAID), call(event, 2), OPEN)


def cell(event: Event, rows: dict[bytes, Json]) -> Json | None:
    """What a step remembers of an event's task."""
    ports = FakePorts(PARTITIONS)
    ports.cells = {key: MemoryCell(row) for key, row in rows.items()}
    [delivery] = deliver([event], "infer")
    delivery.partition = ports.partition_of(event.key)
    return cell_of(ports, event, delivery).value


def test_an_answer_that_was_paid_for_is_the_childs_at_no_cost() -> None:
    row = cell(REUSING, {PARENT.key: paid()})
    receipt = receipts.receipt_of(row, call(REUSING))
    assert receipt is not None
    reply = receipts.reply_in(receipt)
    assert reply is not None
    assert (reply.text, reply.usage) == ("A mug.", Usage(model="writer", endpoint="local"))
    assert reply.notes == ("the answer that task mug-1 paid for", "twice")


def test_nothing_but_answers_is_taken_over() -> None:
    row = cell(REUSING, {PARENT.key: paid()}) or {}
    assert set(row) == {receipts.CALLS}
    assert receipts.receipt_of(row, call(REUSING, 2)) is None
    assert cell(REUSING, {PARENT.key: receipts.start(None, call(PARENT), OPEN)}) is None
    assert cell(REUSING, {}) is None
    # An answer whose id does not say whose it is may be to anything.
    assert cell(REUSING, {PARENT.key: receipts.answer(None, "a-call", PAID)}) is None


def test_what_a_task_has_itself_comes_first() -> None:
    own: Json = {"own": True}
    assert cell(REUSING, {PARENT.key: paid(), REUSING.key: own}) == own


def test_only_who_says_so_reuses_and_only_from_its_own_partition_and_tenant() -> None:
    assert cell(replace(REUSING, reuses=None), {PARENT.key: paid()}) is None
    elsewhere = next(
        replace(REUSING, reuses=f"mug-{number}")
        for number in range(2, 99)
        if FakePorts(PARTITIONS).partition_of(an_event(task=f"mug-{number}").key)
        != FakePorts(PARTITIONS).partition_of(REUSING.key)
    )
    donor = an_event(task=elsewhere.reuses, sequence=2)
    assert cell(elsewhere, {donor.key: paid(donor)}) is None
    assert cell(replace(REUSING, tenant="other"), {PARENT.key: paid()}) is None


async def test_what_is_saved_is_the_childs() -> None:
    ports = FakePorts()
    ports.cells = {PARENT.key: MemoryCell(paid())}
    [delivery] = deliver([REUSING], "infer")
    inherited = cell_of(ports, REUSING, delivery)
    await inherited.save({"own": True})
    assert (inherited.value, ports.cells[REUSING.key].value) == ({"own": True}, {"own": True})
    assert ports.cells[PARENT.key].saves == []
