"""The step that stops what must not be published: words, claims and lengths, judged within microseconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callstream.agents.guidance import guides
from callstream.agents.moderation.judge import Judge
from callstream.agents.moderation.matcher import Judgement
from callstream.agents.moderation.parts import COPY_PARTS, INPUT, check_parts, texts_of
from callstream.agents.moderation.rules import Decision, ModerationRules
from callstream.agents.moderation.rulesfile import RulesInForce
from callstream.streams.chain import Cell, Step
from callstream.streams.event import Event, Json
from callstream.streams.outcome import Finish, Forward, Hold, Outcome
from callstream.streams.review import NO_TERMS, Terms

MOST_ROUNDS = 8
ROUND = "round"
MOST_GUIDED = 10
"""Findings that a writer is told of."""


class Moderate(Step):
    """Judges texts of the task: passes them on, masks what was found in them, has them written anew, holds the task for
    a person, or rejects it, with every finding.

    `parts` names the texts, each as a step and a member of its output or as `input` and a member of that; what is not
    there, or is no text, is left out. `rules` are a model, or a `.toml` or `.json` file that is read again when it
    changes. `regenerate` is the step that writes a text anew, which is told what was found, up to `rounds` times for
    one task; then, or if there is no such step, a person decides. So does one where a text of the input would have to
    be masked: that stays as it was handed in. `review` says how held tasks are reviewed; a reviewer may send them back
    to the writer too, and texts that they edit are judged again, and refused where they would be rejected.

    The output is `{"verdict", "findings", "found", "rules"}`, where they apply also `policy`, `masked` (the names of
    the texts), `round`, `guides` and `guidance`. Spans of findings count in their part.
    """

    service = "moderate"
    harmless = True
    rechecks = True

    def __init__(
        self,
        name: str = "moderate",
        parts: Sequence[str] = COPY_PARTS,
        rules: ModerationRules | Path | str | None = None,
        regenerate: str | None = None,
        rounds: int = 2,
        review: Terms = NO_TERMS,
    ) -> None:
        self.name = name
        self.regenerates = regenerate
        self._terms = review
        check_parts(name, parts)
        if not 1 <= rounds <= MOST_ROUNDS:
            raise ValueError(f"step {name}: rounds is {rounds}; 1 to {MOST_ROUNDS} are allowed")
        self._parts, self._rounds = tuple(parts), rounds
        self._rules = RulesInForce(Path(rules) if isinstance(rules, str) else rules)

    async def open(self, tools: Any) -> None:
        """Read the rules and build the automaton. Raises BadRules."""
        await self._rules.open()

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Judge the texts."""
        judge = await self.judge()
        judgement = self.judged(event, judge)
        output = judgement.as_json(judge.rules.version)
        before = event.body.outputs.get(self.name, {}).get(ROUND, 0)
        rounds = before if isinstance(before, int) else 0
        if rounds:
            output[ROUND] = rounds
        match judgement.decision:
            case Decision.PASS:
                return Forward(output)
            case Decision.MASK:
                return self._mask(event, judgement, output)
            case Decision.REGENERATE if self.regenerates is not None and rounds < self._rounds:
                return self._again(self.regenerates, rounds + 1, judgement, output)
            case Decision.REJECT:
                return Finish(output, rejected=True, reason=judgement.reason)
        tried = f"after {rounds} {'rounds' if rounds > 1 else 'round'}: " if rounds else ""
        return self._hold(f"{tried}{judgement.reason}", judgement, event, output)

    async def judge(self) -> Judge:
        """The judge by the rules in force. Raises RuntimeError before `open`."""
        return await self._rules.judge()

    def judged(self, event: Event, judge: Judge) -> Judgement:
        """What a judge, of these rules or of others, says of the texts of a task."""
        task = {"tenant": event.tenant, "chain": event.chain, "input": event.input, "outputs": event.body.outputs}
        return judge.judge(dict(texts_of(event, self._parts)), task)

    def _hold(self, reason: str, judgement: Judgement, event: Event, output: Json) -> Hold:
        """Held, with the text of the gravest finding, or else the first."""
        texts = dict(texts_of(event, self._parts))
        part = judgement.findings[0].part if judgement.findings else next(iter(texts), "")
        return Hold(reason, {**output, "verdict": str(Decision.HOLD)}, self._terms, texts.get(part, ""))

    def _mask(self, event: Event, judgement: Judgement, output: Json) -> Outcome:
        if given := [part for part in judgement.masked if part.split(".")[0] == INPUT]:
            reason = f"{given[0]} would have to be masked, and is what was handed in: {judgement.reason}"
            return self._hold(reason, judgement, event, output)
        edits: dict[str, dict[str, str]] = {}
        for part, text in judgement.masked.items():
            step, member = part.split(".")
            edits.setdefault(step, {})[member] = text
        return Forward(output, notes=(f"masked {judgement.reason}",), edits=edits)

    def _again(self, writer: str, number: int, judgement: Judgement, output: Json) -> Forward:
        told = {**guides(writer, guidance(judgement)), ROUND: number}
        note = f"back to {writer}, round {number} of {self._rounds}: {judgement.reason}"
        return Forward({**output, **told}, notes=(note,), back=writer)

    async def recheck(self, event: Event) -> str | None:
        """Why an edited text is rejected, whoever edited it: what holds a text is for people to judge."""
        judgement = self.judged(event, await self.judge())
        return judgement.reason if judgement.decision is Decision.REJECT else None


def guidance(judgement: Judgement) -> str:
    """What a writer is told about a text that cannot be used."""
    found = [f"- {finding.text!r}: {finding.why or finding.category}" for finding in judgement.findings[:MOST_GUIDED]]
    ask = "Write it again without any of these, and answer with the new text alone."
    return "\n".join(["The text cannot be used as it is. What was found in it:", *found, ask])
