"""From what is seen to incidents: each rings once, ends once, and none overlaps another of its rule and subject."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callstream.agents.alarms.incident import Incident
from callstream.agents.alarms.judge import Judge, Level, Levels, Sighting
from callstream.agents.alarms.options import Kind, Rule

LETTERS = Rule(name="dead", kind=Kind.DEAD_LETTERS, threshold=2, window_seconds=60, quiet_seconds=30)
LAG = Rule(name="lag", kind=Kind.LAG, threshold=100, for_seconds=10, quiet_seconds=20)


class Bench:
    """A judge, the log that it writes, and the time."""

    def __init__(self, *rules: Rule, most_open: int = 100, now: float = 1_000.0) -> None:
        self.rules, self.most_open, self.now = rules, most_open, now
        self.log: list[Incident] = []
        self.take_over()

    def take_over(self) -> None:
        """Somebody else judges from now on, who knows the log."""
        self.judge = Judge(self.rules, self.most_open, self.now)
        for incident in self.log:
            self.judge.heard(incident)

    def letter(
        self, name: str, subject: str = "shop/copy", at: float | None = None, labels: dict[str, str] | None = None
    ) -> None:
        sighting = Sighting(Kind.DEAD_LETTERS, subject, name, self.now if at is None else at, labels or {})
        self.judge.saw(sighting, self.now)

    def look(self, after: float = 0.0, levels: Levels | None = None) -> list[str]:
        """What is told so much later, and on the log then."""
        self.now += after
        told = self.judge.due(self.now, {} if levels is None else levels)
        for incident in told:
            self.log.append(incident)
            self.judge.heard(incident)
        return [f"{one.id} {one.state}" for one in told]


def lag(value: float, service: str = "infer") -> Levels:
    return {Kind.LAG: [Level(service, value, {"service": service})]}


def test_it_rings_once_from_the_threshold_up_and_ends_once() -> None:
    bench = Bench(LETTERS)
    bench.letter("a")
    assert bench.look() == []
    bench.letter("b")
    assert bench.look() == ["dead/shop/copy/1 open"]
    assert bench.look(10) == []
    # the letters have left the window, and it has been quiet for as long as the rule says
    assert bench.look(51) == []
    assert bench.look(29) == []
    assert bench.look(1) == ["dead/shop/copy/1 ended"]
    assert bench.look(1_000) == []
    rang, ended = bench.log
    assert (rang.rang, ended.started, ended.rang) == (1_000.0, rang.started, rang.rang)
    assert ended.told()["lasted_seconds"] == 61.0


def test_the_next_incident_has_the_next_number() -> None:
    bench = Bench(LETTERS)
    for turn in range(3):
        bench.letter(f"a{turn}")
        bench.letter(f"b{turn}")
        assert bench.look() == [f"dead/shop/copy/{turn + 1} open"]
        bench.look(61)
        assert bench.look(30) == [f"dead/shop/copy/{turn + 1} ended"]


def test_the_same_letter_counts_once() -> None:
    bench = Bench(LETTERS)
    for _ in range(5):
        bench.letter("a")
    assert bench.look() == []
    bench.letter("b")
    assert bench.look() == ["dead/shop/copy/1 open"]


def test_steps_are_counted_apart() -> None:
    bench = Bench(LETTERS)
    bench.letter("a", "shop/copy")
    bench.letter("b", "shop/prompt")
    assert bench.look() == []
    bench.letter("c", "shop/copy")
    assert bench.look() == ["dead/shop/copy/1 open"]


@pytest.mark.parametrize("filters", [{"chain": "shop"}, {"step": "copy"}, {"service": "infer"}, {"tenant": "acme"}])
def test_a_filter_leaves_others_out(filters: dict[str, Any]) -> None:
    bench = Bench(LETTERS.model_copy(update=filters))
    fits = {"chain": "shop", "step": "copy", "service": "infer", "tenant": "acme"}
    for number in range(4):
        bench.letter(f"other-{number}", labels={**fits, next(iter(filters)): "another"})
    assert bench.look() == []
    bench.letter("a", labels=fits)
    bench.letter("b", labels=fits)
    assert bench.look() == ["dead/shop/copy/1 open"]


def test_what_it_says_is_a_minute_over_the_window() -> None:
    bench = Bench(LETTERS.model_copy(update={"window_seconds": 600.0, "threshold": 0.5}))
    for number in range(5):
        bench.letter(str(number), at=bench.now - 100 * number)
    bench.look()
    assert bench.log[0].value == 0.5
    assert "0.5 dead letters a minute, 0.5 or more" in bench.log[0].message


def test_it_has_to_hold_for_as_long_as_the_rule_says() -> None:
    bench = Bench(LAG)
    assert bench.look(0, lag(100)) == []
    assert bench.look(9, lag(500)) == []
    # once below, it begins anew
    assert bench.look(1, lag(99)) == []
    assert bench.look(1, lag(100)) == []
    assert bench.look(9, lag(100)) == []
    assert bench.look(1, lag(100)) == ["lag/infer/1 open"]
    assert bench.log[0].rang - bench.log[0].started == 10


def test_it_ends_only_once_it_was_below_for_as_long_as_the_rule_says() -> None:
    bench = Bench(LAG)
    bench.look(0, lag(100))
    bench.look(10, lag(100))
    assert bench.look(1, lag(0)) == []
    assert bench.look(19, lag(100)) == []
    assert bench.look(1, lag(0)) == []
    assert bench.look(19, lag(0)) == []
    assert bench.look(1, lag(0)) == ["lag/infer/1 ended"]


def test_what_is_not_known_changes_nothing_and_what_is_gone_is_nought() -> None:
    bench = Bench(LAG)
    bench.look(0, lag(100))
    bench.look(10, lag(100))
    assert bench.look(1_000, {}) == []
    gone: Levels = {Kind.LAG: []}
    assert bench.look(1, gone) == []
    assert bench.look(20, gone) == ["lag/infer/1 ended"]


def test_what_is_open_is_not_told_anew_by_the_next_one_who_judges() -> None:
    bench = Bench(LETTERS)
    bench.letter("a")
    bench.letter("b")
    assert bench.look() == ["dead/shop/copy/1 open"]
    bench.take_over()
    # the window is read back
    bench.letter("a", at=bench.now)
    bench.letter("b", at=bench.now)
    assert bench.look(1) == []
    assert bench.look(61) == []
    assert bench.look(30) == ["dead/shop/copy/1 ended"]


def test_what_is_due_and_not_on_the_log_is_due_again_under_the_same_id() -> None:
    bench = Bench(LETTERS)
    bench.letter("a")
    bench.letter("b")
    (first,) = bench.judge.due(bench.now, {})
    (again,) = bench.judge.due(bench.now + 1, {})
    assert first.id == again.id
    # told by one who did not know that it had lost its turn: it is the same incident
    bench.judge.heard(first)
    bench.judge.heard(again)
    assert bench.judge.due(bench.now, {}) == []
    assert len(bench.judge.open) == 1


def test_refusals_are_not_read_back_so_few_are_few_only_after_a_window() -> None:
    rule = Rule(name="budget", kind=Kind.BUDGET, threshold=60, window_seconds=100, quiet_seconds=0)
    bench = Bench(rule)
    bench.judge.saw(Sighting(Kind.BUDGET, "retries/infer", "a", bench.now, {"service": "infer"}, 100), bench.now)
    assert bench.look() == ["budget/retries/infer/1 open"]
    bench.take_over()
    assert bench.look(99) == []
    assert bench.look(1) == ["budget/retries/infer/1 ended"]


def test_an_incident_of_a_rule_that_is_gone_ends() -> None:
    bench = Bench(LETTERS)
    bench.letter("a")
    bench.letter("b")
    bench.look()
    bench.rules = ()
    bench.take_over()
    assert bench.look(1) == ["dead/shop/copy/1 ended"]
    assert bench.log[-1].message == "there is no such rule any more"


def test_no_more_are_open_than_may_and_the_others_ring_when_there_is_room() -> None:
    bench = Bench(LAG.model_copy(update={"for_seconds": 0.0, "quiet_seconds": 0.0}), most_open=2)
    full = {Kind.LAG: [Level(name, 200, {"service": name}) for name in ("a", "b", "c", "d")]}
    assert bench.look(0, full) == ["lag/a/1 open", "lag/b/1 open"]
    assert bench.judge.kept_out == {("lag", "c"), ("lag", "d")}
    assert bench.look(1, {Kind.LAG: [*full[Kind.LAG][1:]]}) == ["lag/a/1 ended"]
    assert bench.look(1, {Kind.LAG: [*full[Kind.LAG][1:]]}) == ["lag/c/1 open"]


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, float, int]]:
    """What happens, one after another: seconds pass, letters come, new ones or known ones, another one takes over."""
    step = st.tuples(st.sampled_from(["letter", "letter", "look", "look", "over"]), st.floats(0, 40), st.integers(0, 6))
    return draw(st.lists(step, max_size=60))


@given(stories(), st.floats(0, 20), st.floats(0, 60))
@settings(max_examples=300, deadline=None)
def test_whatever_happens_each_rings_once_ends_once_and_none_overlaps(
    story: list[tuple[str, float, int]], holds: float, quiet: float
) -> None:
    bench = Bench(LETTERS.model_copy(update={"for_seconds": holds, "quiet_seconds": quiet}))
    seen: list[tuple[str, str, float]] = []
    for what, seconds, number in story:
        bench.now += seconds
        if what == "letter":
            seen.append((f"n{number}", "shop/copy" if number % 2 else "shop/prompt", bench.now))
            bench.letter(*seen[-1][:2])
        elif what == "over":
            bench.take_over()
            for name, subject, at in seen:
                if at > bench.now - 60:
                    bench.letter(name, subject, at)
        else:
            bench.look()
    # when nothing more comes it falls silent
    for _ in range(4):
        bench.look(61)
    bench.look(quiet + 61)
    by_place: dict[tuple[str, str], list[Incident]] = {}
    for incident in bench.log:
        by_place.setdefault(incident.place, []).append(incident)
    for told in by_place.values():
        states = [(one.number, one.state) for one in told]
        numbers = range(1, len(told) // 2 + 1)
        assert states == [(number, state) for number in numbers for state in ("open", "ended")]
        for before, after in pairwise(told):
            assert before.time <= after.time
            if not before.is_open:
                assert before.ended is not None
                assert before.ended <= after.started or after.is_open is False
    assert bench.judge.open == []
