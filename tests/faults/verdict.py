"""The judge of a kill at one point: what must have come out follows from what the load itself put in. Pure.

What is promised: every task reaches the one end that is its own, by the steps that are its own, each recorded once; a
row of the catalogue is of the task that wrote it last, or as it was before where that is undone; a caller is told at
least once, always under one id; a model is asked again only after a kill, and only for a call whose answer was not on
the log. Clocks of a busy machine cannot say whether a call was under way at the kill, so nothing is taken from them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MOST_NAMED = 4
SIGKILLED = -9


@dataclass(frozen=True, slots=True)
class Want:
    """What has to become of a task. `steps` are its trail in order, an undo as `undo NAME`; empty: not looked at.

    `also` is another trail that is as right. `calls`: a model is asked for it. `told`: its caller wants to know.
    `letters`: dead letters that it leaves, and `redriven`, whether they have been. `subtasks` are how many it starts.
    """

    task: str
    steps: tuple[str, ...] = ()
    state: str = "finished"
    also: tuple[str, ...] = ()
    run: int = 0
    calls: bool = False
    told: bool = False
    letters: int = 0
    redriven: bool = False
    subtasks: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found of a task: by the status API, on the topics of ends and letters (distinct ids), by its caller.

    `letter` is the state of its letter and how often somebody decided about it.
    """

    state: str
    steps: tuple[str, ...] = ()
    run: int = 0
    ends: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()
    callbacks: tuple[str, ...] = ()
    letter: tuple[str, int] = ("", 0)
    subtasks: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the model server saw: its id, its task, and from when to when (epoch seconds)."""

    id: str
    task: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the judge is told about one run. `kills` are when the worker died, as it wrote down itself.

    `answered` says when the answer of each call came onto the log first (epoch seconds), of calls that were made again.
    `catalogue` has for each product of the run the tasks whose rows stand there; `rows` which one has to, "" for none.
    `exits` are the exit codes of the worker's lives; `killings` how many of them the run ended by SIGKILL.
    """

    wants: Sequence[Want]
    rows: Mapping[str, str]
    reached: bool
    kills: Sequence[float]
    seen: Mapping[str, Seen]
    catalogue: Mapping[str, Sequence[str]]
    calls: Sequence[Call]
    answered: Mapping[str, float]
    lag: Mapping[str, int]
    exits: Sequence[int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many tasks were lost, how many calls made again and callers told again, and each thing that is wrong."""

    lost: int
    repeated: int
    told_again: int
    faults: tuple[str, ...] = field(default=())


def made_again(calls: Iterable[Call]) -> list[str]:
    """The ids of those that were made more than once."""
    return sorted(one for one, times in Counter(call.id for call in calls).items() if times > 1)


def judge(evidence: Evidence) -> Verdict:
    """Compare what is there with what must be."""
    lost = [want for want in evidence.wants if _seen(evidence, want).state != want.state]
    again = made_again(evidence.calls)
    told_again = sum(max(0, len(one.callbacks) - 1) for one in evidence.seen.values())
    return Verdict(len(lost), len(again), told_again, tuple(_faults(evidence, lost, again)))


def _faults(evidence: Evidence, lost: Sequence[Want], again: Sequence[str]) -> Iterable[str]:
    if not evidence.reached:
        yield "the worker never came to that point, so nothing is proved"
    if not evidence.wants or len(lost) == len(evidence.wants):
        yield "nothing ended as it should, so nothing is proved"
    if lost:
        yield f"{len(lost)} lost: " + _some(f"{one.task} is {_seen(evidence, one).state}" for one in lost)
    gone = {want.task for want in lost}
    kept = [want for want in evidence.wants if want.task not in gone]
    if wrong := [told for want in kept for told in _differences(want, _seen(evidence, want))]:
        yield _some(wrong)
    if wrong := list(_rows(evidence)):
        yield _some(wrong)
    yield from _calls(evidence, again)
    if evidence.lag:
        yield f"lag is left: {dict(evidence.lag)}"
    if others := [code for code in evidence.exits if code != SIGKILLED]:
        yield f"the worker ended by itself, too: {others}"


def _seen(evidence: Evidence, want: Want) -> Seen:
    return evidence.seen.get(want.task, Seen("unknown"))


def _differences(want: Want, seen: Seen) -> Iterable[str]:
    if want.steps and seen.steps not in (want.steps, want.also or want.steps):
        yield f"{want.task} went by {', '.join(seen.steps)}"
    if seen.run != want.run:
        yield f"{want.task} is in run {seen.run}, not {want.run}"
    if want.state != "unknown" and len(seen.ends) != want.run + 1:
        yield f"{want.task} has {len(seen.ends)} ends: {_some(sorted(seen.ends))}"
    if len(seen.letters) != want.letters:
        yield f"{want.task} has {len(seen.letters)} dead letters, not {want.letters}"
    expected = ("redriven", 1) if want.redriven else ("waiting", 0) if want.letters else ("", 0)
    if seen.letter != expected:
        yield f"the letter of {want.task} is {seen.letter}, not {expected}"
    if want.told and not seen.callbacks:
        yield f"the caller of {want.task} was not told"
    if len(set(seen.callbacks)) > 1 or (seen.callbacks and not want.told):
        yield f"the caller of {want.task} was told of {sorted(set(seen.callbacks))}"
    if seen.subtasks != want.subtasks:
        yield f"{want.task} has {seen.subtasks} sub-tasks, not {want.subtasks}"


def _rows(evidence: Evidence) -> Iterable[str]:
    for product, task in evidence.rows.items():
        if (found := list(evidence.catalogue.get(product, ()))) != ([task] if task else []):
            yield f"the row of {product} is of {', '.join(found) or 'nobody'}, not of {task or 'nobody'}"
    for product in evidence.catalogue.keys() - evidence.rows.keys():
        yield f"there is a row of {product}, which nobody asked for"


def _calls(evidence: Evidence, again: Sequence[str]) -> Iterable[str]:
    asked = {call.task for call in evidence.calls}
    if silent := [want.task for want in evidence.wants if want.calls and want.task not in asked]:
        yield f"no call was made for {_some(silent)}"
    last = {call.id: call.begin for call in sorted(evidence.calls, key=lambda call: call.begin)}
    first_kill = min(evidence.kills, default=float("inf"))
    if early := [one for one in again if last[one] < first_kill]:
        yield f"{len(early)} calls were made again without a kill: {_some(early)}"
    if beyond := [one for one in again if evidence.answered.get(one, last[one]) < last[one]]:
        yield f"{len(beyond)} calls were made again whose answers were on the log: {_some(beyond)}"
    most = max(Counter(call.id for call in evidence.calls).values(), default=0)
    if most > len(evidence.kills) + 1:
        yield f"one call was made {most} times through {len(evidence.kills)} kills"


def _some(sentences: Iterable[str]) -> str:
    told = list(sentences)
    rest = len(told) - MOST_NAMED
    return "; ".join(told[:MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
