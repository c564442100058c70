"""Finds what the rules forbid in one text: pure, bounded, linear in the text's length."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

import ahocorasick

from callstream.agents.moderation.normalise import Variants, View, is_spaced, view
from callstream.agents.moderation.rules import Action, ModerationRules, Pattern, Rule, Severity, compile_pattern
from callstream.streams.event import Json

MOST_FINDINGS = 50
MOST_QUOTED = 80
"""Characters of the matched text that a finding repeats."""

Span = tuple[int, int]
Hit = tuple[Rule, Span]


class Decision(StrEnum):
    """What moderation decides about a text."""

    PASS = "pass"
    HOLD = "hold"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: by which rule, where in the original text (`start` to `end`, code points), and what."""

    rule: str
    category: str
    action: Action
    severity: Severity
    start: int
    end: int
    text: str
    why: str = ""

    def as_json(self) -> Json:
        """For the task's output."""
        return {
            "rule": self.rule,
            "category": self.category,
            "action": str(self.action),
            "severity": str(self.severity),
            "start": self.start,
            "end": self.end,
            "text": self.text,
            **({"why": self.why} if self.why else {}),
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision, the findings it rests on (the gravest first, at most 50), and how many there were."""

    decision: Decision
    findings: tuple[Finding, ...] = ()
    found: int = 0

    @property
    def reason(self) -> str:
        """In one line, for the caller."""
        named = [f"{finding.category}: {finding.text!r} ({finding.rule})" for finding in self.findings[:3]]
        more = f" and {self.found - 3} more" if self.found > 3 else ""
        return "; ".join(named) + more

    def as_json(self, version: int) -> Json:
        """The step's output; `version` is that of the rules."""
        return {
            "verdict": str(self.decision),
            "findings": [finding.as_json() for finding in self.findings],
            "found": self.found,
            "rules": version,
        }


class Matcher:
    """The rules made ready: one automaton for all words, one RE2 pattern for each claim."""

    def __init__(self, rules: ModerationRules, variants: Variants) -> None:
        self.rules = rules
        self._variants = variants
        lists: dict[str, list[Rule | None]] = defaultdict(list)
        for listed in rules.words:
            for word in listed.words:
                lists[self._plain(word)].append(listed)
        for phrase in rules.allow:
            lists[self._plain(phrase)].append(None)
        self._words = ahocorasick.Automaton()
        for word, found_in in lists.items():
            if word:
                self._words.add_word(word, (len(word), tuple(found_in)))
        self._words.make_automaton()
        self._claims: list[tuple[Rule, Pattern]] = [(claim, compile_pattern(claim.pattern)) for claim in rules.claims]

    def judge(self, text: str) -> Judgement:
        """What the rules say about a text. A text that is too long is not read any further."""
        if misfit := self._length(text):
            return Judgement(Decision(misfit.action), (misfit,), 1)
        seen = view(text, self._variants)
        hits, allowed = self._word_hits(seen)
        hits.extend(self._claim_hits(seen))
        kept = _widest(_outside(hits, allowed))
        findings = [_finding(rule, seen, first, past) for rule, (first, past) in kept]
        findings.sort(key=lambda finding: (finding.action is not Action.REJECT, finding.start, -finding.end))
        decision = Decision(findings[0].action) if findings else Decision.PASS
        return Judgement(decision, tuple(findings[:MOST_FINDINGS]), len(findings))

    def _plain(self, word: str) -> str:
        return view(word, self._variants).text.strip()

    def _length(self, text: str) -> Finding | None:
        rule, length = self.rules.length, len(text.strip())
        if rule.fewest_characters <= length <= rule.most_characters:
            return None
        why = f"{length:,} characters; from {rule.fewest_characters:,} to {rule.most_characters:,} are taken"
        return Finding("length", "length", rule.action, Severity.MEDIUM, 0, len(text), text[:MOST_QUOTED], why)

    def _word_hits(self, seen: View) -> tuple[list[Hit], list[Span]]:
        hits: list[Hit] = []
        allowed: list[Span] = []
        # An automaton without a word cannot be searched.
        found = self._words.iter(seen.text) if len(self._words) else ()
        for last, (length, found_in) in found:
            first, past = last - length + 1, last + 1
            if not _whole(seen.text, first, past) or seen.crosses_sentence(first, past):
                continue
            for rule in found_in:
                if rule is None:
                    allowed.append((first, past))
                else:
                    hits.append((rule, (first, past)))
        return hits, allowed

    def _claim_hits(self, seen: View) -> Iterator[Hit]:
        raw = seen.text.encode()
        for rule, pattern in self._claims:
            bytes_read = first = past = 0
            for match in pattern.finditer(raw):
                first = past + len(raw[bytes_read : match.start()].decode())
                past = first + len(match.group().decode())
                bytes_read = match.end()
                if past > first and not seen.crosses_sentence(first, past):
                    yield rule, (first, past)


def _whole(text: str, first: int, past: int) -> bool:
    """Whether a word of a spaced script stands alone, so that "class" holds no "ass"."""
    if first > 0 and is_spaced(text[first]) and is_spaced(text[first - 1]):
        return False
    return not (past < len(text) and is_spaced(text[past - 1]) and is_spaced(text[past]))


def _outside(hits: Iterable[Hit], allowed: list[Span]) -> Iterator[Hit]:
    """Without those that lie within an allowed span."""
    allowed = sorted(allowed)
    starts = [first for first, _ in allowed]
    reaches = list(accumulate((past for _, past in allowed), max))
    for rule, (first, past) in hits:
        before = bisect_right(starts, first)
        if before == 0 or reaches[before - 1] < past:
            yield rule, (first, past)


def _widest(hits: Iterable[Hit]) -> list[Hit]:
    """Without those that lie within an earlier or wider finding of the same category and action."""
    kept: list[Hit] = []
    reach: dict[tuple[str, Action], int] = {}
    for rule, (first, past) in sorted(hits, key=lambda hit: (hit[1][0], -hit[1][1])):
        group = (rule.category, rule.action)
        if past > reach.get(group, -1):
            kept.append((rule, (first, past)))
            reach[group] = past
    return kept


def _finding(rule: Rule, seen: View, first: int, past: int) -> Finding:
    start, end = seen.span(first, past)
    return Finding(
        rule=rule.id,
        category=rule.category,
        action=rule.action,
        severity=rule.severity,
        start=start,
        end=end,
        text=seen.original[start : min(end, start + MOST_QUOTED)],
        why=rule.why,
    )
