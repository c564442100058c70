"""Judges texts of a task by a rules file: what is found in each, what follows by its policies, what is masked. Pure.

A policy is a CEL expression over what was found and over the task; the first that is true decides. Without one that
is, the gravest action of all findings does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from callstream.agents.moderation.matcher import MOST_FINDINGS, Finding, Judgement, Matcher, gravest, in_order
from callstream.agents.moderation.rules import LIMITS, NOTHING_KNOWN, VARIABLES, Decision, ModerationRules, Policy
from callstream.streams.event import Json
from callstream.streams.expressions import BadExpression, Expression

MOST_TOLD = 100
"""Findings that a policy looks at, the gravest first; `found` says how many there are."""


class Judge:
    """A rules file made ready."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._policies = [(one, Expression(one.when, VARIABLES, LIMITS)) for one in self.rules.policies]

    @property
    def rules(self) -> ModerationRules:
        """The rules."""
        return self._matcher.rules

    def judge(self, parts: Mapping[str, str], task: Json | None = None) -> Judgement:
        """What the rules say of some texts, by name; `task` has the values of NOTHING_KNOWN."""
        if misfit := self._matcher.misfit(parts):
            found = [misfit]
        else:
            found = in_order(finding for name, text in parts.items() for finding in self._found(name, text))
        decision, policy = self._decided(found, NOTHING_KNOWN if task is None else task)
        masked = _masked(parts, found) if decision is Decision.MASK else {}
        return Judgement(decision, tuple(found[:MOST_FINDINGS]), len(found), policy, masked)

    def _found(self, name: str, text: str) -> Iterable[Finding]:
        return (replace(finding, part=name) for finding in self._matcher.found(text))

    def _decided(self, found: list[Finding], task: Json) -> tuple[Decision, str]:
        if not self._policies:
            return gravest(found), ""
        values = {**task, "found": len(found), "findings": [_told(finding) for finding in found[:MOST_TOLD]]}
        for policy, test in self._policies:
            try:
                if test.holds(values):
                    return policy.verdict, _reason(policy)
            except BadExpression as error:
                # What cannot be judged is not published unseen.
                return max(Decision.HOLD, gravest(found), key=Decision.gravity), f"policy {policy.id}: {error}"
        return gravest(found), ""


def _told(finding: Finding) -> Json:
    told = finding.as_json()
    return {name: told[name] for name in ("rule", "category", "action", "severity", "part", "text") if name in told}


def _reason(policy: Policy) -> str:
    return f"policy {policy.id}" + (f": {policy.why}" if policy.why else "")


def _masked(parts: Mapping[str, str], found: Iterable[Finding]) -> dict[str, str]:
    """The texts in which something was found, with that made unreadable."""
    spans: dict[str, list[Finding]] = {}
    for finding in found:
        spans.setdefault(finding.part, []).append(finding)
    return {name: _without(parts[name], within) for name, within in spans.items()}


def _without(text: str, found: list[Finding]) -> str:
    pieces, past = [], 0
    for finding in sorted(found, key=lambda one: (one.start, -one.end)):
        if finding.end <= past:
            continue
        # A name in brackets stands for personal data; letters of words are starred, so that the length stays.
        start = max(past, finding.start)
        pieces += [text[past:start], finding.text if finding.hidden else "*" * (finding.end - start)]
        past = finding.end
    return "".join((*pieces, text[past:]))
