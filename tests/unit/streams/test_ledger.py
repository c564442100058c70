from collections.abc import Hashable
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callstream.streams.ledger import Ledger, LedgerSnapshot, Ticket

PARTITIONS = ("orders/0", "orders/1")


@dataclass(eq=False)
class Taken:
    """What the model knows of a ticket: its place, and whether it is open, finished, released or void."""

    ticket: Ticket[int]
    partition: str
    offset: int
    state: str = "open"


class Model(RuleBasedStateMachine):
    """The ledger beside one plain list of everything that was ever taken, in order; tokens are places in that list."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[int] = Ledger()
        self.taken: list[Taken] = []
        self.range: dict[str, tuple[int, int]] = {}

    def held(self, *partitions: str) -> list[Taken]:
        """What was taken from these partitions and is neither released nor void, in order."""
        return [one for one in self.taken if one.partition in partitions and one.state in ("open", "finished")]

    @rule(partition=st.sampled_from(PARTITIONS), step=st.sampled_from([1, 1, 1, 2, 7, 0, -1, -3]))
    def take(self, partition: str, step: int) -> None:
        """The next offset, one behind a gap, or one that was taken before: the reader went back without telling."""
        before = [one.offset for one in self.taken if one.partition == partition]
        offset = max(0, (before[-1] if before else -1) + step)
        first, latest = self.range.get(partition, (offset, offset - 1))
        ticket = self.ledger.take(partition, offset, len(self.taken))
        assert (ticket is None) == (first <= offset <= latest)
        if ticket is not None:
            if offset < first:
                for one in self.held(partition):
                    one.state = "void"
            self.range[partition] = (min(first, offset), offset)
            self.taken.append(Taken(ticket, partition, offset))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any ticket in any order, also one that is void or was finished before."""
        if not self.taken:
            return
        chosen = data.draw(st.sampled_from(self.taken))
        released = [self.taken[token] for token in self.ledger.finish(chosen.ticket)]
        expected: list[Taken] = []
        if chosen.state == "open":
            chosen.state = "finished"
            for one in self.held(chosen.partition):
                if one.state != "finished":
                    break
                expected.append(one)
        assert released == expected
        assert all(one.state == "finished" for one in released), "released twice, or after a revocation"
        for one in released:
            one.state = "released"

    @rule(partitions=st.none() | st.lists(st.sampled_from([*PARTITIONS, "never taken"])))
    def revoke(self, partitions: list[str] | None) -> None:
        gone = PARTITIONS if partitions is None else partitions
        held = self.held(*gone)
        for name in gone:
            self.range.pop(name, None)
        unfinished = self.ledger.revoke(partitions)
        assert sorted(unfinished) == [self.taken.index(one) for one in held if one.state == "open"]
        for one in held:
            one.state = "void"

    @invariant()
    def counts_what_it_answers_for(self) -> None:
        assert len(self.ledger) == len(self.held(*PARTITIONS))
        lowest: dict[Hashable, int] = {name: held[0].offset for name in PARTITIONS if (held := self.held(name))}
        assert self.ledger.snapshot() == LedgerSnapshot(len(self.ledger), lowest)


TestLedgerAgainstItsModel = Model.TestCase
TestLedgerAgainstItsModel.settings = settings(max_examples=60, stateful_step_count=25)


def taken(ledger: Ledger[str], partition: str, offset: int, token: str) -> Ticket[str]:
    """The ticket of an event that was not taken before."""
    ticket = ledger.take(partition, offset, token)
    assert ticket is not None
    return ticket


def test_events_are_released_in_the_order_of_their_offsets() -> None:
    ledger: Ledger[str] = Ledger()
    first, second, third = (taken(ledger, "p", offset, token) for offset, token in ((3, "a"), (4, "b"), (9, "c")))
    assert ledger.finish(third) == []
    assert ledger.finish(second) == []
    assert ledger.snapshot() == LedgerSnapshot(3, {"p": 3})
    assert ledger.finish(first) == ["a", "b", "c"]
    assert (len(ledger), ledger.snapshot()) == (0, LedgerSnapshot(0, {}))


def test_a_revoked_partition_releases_nothing_even_after_its_events_came_again() -> None:
    ledger: Ledger[str] = Ledger()
    late = taken(ledger, "p", 0, "late")
    kept = taken(ledger, "q", 0, "kept")
    assert ledger.revoke(["p"]) == ["late"]
    again = taken(ledger, "p", 0, "again")
    assert ledger.finish(late) == []
    assert ledger.finish(again) == ["again"]
    assert ledger.finish(kept) == ["kept"]


def test_a_reader_that_goes_back_brings_nothing_new() -> None:
    # given one event that is finished and one under way
    ledger: Ledger[str] = Ledger()
    first, second = taken(ledger, "p", 4, "a"), taken(ledger, "p", 5, "b")
    assert ledger.finish(first) == ["a"]
    # when both come again, and one behind them
    assert [ledger.take("p", offset, "again") for offset in (4, 5)] == [None, None]
    third = taken(ledger, "p", 6, "c")
    # then the one under way still counts, and holds up the one behind it
    assert ledger.finish(third) == []
    assert ledger.finish(second) == ["b", "c"]


def test_a_reader_that_began_too_late_starts_anew() -> None:
    ledger: Ledger[str] = Ledger()
    early = taken(ledger, "p", 310, "early")
    first = taken(ledger, "p", 278, "first")
    again = taken(ledger, "p", 310, "again")
    assert ledger.finish(early) == []
    assert ledger.finish(again) == []
    assert ledger.finish(first) == ["first", "again"]


def test_a_negative_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset -1 of p is negative"):
        Ledger[str]().take("p", -1, "x")
