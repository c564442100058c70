"""`callstream policy compare`: what other rules would have said of the tasks that a moderation step judged lately."""

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from callstream.agents.moderation import Judge, Judgement, Moderate, load_rules
from callstream.agents.moderation.rulesfile import judge_of
from callstream.cli.bootstrap import bootstrap_of
from callstream.cli.errors import CliError
from callstream.settings import Settings, load
from callstream.streams.blobs import BlobError, BlobStore, check_out
from callstream.streams.chain import Chains, UnknownChain
from callstream.streams.loading import load_chains
from callstream.streams.replay.recorded import Topics
from callstream.streams.replay.selection import Selection
from callstream.streams.wire import BadEvent, decode

MOST_TASKS = 10_000
MOST_SHOWN = 20
LOOK_BACK = 10
"""Records of each partition that are looked at for each task that is wanted: a topic has those of all chains."""

Place = tuple[int, str, int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """A task of which other rules say something else."""

    task: str
    before: Judgement
    after: Judgement


@dataclass
class Comparison:
    """What two judges say of the same tasks: how often which verdicts met, and the first changes."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)
    unread: int = 0

    def add(self, task: str, before: Judgement, after: Judgement) -> None:
        """Count a task."""
        self.verdicts[str(before.decision), str(after.decision)] += 1
        if before.decision is not after.decision and len(self.changes) < MOST_SHOWN:
            self.changes.append(Change(task, before, after))

    def lines(self) -> list[str]:
        """For a terminal."""
        changed = sum(count for (before, after), count in self.verdicts.items() if before != after)
        told = [f"{self.verdicts.total():,} judged, {changed:,} would come out otherwise"]
        told += [f"  {before:10} -> {after:10} {count:7,}" for (before, after), count in sorted(self.verdicts.items())]
        for one in self.changes:
            told.append(f"{one.task}: {one.before.decision} -> {one.after.decision}")
            told += [
                f"    {name}: {why}" for name, why in (("was", one.before.reason), ("now", one.after.reason)) if why
            ]
        told += [f"and {changed - len(self.changes):,} more"] if changed > len(self.changes) else []
        return [*told, f"{self.unread:,} could not be read any more"] if self.unread else told


def compare(
    rules: Annotated[Path, typer.Argument(help="The new rules, a .toml or .json file.")],
    chain: Annotated[str, typer.Option(help="The chain whose tasks are judged.")],
    step: Annotated[str | None, typer.Option(help="Its moderation step, if it has several.")] = None,
    against: Annotated[Path | None, typer.Option(help="The old rules; else those that the step has.")] = None,
    last: Annotated[int, typer.Option(min=1, max=MOST_TASKS, help="How many of the latest.")] = 1000,
    broker: Annotated[str | None, typer.Option(help="HOST:PORT of the broker.")] = None,
) -> None:
    """Show what new rules would change for the latest tasks. Nothing is done to these."""
    settings = load()
    chains = load_chains(settings.chains)
    new = judge_of(load_rules(rules))
    found = moderation_of(chains, chain, step)
    old = judge_of(load_rules(against)) if against is not None else asyncio.run(_opened(found))
    comparison = asyncio.run(
        _compared(
            settings, bootstrap_of(settings, broker), (Selection(chains, found.name, chain), found, last), (old, new)
        )
    )
    if not comparison.verdicts:
        raise CliError(f"no task of chain {chain} came to step {found.name} within what the topics still have")
    for line in comparison.lines():
        typer.echo(line)


def moderation_of(chains: Chains, chain: str, name: str | None) -> Moderate:
    """The moderation step of a chain. Raises CliError, UnknownChain."""
    steps = [step for step in chains.current(chain).steps if isinstance(step, Moderate)]
    named = [step for step in steps if name in (None, step.name)]
    if len(named) == 1:
        return named[0]
    known = ", ".join(step.name for step in steps) or "none"
    if name is not None:
        raise CliError(f"chain {chain}: {name!r} is none of its moderation steps: {known}")
    raise CliError(f"chain {chain}: say with --step which of its moderation steps is meant: {known}")


async def _opened(step: Moderate) -> Judge:
    await step.open(None)
    return await step.judge()


async def _compared(
    settings: Settings, bootstrap: str, what: tuple[Selection, Moderate, int], judges: tuple[Judge, Judge]
) -> Comparison:
    selection, step, last = what
    blobs, comparison = BlobStore(settings.blobs), Comparison()
    async with Topics(bootstrap) as topics:
        # Twice over them: first which are the latest, of which no more than the places are kept, then what they say.
        latest: list[Place] = []
        async for record in _records(topics, selection, last):
            (heapq.heappush if len(latest) < last else heapq.heappushpop)(latest, _place(record))
        wanted = set(latest)
        async for record in _records(topics, selection, last):
            if _place(record) not in wanted:
                continue
            try:
                event = decode(await check_out(record.value, record.headers, blobs), record.headers)
                if not selection.is_input(event):
                    continue
            except (BadEvent, BlobError, UnknownChain):
                comparison.unread += 1
                continue
            comparison.add(event.task, *(step.judged(event, judge) for judge in judges))
    return comparison


async def _records(topics: Topics, selection: Selection, last: int) -> AsyncIterator[Any]:
    for topic in selection.topics():
        for span in await topics.spans(topic):
            start = max(span.start, span.end - LOOK_BACK * last)
            async for records in topics.read(replace(span, start=start)):
                for record in records:
                    if selection.may_be(record.headers):
                        yield record


def _place(record: Any) -> Place:
    return record.timestamp, record.topic, record.partition, record.offset
