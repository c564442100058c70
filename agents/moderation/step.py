"""The step that stops what must not be published: words, claims and lengths, judged within microseconds."""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from callstream.agents.moderation.matcher import Decision, Matcher
from callstream.agents.moderation.normalise import simplified
from callstream.agents.moderation.rules import ModerationRules, default_rules, load_rules
from callstream.streams.chain import Cell, Step
from callstream.streams.event import Event, Failure
from callstream.streams.outcome import Bury, Finish, Forward, Hold, Outcome

COPY_STEP = "copy"


def copy_text(event: Event) -> str:
    """The text of the step `copy`, then the input's title and description, a line each; what is no text is left out."""
    parts = (
        event.body.outputs.get(COPY_STEP, {}).get("text"),
        event.input.get("title"),
        event.input.get("description"),
    )
    return "\n".join(part for part in parts if isinstance(part, str) and part)


class Moderate(Step):
    """Judges a text of the task: passes it on, holds the task for a person, or rejects it, with every finding.

    `text` says which text; `rules` are a model, or a `.toml` or `.json` file, read when the worker starts.
    The output is `{"verdict", "findings", "found", "rules"}`; spans of findings count in what `text` gave.
    """

    service = "moderate"
    harmless = True

    def __init__(
        self,
        name: str = "moderate",
        text: Callable[[Event], str] = copy_text,
        rules: ModerationRules | Path | str | None = None,
    ) -> None:
        self.name = name
        self._text = text
        self._rules = Path(rules) if isinstance(rules, str) else rules
        self._matcher: Matcher | None = None

    async def open(self, tools: Any) -> None:
        """Read the rules and build the automaton. Raises BadRules."""
        self._matcher = await asyncio.to_thread(_matcher, self._rules)

    async def act(self, event: Event, state: Cell) -> Outcome:
        """Judge the text."""
        if self._matcher is None:
            raise RuntimeError(f"step {self.name!r} was not opened")
        text = self._text(event)
        if not isinstance(text, str):
            wrong = f"the text to moderate is {type(text).__name__}, not a string"
            return Bury(Failure(kind="moderate-text", message=wrong, step=self.name))
        judgement = self._matcher.judge(text)
        output = judgement.as_json(self._matcher.rules.version)
        if judgement.decision is Decision.REJECT:
            return Finish(output, rejected=True, reason=judgement.reason)
        if judgement.decision is Decision.HOLD:
            return Hold(judgement.reason, output)
        return Forward(output)


def _matcher(rules: ModerationRules | Path | None) -> Matcher:
    if rules is None:
        return _default_matcher()
    return Matcher(load_rules(rules) if isinstance(rules, Path) else rules, simplified())


@lru_cache(maxsize=1)
def _default_matcher() -> Matcher:
    return Matcher(default_rules(), simplified())
